//! File names in `Content-Disposition` (RFC 6266): the name under which a client stores what it gets.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Bytes that are escaped in an extended value: all but `attr-char` (RFC 8187 §3.2.1).
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Returns the parameters that say the file name of the object `key`, its last segment: `filename="a.mp3"`, and
/// `filename*` beside it where the name has characters that the first cannot have (RFC 6266 §4.3). `None` where the key
/// ends with a slash and so has no name.
pub fn file_name_parameters(key: &str) -> Option<String> {
    // A backslash separates folders on Windows, where a client may store the file.
    let name = key.rsplit(['/', '\\']).next().filter(|name| !name.is_empty())?;
    let name: String = name.chars().map(|c| if is_hidden(c) { '_' } else { c }).collect();
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut parameters = format!("filename=\"{plain}\"");
    if plain != name {
        parameters.push_str("; filename*=UTF-8''");
        parameters.extend(utf8_percent_encode(&name, NOT_ATTR_CHAR));
    }
    Some(parameters)
}

/// Returns true for what no reader of a name sees: controls, and marks by which `exe.gpj` is shown as `jpg.exe`.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns true for a character that every client reads the same in a quoted string: not `\` and `"`, which must be
/// escaped, and not `%`, which some take for the beginning of an escape (RFC 6266, appendix D).
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn the_name_is_the_last_segment_of_the_key() {
        for (key, expected) in [
            ("a.mp3", Some(r#"filename="a.mp3""#)),
            ("albums/one/a b.mp3", Some(r#"filename="a b.mp3""#)),
            ("a;b, c=d.mp3", Some(r#"filename="a;b, c=d.mp3""#)),
            ("windows\\c.mp3", Some(r#"filename="c.mp3""#)),
            ("é€.mp3", Some(r#"filename="__.mp3"; filename*=UTF-8''%C3%A9%E2%82%AC.mp3"#)),
            (r#"say "hi".mp3"#, Some(r#"filename="say _hi_.mp3"; filename*=UTF-8''say%20%22hi%22.mp3"#)),
            ("50%25.mp3", Some(r#"filename="50_25.mp3"; filename*=UTF-8''50%2525.mp3"#)),
            ("a'(b)*.mp3", Some(r#"filename="a'(b)*.mp3""#)),
            ("\u{202e}3pm.exe\u{7}", Some(r#"filename="_3pm.exe_""#)),
            ("folder/", None),
            ("", None),
        ] {
            assert_eq!(file_name_parameters(key).as_deref(), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_name_can_stand_in_a_header_and_is_read_back(key in any::<String>()) {
            if let Some(parameters) = file_name_parameters(&key) {
                prop_assert!(HeaderValue::from_str(&parameters).is_ok() && parameters.is_ascii());
                if let Some((_, extended)) = parameters.split_once("filename*=UTF-8''") {
                    let name = key.rsplit(['/', '\\']).next().unwrap_or_default();
                    let name: String = name.chars().map(|c| if is_hidden(c) { '_' } else { c }).collect();
                    prop_assert_eq!(percent_decode_str(extended).decode_utf8_lossy(), name);
                }
            }
        }
    }
}
