//! Ids of tracks and users: parsed here and nowhere else in the API, so that one that cannot be is refused everywhere
//! alike, by 400.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::error::Error;

/// Longest id, in bytes.
const MAX_BYTES: usize = 256;

/// Whether a text can be an id: what has control characters has no place in PostgreSQL, in a log line or in a header.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The id that a request has as `name`.
pub fn parse<'a>(name: &str, text: &'a str) -> Result<&'a str, Error> {
    if is_id(text) { Ok(text) } else { Err(malformed(name)) }
}

fn malformed(name: &str) -> Error {
    Error::bad_request(format!("`{name}` must have 1 to {MAX_BYTES} bytes of UTF-8 and no control characters"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_to_256_bytes_and_no_control_characters() {
        for (text, expected) in [("a", true), ("ü/:%", true), ("", false), ("a\0", false), ("a\u{85}", false)] {
            assert_eq!(is_id(text), expected, "{text:?}");
        }
        assert!(is_id(&"x".repeat(256)) && !is_id(&"x".repeat(257)));
    }
}
