//! Every way in which the proxy refuses or fails, and the one place where each becomes a row of the catalogue of codes
//! (`http-semantics`, `error_codes.rs`): status, stable code, text for the client and level for the log.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use http_semantics::error_codes::{ErrorCode, ErrorLevel};
use http_semantics::range;
use http_semantics::rate_limit::ExceededLimit;
use http_server::{DownstreamError, RequestHeadError};
use object_engine;
use s3::signer::SignError;
use server_kit::admission::AdmissionRefusal;
use server_kit::auth::AuthenticationError;
use vod::grant::GrantRefusal;
use vod::manifest::ManifestRefusal;
use vod::session::SessionEnd;

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
    /// The operator ended the stream while it was under way.
    StreamEnded,
    /// The session of a film's viewer has ended.
    SessionEnded(SessionEnd),
    /// A film's manifest is not served; the refusal names the line.
    Manifest(Box<ManifestRefusal>),
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
    /// The request took longer than any may.
    RequestTimeout,
    /// The process ended before the answer did.
    Stopped,
    /// A mistake of the proxy itself.
    Internal,
}

impl From<DownstreamError> for ProxyFailure {
    fn from(error: DownstreamError) -> Self {
        match error {
            DownstreamError::Closed => Self::ClientLeft,
            DownstreamError::Stalled => Self::ClientStalled,
            DownstreamError::MalformedBody(detail) => Self::BadRequest(detail.into()),
            DownstreamError::Overdue => Self::RequestTimeout,
            DownstreamError::Misused => Self::Internal,
        }
    }
}

impl From<AdmissionRefusal> for ProxyFailure {
    fn from(refusal: AdmissionRefusal) -> Self {
        match refusal {
            AdmissionRefusal::Unauthenticated(AuthenticationError::KeysUnavailable) => Self::KeysUnavailable,
            AdmissionRefusal::Unauthenticated(error) => Self::Unauthorized(error),
            AdmissionRefusal::Limited(limit, wait) => Self::Limited(limit, wait),
        }
    }
}

impl From<GrantRefusal> for ProxyFailure {
    fn from(refusal: GrantRefusal) -> Self {
        match refusal {
            GrantRefusal::Unauthenticated(error) => Self::Unauthorized(error),
            GrantRefusal::OtherFilm => Self::Forbidden,
            GrantRefusal::Ended(reason) => Self::SessionEnded(reason),
            GrantRefusal::Unavailable(_) => Self::AccessUnavailable,
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
    /// Returns its row in the catalogue of codes: the one place that gives a cause its status, code, text and level.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::BadRequest(_) => ErrorCode::BadRequest,
            Self::HeadTooLarge => ErrorCode::HeadTooLarge,
            Self::PathTooLong => ErrorCode::PathTooLong,
            Self::NoRoute => ErrorCode::NoRoute,
            Self::MethodNotAllowed(_) => ErrorCode::MethodNotAllowed,
            Self::Unauthorized(_) => ErrorCode::Unauthorized,
            Self::KeysUnavailable => ErrorCode::KeysUnavailable,
            Self::AccessUnavailable => ErrorCode::AccessUnavailable,
            Self::CatalogUnavailable => ErrorCode::CatalogUnavailable,
            Self::Revoked => ErrorCode::Revoked,
            Self::StreamEnded => ErrorCode::StreamEnded,
            Self::SessionEnded(_) => ErrorCode::SessionEnded,
            Self::Manifest(_) => ErrorCode::ManifestRefused,
            Self::Forbidden => ErrorCode::Forbidden,
            Self::Limited(limited, _) => limited.error_code(),
            Self::Hidden => ErrorCode::NotFound,
            Self::BodyTooLarge => ErrorCode::BodyTooLarge,
            Self::Object(failure) => object_error_code(failure),
            Self::NoDestination => ErrorCode::NoDestination,
            Self::DestinationUnavailable => ErrorCode::DestinationUnavailable,
            Self::BadGateway => ErrorCode::BadGateway,
            Self::GatewayTimeout => ErrorCode::GatewayTimeout,
            Self::ClientLeft => ErrorCode::ClientLeft,
            Self::ClientStalled => ErrorCode::ClientStalled,
            Self::RequestTimeout => ErrorCode::RequestTimeout,
            Self::Stopped => ErrorCode::Stopped,
            Self::Internal => ErrorCode::Internal,
        }
    }

    /// The status for the client; 499 is in the log only.
    pub fn status(&self) -> StatusCode {
        self.error_code().status()
    }

