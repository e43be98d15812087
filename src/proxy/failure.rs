//! Every way in which the proxy refuses or fails, and the one place where each becomes a status, a stable code, a text
//! for the client and a level for the log.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use http_semantics::range;
use http_semantics::rate_limit::ExceededLimit;
use http_server::{DownstreamError, RequestHeadError};
use object_engine;
use server_kit::auth::AuthenticationError;

/// Cause of a response other than the requested one, or of none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyFailure {
    /// The request is malformed.
    BadRequest(Cow<'static, str>),
    /// The request's head is longer than we read.
    HeadTooLarge,
    /// The path is longer than we take.
    PathTooLong,
    /// No route takes it.
    NoRoute,
    /// The route does not take the method.
    MethodNotAllowed(Vec<Method>),
    /// The caller has no valid token.
    Unauthorized(AuthenticationError),
    /// The keys that tokens are verified with cannot be had.
    KeysUnavailable,
    /// The access authorities cannot be asked.
    AccessUnavailable,
    /// The catalogue cannot be asked.
    CatalogUnavailable,
    /// The user logged out everywhere while the stream was under way.
    Revoked,
    /// The caller is not allowed.
    Forbidden,
    /// The caller is not allowed, and is told 404, so that it does not learn that there is something.
    Hidden,
    /// The caller has exceeded a limit; the time is when to try again.
    Limited(ExceededLimit, Duration),
    /// The request body is larger than the route allows.
    BodyTooLarge,
    /// The object engine could not serve the object.
    Object(object_engine::ObjectError),
    /// A plain route's cluster has no destination.
    NoDestination,
    /// No destination of a plain route's cluster takes requests for now.
    DestinationUnavailable,
    /// A plain route's destination cannot be reached or broke off.
    BadGateway,
    /// A plain route's destination did not answer in time.
    GatewayTimeout,
    /// The client left before the answer.
    ClientLeft,
    /// The client took none of its bytes for too long.
    ClientStalled,
    /// The process ended before the answer did.
    Stopped,
    /// A mistake of the proxy itself.
    Internal,
}

/// Log level of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureLevel {
    /// Part of daily life.
    Info,
    /// A store or an upstream is in trouble.
    Warn,
    /// An operator has to act.
    Error,
}

impl From<DownstreamError> for ProxyFailure {
    fn from(error: DownstreamError) -> Self {
        match error {
            DownstreamError::Closed => Self::ClientLeft,
            DownstreamError::Stalled => Self::ClientStalled,
            DownstreamError::MalformedBody(detail) => Self::BadRequest(detail.into()),
            DownstreamError::Misused => Self::Internal,
        }
    }
}

impl From<RequestHeadError> for ProxyFailure {
    fn from(fault: RequestHeadError) -> Self {
        match fault {
            RequestHeadError::TooLong => Self::HeadTooLarge,
            RequestHeadError::Malformed(detail) => Self::BadRequest(detail),
        }
    }
}

