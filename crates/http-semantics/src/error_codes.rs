//! Catalogue of refusals and failures: one row for each stable code, with its status, log level, section of
//! `docs/errors.md` and text. The proxy's failures and the API's errors both name a row, so that one code means the
//! same wherever a client meets it. Knows neither causes nor responses.

use http::StatusCode;

/// Headings of `docs/errors.md`, as links name them.
const REFUSED: &str = "the-request-is-refused";
const OBJECT: &str = "the-object-is-not-to-be-had";
const STORE: &str = "the-store-is-in-trouble";
const DESTINATION: &str = "the-server-behind-a-plain-route-is-in-trouble";
const INTERNAL: &str = "in-the-log-only-and-our-own-mistakes";

/// The level at which a failure is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorLevel {
    /// Part of daily life: nothing that a client does is more than this.
    Info,
    /// A store or an upstream is in trouble.
    Warn,
    /// An operator has to act.
    Error,
}

/// Row of the table.
struct ErrorCodeEntry {
    name: &'static str,
    status: u16,
    level: ErrorLevel,
    anchor: &'static str,
    detail: &'static str,
}

/// Defines the enum and its table from one list: a variant without a row, or a row without a variant, cannot be
/// written.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = ($name:literal, $status:literal, $level:expr, $anchor:expr, $detail:literal $(,)?),)*) => {
        /// A stable code: the `code` of the envelope, and the `reason` of metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            const fn entry(self) -> ErrorCodeEntry {
                match self {
                    $(Self::$variant => ErrorCodeEntry {
                        name: $name,
                        status: $status,
                        level: $level,
                        anchor: $anchor,
                        detail: $detail,
                    },)*
                }
            }
        }
    };
}

