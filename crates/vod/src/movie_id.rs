//! Ids of films in paths.

use primitives::ids::TrackId;
use server_kit::api::error::Error;
use server_kit::api::id;

/// Parses a film's id, which is one segment of a path and of a key.
pub(crate) fn movie_id(text: &str) -> Result<TrackId, Error> {
    let movie = id::parse_track("movie_id", text)?;
    match text.contains(['/', '\\']) {
        true => Err(Error::bad_request("`movie_id` must not contain a slash")),
        false => Ok(movie),
    }
}
