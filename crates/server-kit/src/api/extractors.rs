//! Extractors of axum, with the envelope for their rejections.

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Error;

/// JSON body of a request or response.
#[derive(Clone, Copy, Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(Error))]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// JSON body that may also come as `text/plain`, the type that `navigator.sendBeacon` gives to a string: a page that is
/// being closed cannot wait for the response to a preflight.
#[derive(Clone, Copy, Debug)]
pub struct BeaconJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for BeaconJson<T> {
    type Rejection = Error;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Error> {
        let sent = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = sent.and_then(|sent| sent.split(';').next()).unwrap_or_default();
        if essence.trim().eq_ignore_ascii_case("text/plain") {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        Json::from_request(request, state).await.map(|Json(body)| Self(body))
    }
}

/// JSON body that may be left out, with its media type.
#[derive(Clone, Copy, Debug)]
pub struct OptionalJson<T>(pub Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let body = Bytes::from_request(Request::from_parts(parts.clone(), body), state).await?;
        if body.is_empty() {
            return Ok(Self(None));
        }
        let request = Request::from_parts(parts, Body::from(body));
        Json::from_request(request, state).await.map(|Json(body)| Self(Some(body)))
    }
}

/// The query's parameters.
#[derive(Clone, Copy, Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Error))]
pub struct Query<T>(pub T);

/// The path's parameters.
#[derive(Clone, Copy, Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Error))]
pub struct Path<T>(pub T);

impl From<JsonRejection> for Error {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::unsupported_media_type("send the body as Content-Type: application/json")
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the body is larger than this path takes"),
            _ => Self::bad_request(rejection.body_text()),
        }
    }
}

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the body is larger than this path takes"),
            _ => Self::bad_request(rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for Error {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}