impl ProxyFailure {
    /// The status for the client; 499 is in the log only.
    pub fn status(&self) -> StatusCode {
        let code = match self {
            Self::BadRequest(_) => 400,
            Self::HeadTooLarge => 431,
            Self::PathTooLong => 414,
            Self::NoRoute | Self::Hidden => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::Unauthorized(_) | Self::Revoked => 401,
            Self::Forbidden => 403,
            Self::Limited(..) => 429,
            Self::BodyTooLarge => 413,
            Self::Object(failure) => object_status(failure),
            Self::KeysUnavailable
            | Self::AccessUnavailable
            | Self::CatalogUnavailable
            | Self::NoDestination
            | Self::DestinationUnavailable
            | Self::Stopped => 503,
            Self::BadGateway => 502,
            Self::GatewayTimeout => 504,
            Self::ClientLeft | Self::ClientStalled => 499,
            Self::Internal => 500,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The stable code of the envelope, and the `reason` of metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::PathTooLong => "path_too_long",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Unauthorized(_) => "unauthorized",
            Self::KeysUnavailable => "keys_unavailable",
            Self::AccessUnavailable => "access_unavailable",
            Self::CatalogUnavailable => "catalog_unavailable",
            Self::Revoked => "revoked",
            Self::Forbidden => "forbidden",
            Self::Limited(limited, _) => limited.code(),
            Self::Hidden => "not_found",
            Self::BodyTooLarge => "body_too_large",
            Self::Object(failure) => object_code(failure),
            Self::NoDestination => "no_destination",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::BadGateway => "bad_gateway",
            Self::GatewayTimeout => "gateway_timeout",
            Self::ClientLeft => "client_left",
            Self::ClientStalled => "client_stalled",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }

    /// Cause that the code does not tell, for the log: one of a closed set.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized(refusal) => Some(refusal.cause()),
            Self::Hidden => Some("policy"),
            Self::Object(object_engine::ObjectError::Denied { hidden: true }) => Some("store_denied"),
            _ => None,
        }
    }

    /// Text for the client; names nothing behind the proxy.
    pub fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(what) => what.clone(),
            Self::HeadTooLarge => "the request's head is longer than 64 KiB or 256 lines".into(),
            Self::PathTooLong => "the path is longer than 8192 bytes".into(),
            Self::NoRoute => "nothing is served under this path".into(),
            Self::MethodNotAllowed(_) => "this method is not served here; see Allow".into(),
            Self::Unauthorized(refusal) => refusal.to_string().into(),
            Self::KeysUnavailable => "tokens cannot be verified at the moment; try again".into(),
            Self::Limited(limited, _) => limited.detail().into(),
            Self::AccessUnavailable => "whether you may have this cannot be told at the moment; try again".into(),
            Self::CatalogUnavailable => "the catalogue cannot be asked at the moment; try again".into(),
            Self::Revoked => "the user logged out".into(),
            Self::Forbidden => "your token does not allow this".into(),
            Self::Hidden => object_detail(&object_engine::ObjectError::NotFound).into(),
            Self::BodyTooLarge => "the request body is larger than this route allows".into(),
            Self::Object(failure) => object_detail(failure).into(),
            Self::NoDestination => "there is no server for this request".into(),
            Self::DestinationUnavailable => {
                "the servers for this request failed and are left alone for a moment; try again after Retry-After"
                    .into()
            }
            Self::BadGateway => "the server behind the proxy failed".into(),
            Self::GatewayTimeout => "the server behind the proxy did not answer in time".into(),
            Self::ClientLeft | Self::ClientStalled => "the client left".into(),
            Self::Stopped => "the process ended before the answer did".into(),
            Self::Internal => "something went wrong in the proxy".into(),
        }
    }

    /// Log level: nothing that a client does is an error.
    pub fn level(&self) -> FailureLevel {
        match self {
            Self::Object(
                object_engine::ObjectError::Signature
                | object_engine::ObjectError::Credentials
                | object_engine::ObjectError::NoSuchBucket
                | object_engine::ObjectError::Unsignable(_)
                | object_engine::ObjectError::Expired
                | object_engine::ObjectError::Tls,
            )
            | Self::Internal => FailureLevel::Error,
            failure if failure.status().is_server_error() => FailureLevel::Warn,
            _ => FailureLevel::Info,
        }
    }

    /// Time after which the client should try again; `None` where that would not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Object(object_engine::ObjectError::Throttled { retry_after: Some(wait) }) => Some(*wait),
            Self::Limited(_, wait) => Some(*wait),
            Self::Object(object_engine::ObjectError::Archived) => Some(Duration::from_secs(120)),
            failure if failure.status() == StatusCode::SERVICE_UNAVAILABLE => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Headers that the status asks for, `Retry-After` aside.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::MethodNotAllowed(methods) => {
                let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
                HeaderValue::try_from(names.join(", "))
                    .map_or_else(|_| Vec::new(), |value| vec![(header::ALLOW, value)])
            }
            Self::Unauthorized(refusal) => vec![(header::WWW_AUTHENTICATE, refusal.challenge())],
            Self::Object(object_engine::ObjectError::RangeNotSatisfiable { size }) => vec![
                (header::CONTENT_RANGE, range::unsatisfied_range(*size)),
                (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            ],
            _ => Vec::new(),
        }
    }

    /// True where the connection must not be used again: what follows on it cannot be trusted.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_) | Self::HeadTooLarge | Self::PathTooLong | Self::BodyTooLarge | Self::Internal
        )
    }
}

