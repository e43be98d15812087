//! Ids of users and tracks as types. A text becomes one here and nowhere else, at the edge where it comes in, so that what
//! takes a [`UserId`] needs no check of its own, and a track's id never stands where a user's is meant.

use serde::Serialize;

/// Longest id, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// Returns true if `text` can be an id: 1 to [`MAX_ID_BYTES`] bytes, no control characters, not `.` or `..`
/// ([`is_name`]).
pub fn is_id(text: &str) -> bool {
    text.len() <= MAX_ID_BYTES && is_name(text)
}

/// Returns true where a text can be a name, of any length: not empty, without control characters, and not `.` or `..`,
/// which mean other segments in the path of a URL (RFC 3986 §5.2.4).
pub fn is_name(text: &str) -> bool {
    // PostgreSQL stores no NUL, and line ends could forge a log line or a header.
    !matches!(text, "" | "." | "..") && !text.chars().any(char::is_control)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Returns the id that a text is; `None` where it cannot be one.
            pub fn parse(text: impl Into<Box<str>>) -> Option<Self> {
                let text = text.into();
                is_id(&text).then_some(Self(text))
            }

            /// Returns the id as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

id_type! {
    /// The id of a user, as tokens have it in `sub`.
    UserId
}

id_type! {
    /// The id of a track, or of whatever else has a position.
    TrackId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_to_256_bytes_and_no_control_characters() {
        for (text, expected) in [
            ("a", true),
            ("ü/:%", true),
            ("../a", true),
            ("", false),
            ("..", false),
            ("a\0", false),
            ("a\u{85}", false),
        ] {
            assert_eq!(UserId::parse(text).is_some(), expected, "{text:?}");
            assert_eq!(TrackId::parse(text).is_some(), expected, "{text:?}");
        }
        assert!(is_id(&"x".repeat(256)) && !is_id(&"x".repeat(257)));
    }
}
