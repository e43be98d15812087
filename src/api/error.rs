//! Errors of the API, in the product's one envelope.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::http::caller::{self, REQUEST_ID};
use crate::http::problem::{self, Problem};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Error {
    /// 400: the request is not what the path expects.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "bad_request", detail: detail.into() }
    }

    /// 404: what is asked for is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", detail: detail.into() }
    }

    /// 401: who asks is not known.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthorized", detail: detail.into() }
    }

    /// 404: nothing is served under this path.
    pub fn no_route() -> Self {
        let detail = "nothing is served under this path; see /openapi.json".to_owned();
        Self { status: StatusCode::NOT_FOUND, code: "no_route", detail }
    }

    /// 405: the path is served, but not with this method.
    pub fn method_not_allowed() -> Self {
        let detail = "this method is not served here; see Allow".to_owned();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "method_not_allowed", detail }
    }

    /// 500: our own mistake.
    pub fn internal() -> Self {
        let detail = "something went wrong in the proxy".to_owned();
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "internal", detail }
    }

    /// The answer, with the request's id (a new one where it has none) and the time in milliseconds since the Unix epoch.
    pub fn answer(&self, request_id: &str, now: u128) -> Response {
        let made = request_id.is_empty().then(caller::new_request_id);
        let request_id = made.as_deref().unwrap_or(request_id);
        let body = Problem::new(self.status, self.code, &self.detail, request_id, now);
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
        }
        response
    }
}
