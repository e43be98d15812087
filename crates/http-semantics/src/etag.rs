//! Entity tags and lists of them (RFC 9110 §8.8.3, §13.1.1, §13.1.2). The consequences of a match are in `conditional`.

use http::HeaderValue;

/// An entity tag, weak or strong, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(HeaderValue);

impl ETag {
    /// Parses `"…"` or `W/"…"`; `None` for anything else, an unquoted tag too.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match split_tag(text.trim_ascii())? {
            (tag, b"") => HeaderValue::from_bytes(tag).ok().map(Self),
            _ => None,
        }
    }

    /// Returns true if the tag promises the same bytes, not only the same meaning.
    pub fn is_strong(&self) -> bool {
        !self.0.as_bytes().starts_with(b"W/")
    }

    /// Compares strongly (§8.8.3.2): equal, and both strong. Ranges and `If-Match` need this.
    pub fn strong_eq(&self, other: &Self) -> bool {
        self.is_strong() && self.0 == other.0
    }

    /// Compares weakly (§8.8.3.2): equal whether weak or strong. `If-None-Match` needs this.
    pub fn weak_eq(&self, other: &Self) -> bool {
        self.opaque() == other.opaque()
    }

    /// Returns the header value, as it was received.
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }

    fn opaque(&self) -> &[u8] {
        let tag = self.0.as_bytes();
        tag.strip_prefix(b"W/").unwrap_or(tag)
    }
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagCondition {
    /// `*`: any tag, if the object exists.
    Any,
    /// One of these.
    List(Vec<ETag>),
}

impl ETagCondition {
    /// Parses all lines of one header; `None` where there is none. Invalid tags are left out of the list and match
    /// nothing: a broken `If-Match` fails, and a broken `If-None-Match` gives the object.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Option<Self> {
        let mut lines = lines.into_iter().map(|line| line.as_bytes().trim_ascii()).peekable();
        let first = *lines.peek()?;
        let mut tags = Vec::new();
        let mut alone = true;
        for (number, line) in lines.enumerate() {
            alone = number == 0;
            collect_tags(line, &mut tags);
        }
        // §13.1.1: `*` stands alone; as one element of a list it is no tag, and matches nothing.
        Some(if alone && first == b"*" { Self::Any } else { Self::List(tags) })
    }

    /// Returns true if `current` matches by strong comparison; an object without a tag matches only `*`.
    pub fn matches_strong(&self, current: Option<&ETag>) -> bool {
        self.matches(current, ETag::strong_eq)
    }

    /// Returns true if `current` matches by weak comparison; an object without a tag matches only `*`.
    pub fn matches_weak(&self, current: Option<&ETag>) -> bool {
        self.matches(current, ETag::weak_eq)
    }

    fn matches(&self, current: Option<&ETag>, equal: fn(&ETag, &ETag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => current.is_some_and(|current| tags.iter().any(|tag| equal(tag, current))),
        }
    }
}

fn collect_tags(line: &[u8], tags: &mut Vec<ETag>) {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if let Some((tag, after)) = split_tag(rest) {
            let after = after.trim_ascii_start();
            // Text between a tag and the next comma makes the element malformed: the tag before it is not taken either.
            if after.is_empty() || after.starts_with(b",") {
                tags.extend(HeaderValue::from_bytes(tag).ok().map(ETag));
            }
            rest = after;
        }
        let Some(comma) = rest.iter().position(|byte| *byte == b',') else { return };
        rest = &rest[comma + 1..];
    }
}

/// Splits off the tag at the beginning of `text`. A comma inside the quotes belongs to the tag.
fn split_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = text.strip_prefix(b"W/").unwrap_or(text).strip_prefix(b"\"")?;
    let length = quoted.iter().position(|byte| *byte == b'"')?;
    // §8.8.3 etagc: no blanks and no control characters, but bytes from 0x80 are allowed.
    let sound = quoted[..length].iter().all(|byte| matches!(byte, 0x21..=0x7e | 0x80..));
    let end = text.len() - quoted.len() + length + 1;
    sound.then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn tag(text: &str) -> ETag {
        ETag::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn only_quoted_tags_are_tags() {
        let table = [
            // RFC 9110 §8.8.3
            ("\"xyzzy\"", true),
            ("W/\"xyzzy\"", true),
            ("\"\"", true),
            ("\"d41d8cd9-5\"", true),
            ("\"a,b\"", true),
            ("\"caf\u{e9}\"", true),
            ("", false),
            ("\"", false),
            ("xyzzy", false),
            ("w/\"xyzzy\"", false),
            ("W/xyzzy", false),
            ("W/ \"xyzzy\"", false),
            ("\"a b\"", false),
            ("\"a\"b", false),
            ("\"a\", \"b\"", false),
            ("\"a\tb\"", false),
        ];
        for (text, expected) in table {
            assert_eq!(ETag::parse(text.as_bytes()).is_some(), expected, "{text:?}");
        }
    }

    #[test]
    fn tags_compare_as_the_rfc_shows() {
        // RFC 9110 §8.8.3.2: first, second, strong, weak
        let table = [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
            ("\"1\"", "\"2\"", false, false),
        ];
        for (first, second, strong, weak) in table {
            let (first, second) = (tag(first), tag(second));
            assert_eq!((first.strong_eq(&second), second.strong_eq(&first)), (strong, strong), "{first:?} {second:?}");
            assert_eq!((first.weak_eq(&second), second.weak_eq(&first)), (weak, weak), "{first:?} {second:?}");
        }
    }

    #[test]
    fn lists_are_read_over_all_lines() {
        let list = |tags: &[&str]| Some(ETagCondition::List(tags.iter().map(|text| tag(text)).collect()));
        let table: [(&[&str], _); 12] = [
            (&[], None),
            (&["*"], Some(ETagCondition::Any)),
            (&[" * "], Some(ETagCondition::Any)),
            // RFC 9110 §13.1.1 and §13.1.2
            (&["\"xyzzy\""], list(&["\"xyzzy\""])),
            (&["\"xyzzy\", \"r2d2xxxx\", \"c3piozzzz\""], list(&["\"xyzzy\"", "\"r2d2xxxx\"", "\"c3piozzzz\""])),
            (&["W/\"xyzzy\", W/\"r2d2xxxx\""], list(&["W/\"xyzzy\"", "W/\"r2d2xxxx\""])),
            (&["\"a\"", "\"b\""], list(&["\"a\"", "\"b\""])),
            (&["\"a,b\",,\"c\","], list(&["\"a,b\"", "\"c\""])),
            (&["a, \"b\"x, \"c\""], list(&["\"c\""])),
            (&["*, \"a\""], list(&["\"a\""])),
            (&["*", "*"], list(&[])),
            (&["\"a"], list(&[])),
        ];
        for (lines, expected) in table {
            let values: Vec<_> = lines.iter().map(|line| HeaderValue::from_str(line).expect(line)).collect();
            assert_eq!(ETagCondition::parse(&values), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_object_without_a_tag_matches_only_the_star() {
        assert!(ETagCondition::Any.matches_strong(None) && ETagCondition::Any.matches_weak(None));
        let list = ETagCondition::List(vec![tag("\"a\"")]);
        assert!(!list.matches_strong(None) && !list.matches_weak(None));
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in r#"[\x20-\x7e]{0,40}|[ ,*W/"a]{0,40}"#, bytes in any::<Vec<u8>>()) {
            let _ = ETag::parse(&bytes);
            let value = HeaderValue::from_str(&line).expect("printable");
            prop_assert!(ETagCondition::parse([&value]).is_some());
        }
    }
}
