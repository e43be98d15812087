//! Errors of the API, in the product's one envelope. A handler returns an [`Error`]; [`envelope`] alone, which knows the
//! request's id and the time, writes it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::auth::AuthenticationError;
use http_semantics::problem::{self, Problem};
use http_semantics::rate_limit::ExceededLimit;
use http_semantics::request_info::{self, REQUEST_ID, RequestInfo};
use primitives::clock::Clock;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: StatusCode,
    code: &'static str,
    detail: String,
    challenge: Option<HeaderValue>,
    retry_after: Option<Duration>,
}

impl Error {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), challenge: None, retry_after: None }
    }

    /// What another part of the process refuses, as it says.
    pub fn custom(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        Self { retry_after, ..Self::new(status, code, detail) }
    }

    /// 400: the request is not what the path expects.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 404: what is asked for is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 401: who asks is not known.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403: who asks is known and may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 409: it contradicts what is there.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 410: it was there and is removed for good.
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "gone", detail)
    }

    /// 413: the body is larger than the path takes.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 415: the body is of another type than the path takes.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 422: well-formed, but a value is out of range.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_range", detail)
    }

    /// 404: nothing is served under this path.
    pub fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_route", "nothing is served under this path; see /openapi.json")
    }

    /// 405: the path is served, but not with this method.
    pub fn method_not_allowed() -> Self {
        let detail = "this method is not served here; see Allow";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// 500: our own mistake.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in the proxy")
    }

    /// 503: what is needed for it does not answer at the moment; `detail` names no host.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail) }
    }

    /// 429: more than is allowed; the next one is taken after `wait`.
    pub fn too_many(detail: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail) }
    }

    /// 429: this much is allowed; more after `wait`.
    pub fn exceeded(exceeded: ExceededLimit, wait: Duration) -> Self {
        Self::custom(StatusCode::TOO_MANY_REQUESTS, exceeded.code(), exceeded.detail(), Some(wait))
    }

    /// 401 with the challenge that says what is wrong with the token, or 503 where no keys can be had.
    pub fn from_authentication(refusal: AuthenticationError) -> Self {
        match refusal {
            AuthenticationError::KeysUnavailable => Self {
                code: "keys_unavailable",
                ..Self::unavailable("tokens cannot be verified at the moment; try again")
            },
            refusal => {
                let unauthorized = Self::unauthorized("send a valid token, as Authorization: Bearer <token>");
                Self { challenge: Some(refusal.challenge()), ..unauthorized }
            }
        }
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer, with the request's id (a new one where it has none) and the time in milliseconds since the Unix epoch.
    pub fn to_response(&self, request_id: &str, now: i64) -> Response {
        let made = request_id.is_empty().then(request_info::new_request_id);
        let request_id = made.as_deref().unwrap_or(request_id);
        let mut body = Problem::new(self.status, self.code, &self.detail, request_id, now);
        let wait = self.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            body.reset_after = wait.map(|wait| u64::try_from(now / 1000).unwrap_or(u64::MAX).saturating_add(wait));
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(wait) = wait {
            headers.insert(header::RETRY_AFTER, wait.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = self.challenge.clone();
            let plain = HeaderValue::from_static("Bearer realm=\"tidegate\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge.unwrap_or(plain));
        }
        response
    }
}

impl IntoResponse for Error {
    /// Only marks the response: [`envelope`] writes it.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the errors of the handlers behind it, keeping the header fields that were set beside them.
pub async fn envelope(State(clock): State<Clock>, request: Request, next: Next) -> Response {
    // On the players' listeners the proxy made the id.
    let id = request.extensions().get::<RequestInfo>().map(|caller| caller.request_id.clone());
    let mut response = next.run(request).await;
    // axum's own 405 has no mark, and is left to come through the layers of its module: a fallback of ours would not.
    let unmarked = || (response.status() == StatusCode::METHOD_NOT_ALLOWED).then(Error::method_not_allowed);
    let Some(error) = response.extensions().get::<Error>().cloned().or_else(unmarked) else { return response };
    response.extensions_mut().remove::<Error>();
    let mut answer = error.to_response(id.as_deref().unwrap_or_default(), clock.unix_millis());
    for (name, value) in response.headers() {
        if !matches!(*name, header::CONTENT_LENGTH | header::CONTENT_TYPE) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_has_every_code_with_its_status() {
        let wait = Duration::from_secs(1);
        let all = [
            Error::bad_request(""),
            Error::not_found(""),
            Error::unauthorized(""),
            Error::forbidden(""),
            Error::conflict(""),
            Error::gone(""),
            Error::too_large(""),
            Error::unsupported_media_type(""),
            Error::unprocessable(""),
            Error::no_route(),
            Error::method_not_allowed(),
            Error::internal(),
            Error::unavailable(""),
            Error::too_many("", wait),
            Error::exceeded(ExceededLimit::BadTokens, wait),
            Error::from_authentication(AuthenticationError::KeysUnavailable),
        ];
        for error in all {
            let row = format!("| `{}` | {} |", error.code, error.status.as_u16());
            assert!(include_str!("../../../../docs/errors.md").contains(&row), "docs/errors.md lacks {row}");
        }
    }
}
