//! Texts with names in braces, `tracks/{id}.mp3` (RFC 6570 §1.2, level 1): where the names are. What a name may be, and
//! how its value is escaped, is up to who renders the text.

/// Part of a text with names in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplatePart<'a> {
    /// Text that stands for itself, never empty. A brace without its other half is part of it.
    Literal(&'a str),
    /// Text between two braces.
    Name(&'a str),
}

/// Returns the parts of `text` in order.
pub fn parts(mut text: &str) -> Vec<TemplatePart<'_>> {
    let mut parts = Vec::new();
    while let Some((before, (name, after))) =
        text.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        parts.extend(literal(before));
        parts.push(TemplatePart::Name(name));
        text = after;
    }
    parts.extend(literal(text));
    parts
}

fn literal(text: &str) -> Option<TemplatePart<'_>> {
    (!text.is_empty()).then_some(TemplatePart::Literal(text))
}

#[cfg(test)]
mod tests {
    use super::TemplatePart::{Literal, Name};
    use super::*;

    #[test]
    fn a_text_is_split_at_pairs_of_braces() {
        for (text, expected) in [
            ("", vec![]),
            ("plain", vec![Literal("plain")]),
            ("{id}", vec![Name("id")]),
            ("a/{id}.{*rest}", vec![Literal("a/"), Name("id"), Literal("."), Name("*rest")]),
            ("{a}{b}", vec![Name("a"), Name("b")]),
            ("a}b{c", vec![Literal("a}b{c")]),
            ("{a}{b", vec![Name("a"), Literal("{b")]),
            ("{}", vec![Name("")]),
            ("{a{b}}", vec![Name("a{b"), Literal("}")]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}