error_codes! {
    /// The request is malformed, or not what the path expects.
    BadRequest = ("bad_request", 400, ErrorLevel::Info, REFUSED,
        "the request is malformed"),
    /// The request line and headers are longer than the limit.
    HeadTooLarge = ("head_too_large", 431, ErrorLevel::Info, REFUSED,
        "the request's head is too long, or has too many lines"),
    /// The path is longer than the limit.
    PathTooLong = ("path_too_long", 414, ErrorLevel::Info, REFUSED,
        "the path is longer than 8192 bytes"),
    /// The request body is larger than the route allows.
    BodyTooLarge = ("body_too_large", 413, ErrorLevel::Info, REFUSED,
        "the request body is larger than this route allows"),
    /// The request took longer than any may.
    RequestTimeout = ("request_timeout", 408, ErrorLevel::Info, REFUSED,
        "the request took longer than it may"),
    /// The body is larger than this path of the API accepts.
    TooLarge = ("too_large", 413, ErrorLevel::Info, REFUSED,
        "the body is larger than this path takes"),
    /// The body's media type is not one that this path of the API accepts.
    UnsupportedMediaType = ("unsupported_media_type", 415, ErrorLevel::Info, REFUSED,
        "the body is of another type than this path takes"),
    /// The request is well-formed, and a value of it is out of range.
    OutOfRange = ("out_of_range", 422, ErrorLevel::Info, REFUSED,
        "a value is out of range"),
    /// The request conflicts with the present state.
    Conflict = ("conflict", 409, ErrorLevel::Info, REFUSED,
        "this contradicts what is there"),
    /// No route matches the request.
    NoRoute = ("no_route", 404, ErrorLevel::Info, REFUSED,
        "nothing is served under this path"),
    /// The path is served, but not with this method.
    MethodNotAllowed = ("method_not_allowed", 405, ErrorLevel::Info, REFUSED,
        "this method is not served here; see Allow"),
    /// No token, or one that is not valid.
    Unauthorized = ("unauthorized", 401, ErrorLevel::Info, REFUSED,
        "send a valid token, as Authorization: Bearer <token>"),
    /// A dependency that this path of the API needs does not answer.
    Unavailable = ("unavailable", 503, ErrorLevel::Warn, REFUSED,
        "this is not available at the moment"),
    /// The issuer's keys cannot be fetched, so no token can be verified.
    KeysUnavailable = ("keys_unavailable", 503, ErrorLevel::Warn, REFUSED,
        "tokens cannot be verified at the moment; try again"),
    /// More requests than the policy allows.
    TooManyRequests = ("too_many_requests", 429, ErrorLevel::Info, REFUSED,
        "too many requests; try again after Retry-After"),
    /// More responses at once than the policy allows.
    TooManyStreams = ("too_many_streams", 429, ErrorLevel::Info, REFUSED,
        "too many streams at once; end one, or try again after Retry-After"),
    /// More bytes than the period allows.
    QuotaUsedUp = ("quota_used_up", 429, ErrorLevel::Info, REFUSED,
        "the quota of this period is used up; try again after Retry-After"),
    /// More invalid tokens than an address may send.
    TooManyBadTokens = ("too_many_bad_tokens", 429, ErrorLevel::Info, REFUSED,
        "too many tokens from this address were not valid; try again after Retry-After"),
    /// The authority that decides over access does not answer.
    AccessUnavailable = ("access_unavailable", 503, ErrorLevel::Warn, REFUSED,
        "whether you may have this cannot be told at the moment; try again"),
    /// The token is valid and the policy does not hold.
    Forbidden = ("forbidden", 403, ErrorLevel::Info, REFUSED,
        "your token does not allow this"),
    /// The session of a film's viewer has ended.
    SessionEnded = ("session_ended", 403, ErrorLevel::Info, REFUSED,
        "the session has ended; start the film again"),
    /// There is nothing of that name, or its existence is hidden.
    NotFound = ("not_found", 404, ErrorLevel::Info, OBJECT,
        "there is no such object"),
    /// The store denies the object.
    Denied = ("denied", 403, ErrorLevel::Info, OBJECT,
        "access to the object is denied"),
    /// The object was removed for good.
    Gone = ("gone", 410, ErrorLevel::Info, OBJECT,
        "the object was removed for good"),
    /// The catalogue's database does not answer.
    CatalogUnavailable = ("catalog_unavailable", 503, ErrorLevel::Warn, OBJECT,
        "the catalogue cannot be asked at the moment; try again"),
    /// A condition of the request does not hold.
    PreconditionFailed = ("precondition_failed", 412, ErrorLevel::Info, OBJECT,
        "a condition of the request does not hold for the object as it is now"),
    /// The range begins past the end.
    RangeNotSatisfiable = ("range_not_satisfiable", 416, ErrorLevel::Info, OBJECT,
        "the range begins past the end of the object; see Content-Range"),
    /// The object is in an archive class.
    Archived = ("archived", 503, ErrorLevel::Warn, OBJECT,
        "the object is archived and not available at once"),
    /// The object was overwritten while it was read.
    ObjectChanged = ("object_changed", 503, ErrorLevel::Warn, OBJECT,
        "the object is not available at the moment; try again after Retry-After"),
    /// The store took every signature for expired.
    UrlExpired = ("url_expired", 503, ErrorLevel::Error, STORE,
        "the object is not available at the moment; try again after Retry-After"),
    /// The store asks for fewer requests.
    StoreBusy = ("store_busy", 503, ErrorLevel::Warn, STORE,
        "the storage is busy; try again after Retry-After"),
    /// No connection to the store.
    StoreUnreachable = ("store_unreachable", 503, ErrorLevel::Warn, STORE,
        "the object is not available at the moment; try again after Retry-After"),
    /// The store does not know the access key.
    StoreCredentials = ("store_credentials", 503, ErrorLevel::Error, STORE,
        "the object is not available at the moment; try again after Retry-After"),
    /// The store did not answer in time.
    StoreTimeout = ("store_timeout", 504, ErrorLevel::Warn, STORE,
        "the storage did not answer in time"),
    /// The store closed connections before it answered.
    StoreClosed = ("store_closed", 502, ErrorLevel::Warn, STORE,
        "the storage failed"),
    /// The store answered 5xx.
    StoreFailed = ("store_failed", 502, ErrorLevel::Warn, STORE,
        "the storage failed"),
    /// The store says that the signature is wrong.
    StoreSignature = ("store_signature", 502, ErrorLevel::Error, STORE,
        "the storage failed"),
    /// The store has no such bucket, or no URL can be made.
    StoreConfiguration = ("store_configuration", 502, ErrorLevel::Error, STORE,
        "the storage failed"),
    /// The TLS handshake with the store failed.
    StoreTls = ("store_tls", 502, ErrorLevel::Error, STORE,
        "the storage failed"),
    /// The store's response breaks the protocol.
    StoreProtocol = ("store_protocol", 502, ErrorLevel::Warn, STORE,
        "the storage failed"),
    /// A film's manifest names what its viewers must not be sent to.
    ManifestRefused = ("manifest_refused", 502, ErrorLevel::Error, STORE,
        "the film's manifest cannot be served"),
    /// The body broke off and could not be continued.
    BodyBroken = ("body_broken", 502, ErrorLevel::Warn, STORE,
        "the storage failed"),
    /// The cluster's destinations are left alone for a moment.
    DestinationUnavailable = ("destination_unavailable", 503, ErrorLevel::Warn, DESTINATION,
        "the servers for this request failed and are left alone for a moment; try again after Retry-After"),
    /// The cluster has no destination.
    NoDestination = ("no_destination", 503, ErrorLevel::Warn, DESTINATION,
        "there is no server for this request"),
    /// The destination cannot be reached or broke off.
    BadGateway = ("bad_gateway", 502, ErrorLevel::Warn, DESTINATION,
        "the server behind the proxy failed"),
    /// The destination did not answer in time.
    GatewayTimeout = ("gateway_timeout", 504, ErrorLevel::Warn, DESTINATION,
        "the server behind the proxy did not answer in time"),
    /// The client closed the connection.
    ClientLeft = ("client_left", 499, ErrorLevel::Info, INTERNAL,
        "the client left"),
    /// The client read or sent no bytes for too long.
    ClientStalled = ("client_stalled", 499, ErrorLevel::Info, INTERNAL,
        "the client left"),
    /// The user logged out while the stream was under way.
    Revoked = ("revoked", 401, ErrorLevel::Info, INTERNAL,
        "the user logged out"),
    /// The operator ended the response while it was under way.
    StreamEnded = ("stream_ended", 503, ErrorLevel::Info, INTERNAL,
        "the operator ended the stream"),
    /// The process ended before the response did.
    Stopped = ("stopped", 503, ErrorLevel::Warn, INTERNAL,
        "the process ended before the answer did"),
    /// A mistake in Tidegate.
    Internal = ("internal", 500, ErrorLevel::Error, INTERNAL,
        "something went wrong in the proxy"),
}

