//! Ids of tracks and users in requests: parsed here and nowhere else in the API, so that one that cannot be is refused
//! everywhere alike, by 400.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::error::Error;
use primitives::id::{MAX_BYTES, is_id};

/// The id that a request has as `name`.
pub fn parse<'a>(name: &str, text: &'a str) -> Result<&'a str, Error> {
    if is_id(text) { Ok(text) } else { Err(malformed(name)) }
}

fn malformed(name: &str) -> Error {
    Error::bad_request(format!(
        "`{name}` must have 1 to {MAX_BYTES} bytes of UTF-8, no control characters, and not be `.` or `..`"
    ))
}

/// The id of a track, as the path has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for TrackId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.ok().filter(|Path(id)| is_id(id)).map(|Path(id)| Self(id)).ok_or_else(|| malformed("id"))
    }
}
