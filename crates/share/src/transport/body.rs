//! Bodies, read whatever their `Content-Type` says: the document's clients do not always set it.

use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use server_kit::api::error::Error;

/// Reads JSON. Fails with 400.
pub fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::bad_request(format!("the body is not the expected JSON: {error}")))
}

/// Returns the whole body. Fails with 413 where it is too large, and 400 where it breaks off.
pub fn whole_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Error> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::too_large("the body is larger than this path takes"),
        _ => Error::bad_request("the body broke off"),
    })
}
