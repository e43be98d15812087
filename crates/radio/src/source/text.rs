//! Texts that stations send: titles and names, in whatever character set their software has, as plain text.

use encoding_rs::{Encoding, WINDOWS_1251, WINDOWS_1252};

use primitives::markup::without_markup;

/// Longest text that is kept, in bytes.
pub const MAX_TEXT_BYTES: usize = 512;

/// Returns the text that `bytes` are: UTF-8, else Windows-1251 where most letters are Cyrillic in it, else Windows-1252,
/// which has Latin-1 in it; made plain by [`plain_text`].
pub fn decode_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => plain_text(text),
        Err(_) => plain_text(&single_byte_encoding(bytes).decode_without_bom_handling(bytes).0),
    }
}

/// In Latin text letters with accents stand alone among ASCII ones; in Cyrillic text nearly all letters are high bytes.
fn single_byte_encoding(bytes: &[u8]) -> &'static Encoding {
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let high = bytes.iter().filter(|byte| **byte >= 0xC0 || matches!(**byte, 0xA8 | 0xB8)).count();
    let in_row = bytes.windows(3).any(|three| three.iter().all(|byte| *byte >= 0xC0));
    if in_row && high > letters / 2 { WINDOWS_1251 } else { WINDOWS_1252 }
}

/// Returns a text on one line, without control characters and markup, cut to [`MAX_TEXT_BYTES`].
pub fn plain_text(text: &str) -> String {
    // What nobody sees goes first: `<`, one of these and `b>` would be a tag afterwards.
    let visible: String = text.chars().filter(|c| !is_hidden(*c)).collect();
    let mut plain = String::with_capacity(visible.len().min(MAX_TEXT_BYTES));
    for c in without_markup(&visible).chars() {
        let shown = if c.is_control() || c.is_whitespace() { ' ' } else { c };
        if shown == ' ' && (plain.is_empty() || plain.ends_with(' ')) {
            continue;
        }
        if plain.len() + shown.len_utf8() > MAX_TEXT_BYTES {
            break;
        }
        plain.push(shown);
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// Returns true for characters without a shape, and those that turn the direction of writing.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_set_is_read() {
        assert_eq!(decode_text("Ünï – ✓".as_bytes()), "Ünï – ✓");
        assert_eq!(decode_text(b"Beyonc\xe9 - D\xe9j\xe0 Vu \x96 live"), "Beyoncé - Déjà Vu – live");
        assert_eq!(
            decode_text(b"\xca\xe8\xed\xee - \xc3\xf0\xf3\xef\xef\xe0 \xea\xf0\xee\xe2\xe8"),
            "Кино - Группа крови"
        );
        assert_eq!(decode_text(b"ABBA feat. \xca\xe8\xed\xee, \xc0\xeb\xe8\xf1\xe0"), "ABBA feat. Кино, Алиса");
    }

    #[test]
    fn markup_control_characters_and_excess_are_left_out() {
        for (text, plain) in [
            ("<script>alert(1)</script>Song", "alert(1)Song"),
            ("a<img src=x onerror=alert(1)>b", "ab"),
            ("I <3 you & a < b", "I <3 you & a < b"),
            ("cut <b", "cut"),
            ("<<b>img src=x onerror=alert(1)>", "img src=x onerror=alert(1)>"),
            ("<\u{200b}script>x", "x"),
            ("a <\u{0}b>", "a < b>"),
            ("two\r\nlines\u{0}\u{202e}", "two lines"),
            ("  ", ""),
        ] {
            assert_eq!(plain_text(text), plain, "{text:?}");
        }
        assert_eq!(plain_text(&"ü".repeat(1000)).len(), MAX_TEXT_BYTES);
    }
}
