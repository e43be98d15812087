//! Error envelope of all responses: `application/problem+json` (RFC 9457) with the members that the relay's document
//! requires.

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of the envelope.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Error response as clients see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem<'a> {
    /// `urn:tidegate:error:<code>`, RFC 9457 §3.1.1.
    pub r#type: String,
    /// Reason phrase of the status.
    pub title: &'static str,
    /// HTTP status code.
    pub status: u16,
    /// Description of the error and of what was expected, for people.
    pub detail: &'a str,
    /// Always false.
    pub success: bool,
    /// The same as `detail`, under the name that the relay's document gives it.
    pub error: &'a str,
    /// Stable code for programs; `docs/errors.md` lists all codes.
    pub code: &'static str,
    /// Milliseconds since the Unix epoch.
    #[schema(value_type = u64)]
    pub timestamp: i64,
    /// The request's id, also in `X-Request-Id` and in the access log.
    pub request_id: &'a str,
    /// Unix second from which a limited client may try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_after: Option<u64>,
}

impl<'a> Problem<'a> {
    /// Returns an error of `status`; `now` is in milliseconds since the Unix epoch.
    pub fn new(status: StatusCode, code: &'static str, detail: &'a str, request_id: &'a str, now: i64) -> Self {
        Self {
            r#type: format!("urn:tidegate:error:{code}"),
            // 499 is none of the registered codes and has no reason phrase.
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail,
            success: false,
            error: detail,
            code,
            timestamp: now,
            request_id,
            reset_after: None,
        }
    }

    /// Returns the response body.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and numbers always serialize; an empty body would be better than a panic while an error is reported.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
