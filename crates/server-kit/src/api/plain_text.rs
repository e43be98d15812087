//! Short texts in requests that other people's pages show: names, titles, labels.

use super::error::Error;
use primitives::markup::has_markup;

/// Returns the text that a request has as `name`, without blanks around it: 1 to `max_bytes` bytes on one line, and nothing
/// that a browser would take for markup; else 422.
pub fn parse_line(name: &str, text: &str, max_bytes: usize) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() || text.len() > max_bytes {
        return Err(Error::unprocessable(format!("`{name}` must have 1 to {max_bytes} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::unprocessable(format!("`{name}` has control characters; expected one line of plain text")));
    }
    if has_markup(text) {
        return Err(Error::unprocessable(format!("`{name}` has markup; expected plain text")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_plain_and_within_its_bytes() {
        for (text, expected) in [
            (" Morning ", Some("Morning")),
            ("I <3 You", Some("I <3 You")),
            ("x234567890", Some("x234567890")),
            ("x2345678901", None),
            ("", None),
            ("  ", None),
            ("a\nb", None),
            ("a\u{0}", None),
            ("<b>x", None),
            ("<!--", None),
        ] {
            assert_eq!(parse_line("name", text, 10).ok().as_deref(), expected, "{text:?}");
        }
    }
}