impl ErrorCode {
    /// Returns the code as clients, metrics and the log have it.
    pub const fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// Parses a code; `None` if there is no such code.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// Returns the status of the response; 499 is in the log only.
    pub fn status(self) -> StatusCode {
        // Every status of the table is valid, so the default is never taken.
        StatusCode::from_u16(self.entry().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns the level of the log line.
    pub const fn level(self) -> ErrorLevel {
        self.entry().level
    }

    /// Returns the heading of `docs/errors.md` under which it is explained, as links name it.
    pub const fn anchor(self) -> &'static str {
        self.entry().anchor
    }

    /// Returns the text for the client where the failure has none of its own; names nothing behind the proxy.
    pub const fn detail(self) -> &'static str {
        self.entry().detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heading, code and status of each row of the document's tables.
    fn documented_rows() -> Vec<(String, &'static str, u16)> {
        let mut anchor = String::new();
        let mut rows = Vec::new();
        for line in include_str!("../../../docs/errors.md").lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                anchor = heading.to_lowercase().replace(' ', "-").replace(',', "");
            }
            let mut cells = line.split('|').map(str::trim).skip(1);
            let code = cells.next().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
            if let (Some(code), Some(Ok(status))) = (code, cells.next().map(str::parse)) {
                rows.push((anchor.clone(), code, status));
            }
        }
        rows
    }

    #[test]
    fn the_page_of_errors_has_every_code_once_with_its_status_under_its_heading() {
        let row = |code: &ErrorCode| (code.anchor().to_owned(), code.as_str(), code.status().as_u16());
        let mut expected: Vec<_> = ErrorCode::ALL.iter().map(row).collect();
        let mut documented = documented_rows();
        expected.sort();
        documented.sort();
        assert_eq!(documented, expected);
    }

    #[test]
    fn a_code_is_lower_case_words_and_is_read_as_it_is_written() {
        for code in ErrorCode::ALL {
            let text = code.as_str();
            assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{text}");
            assert_eq!(ErrorCode::parse(text), Some(*code));
            assert!(!code.detail().is_empty(), "{text}");
        }
        assert_eq!(ErrorCode::parse("no_such_code"), None);
    }

    #[test]
    fn nothing_that_a_client_does_is_logged_above_info_and_everything_else_is() {
        for code in ErrorCode::ALL {
            // What the operator has ended is nothing to look at.
            let is_ours = code.status().is_server_error() && *code != ErrorCode::StreamEnded;
            assert_eq!(code.level() != ErrorLevel::Info, is_ours, "{code:?}");
        }
    }
}
