//! Errors of the API, in the product's one envelope. A handler returns an [`Error`]; only [`envelope`], which knows the
//! request's id and the time, writes it.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::admission::AdmissionRefusal;
use crate::auth::AuthenticationError;
use http_semantics::error_codes::ErrorCode;
use http_semantics::problem::{self, Problem};
use http_semantics::rate_limit::ExceededLimit;
use http_semantics::request_info::{self, REQUEST_ID, RequestInfo};
use primitives::clock::Clock;

/// `Retry-After` of a dependency that does not answer.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

/// Error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: ErrorCode,
    detail: Cow<'static, str>,
    challenge: Option<HeaderValue>,
    retry_after: Option<Duration>,
}

impl From<ErrorCode> for Error {
    /// Returns the error of that code with the catalog's text.
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.detail())
    }
}

impl From<AdmissionRefusal> for Error {
    fn from(refusal: AdmissionRefusal) -> Self {
        match refusal {
            AdmissionRefusal::Unauthenticated(error) => Self::from_authentication(error),
            AdmissionRefusal::Limited(limit, wait) => Self::exceeded(limit, wait),
        }
    }
}

impl Error {
    /// Creates an error of that code with its own text, which names nothing behind the proxy.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), challenge: None, retry_after: None }
    }

    /// Adds `Retry-After`, if there is a time.
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The request is not what the path expects.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, detail)
    }

    /// The requested resource does not exist.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    /// The caller is unknown.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unauthorized, detail)
    }

    /// The caller is known and not allowed.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, detail)
    }

    /// The request conflicts with the present state.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Conflict, detail)
    }

    /// The resource was removed for good.
    pub fn gone(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Gone, detail)
    }

    /// The body is larger than the path takes.
    pub fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::TooLarge, detail)
    }

    /// The body is of another type than the path takes.
    pub fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::UnsupportedMediaType, detail)
    }

    /// Well-formed, but a value is out of range.
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::OutOfRange, detail)
    }

    /// Nothing is served under this path.
    pub fn no_route() -> Self {
        Self::new(ErrorCode::NoRoute, "nothing is served under this path; see /openapi.json")
    }

    /// The path is served, but not with this method.
    pub fn method_not_allowed() -> Self {
        ErrorCode::MethodNotAllowed.into()
    }

    /// Our own mistake.
    pub fn internal() -> Self {
        ErrorCode::Internal.into()
    }

    /// A dependency does not answer at the moment; `detail` names no host.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unavailable, detail).with_retry_after(Some(UNAVAILABLE_RETRY))
    }

    /// More requests than allowed; the next one is accepted after `wait`.
    pub fn too_many(detail: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        Self::new(ErrorCode::TooManyRequests, detail).with_retry_after(Some(wait))
    }

    /// The limit `exceeded` is used up; more is allowed after `wait`.
    pub fn exceeded(exceeded: ExceededLimit, wait: Duration) -> Self {
        Self::from(exceeded.error_code()).with_retry_after(Some(wait))
    }

    /// Returns a challenge that says what is wrong with the token, or a 503 if the keys are unavailable.
    pub fn from_authentication(refusal: AuthenticationError) -> Self {
        let error = Self::from(refusal.error_code());
        match refusal {
            AuthenticationError::KeysUnavailable => error.with_retry_after(Some(UNAVAILABLE_RETRY)),
            refusal => Self { challenge: Some(refusal.challenge()), ..error },
        }
    }

    /// Returns what is wrong, in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the time after which to try again, if there is one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// Returns the response, with the request's id (a new one if there is none) and the time in milliseconds since the
    /// Unix epoch.
    pub fn to_response(&self, request_id: &str, now: i64) -> Response {
        let made = request_id.is_empty().then(request_info::new_request_id);
        let request_id = made.as_deref().unwrap_or(request_id);
        let mut body = Problem::new(self.status(), self.code.as_str(), &self.detail, request_id, now);
        let wait = self.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        if self.status() == StatusCode::TOO_MANY_REQUESTS {
            body.reset_after = wait.map(|wait| u64::try_from(now / 1000).unwrap_or(u64::MAX).saturating_add(wait));
        }
        let mut response = (self.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        // An error tells the state of a moment (RFC 9111 §4.2.2 lets caches keep a 404 or 410 by heuristics).
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // An id that no header can carry is still in the body.
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(wait) = wait {
            headers.insert(header::RETRY_AFTER, wait.into());
        }
        // RFC 9110 §11.6.1: a 401 must carry a challenge.
        if self.status() == StatusCode::UNAUTHORIZED {
            let challenge = self.challenge.clone();
            let plain = HeaderValue::from_static("Bearer realm=\"tidegate\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge.unwrap_or(plain));
        }
        response
    }
}

impl IntoResponse for Error {
    /// Marks the response only: [`envelope`] writes it.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware that writes the errors of the handlers behind it, keeping the header fields that were set beside them.
pub async fn envelope(State(clock): State<Clock>, request: Request, next: Next) -> Response {
    // On the players' listeners the proxy made the id.
    let id = request.extensions().get::<RequestInfo>().map(|caller| caller.request_id.clone());
    let mut response = next.run(request).await;
    // axum's own 405 has no mark, and is left to come through the layers of its module: a fallback of ours would not.
    let unmarked = || (response.status() == StatusCode::METHOD_NOT_ALLOWED).then(Error::method_not_allowed);
    let Some(error) = response.extensions().get::<Error>().cloned().or_else(unmarked) else { return response };
    response.extensions_mut().remove::<Error>();
    let mut answer = error.to_response(id.as_deref().unwrap_or_default(), clock.unix_millis().as_millis());
    for (name, value) in response.headers() {
        // Both described the empty body of the marked response.
        if !matches!(*name, header::CONTENT_LENGTH | header::CONTENT_TYPE) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer
}
