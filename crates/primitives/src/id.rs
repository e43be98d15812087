//! Ids of users and tracks: the one rule for what can be an id, wherever it comes from.

/// Longest id, in bytes.
pub const MAX_BYTES: usize = 256;

/// Returns true where a text can be an id: a name of at most [`MAX_BYTES`] bytes.
pub fn is_id(text: &str) -> bool {
    text.len() <= MAX_BYTES && is_name(text)
}

/// Returns true where a text can be a name, of any length: not empty, without control characters, and not `.` or `..`,
/// which mean other segments in the path of a URL (RFC 3986 §5.2.4).
pub fn is_name(text: &str) -> bool {
    // PostgreSQL stores no NUL, and line ends could forge a log line or a header.
    !matches!(text, "" | "." | "..") && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_to_256_bytes_and_no_control_characters() {
        for (text, expected) in [
            ("a", true),
            ("ü/:%", true),
            ("...", true),
            ("../a", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a\0", false),
            ("a\u{85}", false),
        ] {
            assert_eq!(is_id(text), expected, "{text:?}");
        }
        assert!(is_id(&"x".repeat(256)) && !is_id(&"x".repeat(257)));
    }
}