fn object_status(failure: &object_engine::ObjectError) -> u16 {
    use object_engine::ObjectError as Object;
    match failure {
        Object::NotFound | Object::Denied { hidden: true } => 404,
        Object::Gone => 410,
        Object::Denied { hidden: false } => 403,
        Object::PreconditionFailed => 412,
        Object::RangeNotSatisfiable { .. } => 416,
        Object::Expired
        | Object::Credentials
        | Object::Archived
        | Object::Throttled { .. }
        | Object::Unavailable
        | Object::Unreachable
        | Object::Changed => 503,
        Object::Signature
        | Object::NoSuchBucket
        | Object::Unsignable(_)
        | Object::StoreBroken
        | Object::InvalidResponse(_)
        | Object::Closed
        | Object::Tls
        | Object::BrokenBody => 502,
        Object::Timeout => 504,
    }
}

fn object_code(failure: &object_engine::ObjectError) -> &'static str {
    use object_engine::ObjectError as Object;
    match failure {
        Object::NotFound | Object::Denied { hidden: true } => "not_found",
        Object::Gone => "gone",
        Object::Denied { hidden: false } => "denied",
        Object::PreconditionFailed => "precondition_failed",
        Object::RangeNotSatisfiable { .. } => "range_not_satisfiable",
        Object::Expired => "url_expired",
        Object::Signature => "store_signature",
        Object::Credentials => "store_credentials",
        Object::Archived => "archived",
        Object::NoSuchBucket | Object::Unsignable(_) => "store_configuration",
        Object::Throttled { .. } => "store_busy",
        Object::StoreBroken => "store_failed",
        Object::InvalidResponse(_) => "store_protocol",
        Object::Unavailable => "destination_unavailable",
        Object::Unreachable => "store_unreachable",
        Object::Closed => "store_closed",
        Object::Tls => "store_tls",
        Object::Timeout => "store_timeout",
        Object::BrokenBody => "body_broken",
        Object::Changed => "object_changed",
    }
}

