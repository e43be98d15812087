//! Ids of tracks and users in requests: an invalid one is refused everywhere alike, by 400.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::error::Error;
use primitives::ids::{MAX_ID_BYTES, TrackId, UserId};

/// Parses the user id that a request has as `name`.
pub fn parse_user(name: &str, text: &str) -> Result<UserId, Error> {
    UserId::parse(text).ok_or_else(|| malformed(name))
}

/// Parses the track id that a request has as `name`, or a prefix of ids, which obeys the same rule.
pub fn parse_track(name: &str, text: &str) -> Result<TrackId, Error> {
    TrackId::parse(text).ok_or_else(|| malformed(name))
}

fn malformed(name: &str) -> Error {
    Error::bad_request(format!(
        "`{name}` must have 1 to {MAX_ID_BYTES} bytes of UTF-8, no control characters, and not be `.` or `..`"
    ))
}

/// Track id that is the path's one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTrackId(pub TrackId);

impl<S: Send + Sync> FromRequestParts<S> for PathTrackId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.ok().and_then(|Path(id)| TrackId::parse(id)).map(Self).ok_or_else(|| malformed("id"))
    }
}