    /// The stable code of the envelope, and the `reason` of metrics.
    pub fn code(&self) -> &'static str {
        self.error_code().as_str()
    }

    /// Cause that the code does not tell, for the log: one of a closed set.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized(refusal) => Some(refusal.cause()),
            Self::SessionEnded(reason) => Some(session_end(*reason).0),
            Self::Hidden => Some("policy"),
            Self::Object(object_engine::ObjectError::Denied { hidden: true }) => Some("store_denied"),
            _ => None,
        }
    }

    /// Text for the client: the catalogue's, unless the failure says more. Names nothing behind the proxy.
    pub fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(what) => what.clone(),
            Self::Unauthorized(refusal) => refusal.to_string().into(),
            Self::SessionEnded(reason) => session_end(*reason).1.into(),
            // The code is that of plain routes too, where there may be several servers and no object.
            Self::Object(object_engine::ObjectError::Unavailable) => {
                "the object is not available at the moment; try again after Retry-After".into()
            }
            failure => failure.error_code().detail().into(),
        }
    }

    /// Log level, as the catalogue of codes has it.
    pub fn level(&self) -> ErrorLevel {
        self.error_code().level()
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
            Self::BadRequest(_)
                | Self::HeadTooLarge
                | Self::PathTooLong
                | Self::BodyTooLarge
                | Self::RequestTimeout
                | Self::Internal
        )
    }
}

/// Returns the reason's name in the log, and its text for the viewer.
fn session_end(reason: SessionEnd) -> (&'static str, &'static str) {
    match reason {
        SessionEnd::Stopped => ("session_stopped", "the film was stopped; start it again"),
        SessionEnd::Expired => ("session_expired", "the session has expired; start the film again"),
        SessionEnd::Revoked => ("session_revoked", "the session was revoked"),
        SessionEnd::Displaced => {
            ("session_displaced", "the film was started elsewhere, and no more streams are allowed")
        }
        SessionEnd::Unsubscribed => ("session_unsubscribed", "the subscription has ended"),
    }
}

fn object_error_code(failure: &object_engine::ObjectError) -> ErrorCode {
    use object_engine::ObjectError as Object;
    match failure {
        Object::NotFound | Object::Denied { hidden: true } => ErrorCode::NotFound,
        Object::Gone => ErrorCode::Gone,
        Object::Denied { hidden: false } => ErrorCode::Denied,
        Object::PreconditionFailed => ErrorCode::PreconditionFailed,
        Object::RangeNotSatisfiable { .. } => ErrorCode::RangeNotSatisfiable,
        Object::Expired => ErrorCode::UrlExpired,
        Object::Signature => ErrorCode::StoreSignature,
        Object::Credentials | Object::Unsignable(SignError::NoCredentials | SignError::ExpiredCredentials) => {
            ErrorCode::StoreCredentials
        }
        Object::Archived => ErrorCode::Archived,
        Object::NoSuchBucket | Object::Unsignable(SignError::Bucket | SignError::Clock) => {
            ErrorCode::StoreConfiguration
        }
        Object::Throttled { .. } => ErrorCode::StoreBusy,
        Object::StoreBroken | Object::BadGateway => ErrorCode::StoreFailed,
        Object::InvalidResponse(_) => ErrorCode::StoreProtocol,
        Object::Unavailable => ErrorCode::DestinationUnavailable,
        Object::Unreachable => ErrorCode::StoreUnreachable,
        Object::Closed => ErrorCode::StoreClosed,
        Object::Tls => ErrorCode::StoreTls,
        Object::Timeout => ErrorCode::StoreTimeout,
        Object::BrokenBody => ErrorCode::BodyBroken,
        Object::Changed => ErrorCode::ObjectChanged,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use object_engine::ObjectError as Object;
    use vod::manifest::ManifestFault;

    /// Codes that only the API of Tidegate gives: its constructors name them (`server-kit`, `api/error.rs`).
    const API_ONLY: [ErrorCode; 5] = [
        ErrorCode::TooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::OutOfRange,
        ErrorCode::Conflict,
        ErrorCode::Unavailable,
    ];

    fn every_failure() -> Vec<ProxyFailure> {
        let of_objects = [
            Object::NotFound,
            Object::Gone,
            Object::Denied { hidden: false },
            Object::Denied { hidden: true },
            Object::PreconditionFailed,
            Object::RangeNotSatisfiable { size: 1 },
            Object::Unsignable(SignError::Bucket),
            Object::Unsignable(SignError::ExpiredCredentials),
            Object::Expired,
            Object::Signature,
            Object::Credentials,
            Object::Archived,
            Object::NoSuchBucket,
            Object::Throttled { retry_after: None },
            Object::StoreBroken,
            Object::BadGateway,
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
            ProxyFailure::StreamEnded,
            ProxyFailure::SessionEnded(SessionEnd::Stopped),
            ProxyFailure::Manifest(Box::new(ManifestRefusal { line: 1, fault: ManifestFault::TooLarge })),
            ProxyFailure::Forbidden,
            ProxyFailure::Hidden,
            ProxyFailure::Limited(ExceededLimit::Requests, Duration::ZERO),
            ProxyFailure::Limited(ExceededLimit::Streams, Duration::ZERO),
            ProxyFailure::Limited(ExceededLimit::Egress, Duration::ZERO),
            ProxyFailure::Limited(ExceededLimit::BadTokens, Duration::ZERO),
            ProxyFailure::BodyTooLarge,
            ProxyFailure::RequestTimeout,
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

    #[test]
    fn every_code_of_the_catalogue_has_a_failure_or_is_the_apis() {
        let mut given: BTreeSet<_> = every_failure().iter().map(ProxyFailure::error_code).collect();
        given.extend(API_ONLY);
        assert_eq!(given, ErrorCode::ALL.iter().copied().collect());
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