fn object_detail(failure: &object_engine::ObjectError) -> &'static str {
    use object_engine::ObjectError as Object;
    match failure {
        Object::NotFound | Object::Denied { hidden: true } => "there is no such object",
        Object::Gone => "the object was removed for good",
        Object::Denied { hidden: false } => "access to the object is denied",
        Object::PreconditionFailed => "a condition of the request does not hold for the object as it is now",
        Object::RangeNotSatisfiable { .. } => "the range begins past the end of the object; see Content-Range",
        Object::Archived => "the object is archived and not available at once",
        Object::Throttled { .. } => "the storage is busy; try again after Retry-After",
        Object::Timeout => "the storage did not answer in time",
        Object::Expired | Object::Credentials | Object::Unavailable | Object::Unreachable | Object::Changed => {
            "the object is not available at the moment; try again after Retry-After"
        }
        Object::Signature
        | Object::NoSuchBucket
        | Object::Unsignable(_)
        | Object::StoreBroken
        | Object::InvalidResponse(_)
        | Object::Closed
        | Object::Tls
        | Object::BrokenBody => "the storage failed",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use object_engine::ObjectError as Object;
    use s3::signer::SignError;

    const DOCUMENT: &str = include_str!("../../docs/errors.md");
    const SOURCES: [&str; 2] =
        [include_str!("failure.rs"), include_str!("../../crates/http-semantics/src/rate_limit.rs")];

    fn every_failure() -> Vec<ProxyFailure> {
        let of_objects = [
            Object::NotFound,
            Object::Gone,
            Object::Denied { hidden: false },
            Object::Denied { hidden: true },
            Object::PreconditionFailed,
            Object::RangeNotSatisfiable { size: 1 },
            Object::Unsignable(SignError::Bucket),
            Object::Expired,
            Object::Signature,
            Object::Credentials,
            Object::Archived,
            Object::NoSuchBucket,
            Object::Throttled { retry_after: None },
            Object::StoreBroken,
            Object::InvalidResponse("a test"),
            Object::Unavailable,
            Object::Unreachable,
            Object::Closed,
            Object::Tls,
            Object::Timeout,
            Object::BrokenBody,
            Object::Changed,
        ];
        let mut all = vec![
            ProxyFailure::BadRequest("a test".into()),
            ProxyFailure::HeadTooLarge,
            ProxyFailure::PathTooLong,
            ProxyFailure::NoRoute,
            ProxyFailure::MethodNotAllowed(vec![Method::GET]),
            ProxyFailure::Unauthorized(AuthenticationError::Missing),
            ProxyFailure::KeysUnavailable,
            ProxyFailure::AccessUnavailable,
            ProxyFailure::CatalogUnavailable,
            ProxyFailure::Revoked,
            ProxyFailure::Forbidden,
            ProxyFailure::Hidden,
            ProxyFailure::Limited(ExceededLimit::Requests, Duration::ZERO),
            ProxyFailure::Limited(ExceededLimit::Streams, Duration::ZERO),
            ProxyFailure::Limited(ExceededLimit::Egress, Duration::ZERO),
            ProxyFailure::Limited(ExceededLimit::BadTokens, Duration::ZERO),
            ProxyFailure::BodyTooLarge,
            ProxyFailure::NoDestination,
            ProxyFailure::DestinationUnavailable,
            ProxyFailure::BadGateway,
            ProxyFailure::GatewayTimeout,
            ProxyFailure::ClientLeft,
            ProxyFailure::ClientStalled,
            ProxyFailure::Stopped,
            ProxyFailure::Internal,
        ];
        all.extend(of_objects.map(ProxyFailure::Object));
        all
    }

    /// The rows of the document's tables that begin with a code and a status.
    fn documented() -> BTreeSet<(&'static str, u16)> {
        let row = |line: &'static str| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let code = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((code, cells.next()?.parse().ok()?))
        };
        DOCUMENT.lines().filter_map(row).collect()
    }

    /// The codes that stand in the sources: words without blanks, where all other texts are sentences.
    fn written() -> BTreeSet<&'static str> {
        let code = |line: &'static str| {
            let (_, text) = line.split_once("=> \"").or_else(|| line.split_once("code: \""))?;
            let (word, _) = text.split_once('"')?;
            word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(word)
        };
        SOURCES.iter().flat_map(|source| source.lines()).filter_map(code).collect()
    }

    #[test]
    fn the_catalogue_has_every_code_with_its_status() {
        let emitted: BTreeSet<_> = every_failure().iter().map(|it| (it.code(), it.status().as_u16())).collect();
        let documented = documented();
        let missing: Vec<_> = emitted.difference(&documented).collect();
        assert!(missing.is_empty(), "docs/errors.md lacks {missing:?}");
    }

    #[test]
    fn every_code_of_the_sources_is_looked_at() {
        let emitted: BTreeSet<_> = every_failure().iter().map(ProxyFailure::code).collect();
        assert_eq!(written(), emitted, "a code in the sources that `every_failure` or the other side lacks");
    }

    #[test]
    fn a_503_and_a_429_say_when_to_try_again() {
        for failure in every_failure() {
            let asked_back =
                [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&failure.status());
            assert_eq!(failure.retry_after().is_some(), asked_back, "{failure:?}");
        }
    }
}
