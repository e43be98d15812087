//! Names of segments with `$Number$` and the like in them (ISO/IEC 23009-1, §5.3.9.4.4).

use std::borrow::Cow;

use crate::manifest::ManifestFault;

/// Text in the place of an identifier, with its number behind it; no name has it.
const PLACEHOLDER: &str = "tidegate0identifier";

/// A template, whose identifiers are filled in with words that change nothing about where it leads.
pub struct SegmentTemplate<'a> {
    identifiers: Vec<&'a str>,
    example: Cow<'a, str>,
}

impl<'a> SegmentTemplate<'a> {
    /// Reads a template. Players differ in what they make of other `$…$`, and of a `$` alone; an identifier must not complete
    /// an escape or a dot segment, or leave a host behind where a player fills in nothing.
    pub fn parse(text: &'a str) -> Result<Self, ManifestFault> {
        let mut identifiers = Vec::new();
        let mut example = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('$') {
            let (before, from) = rest.split_at(start);
            check_literal(before)?;
            example.push_str(before);
            let end = from[1..].find('$').map_or(from.len(), |length| length + 2);
            let identifier = &from[..end];
            if !is_identifier(identifier) {
                return Err(ManifestFault::Malformed("a `$` that begins none of the identifiers of templates"));
            }
            example.push_str(&format!("{PLACEHOLDER}{}x", identifiers.len()));
            identifiers.push(identifier);
            rest = &from[end..];
        }
        if identifiers.is_empty() {
            return Ok(Self { identifiers, example: Cow::Borrowed(text) });
        }
        check_literal(rest)?;
        example.push_str(rest);
        let mut without = example.clone();
        for (at, identifier) in identifiers.iter().enumerate() {
            if identifier.starts_with("$Time") || identifier.starts_with("$SubNumber") {
                without = without.replace(&format!("{PLACEHOLDER}{at}x"), "");
            }
        }
        if dot_segments(&without) != dot_segments(&example) || without.starts_with('/') != example.starts_with('/') {
            return Err(ManifestFault::Malformed("an identifier without which the template leads somewhere else"));
        }
        Ok(Self { identifiers, example: Cow::Owned(example) })
    }

    /// Returns true where the bandwidth of a representation stands in it.
    pub fn has_bandwidth(&self) -> bool {
        self.identifiers.iter().any(|identifier| identifier.starts_with("$Bandwidth"))
    }

    /// Returns the template, filled in.
    pub fn example(&self) -> &str {
        &self.example
    }

    /// Returns `text`, made of the example, with the identifiers again.
    pub fn restore(&self, text: &str) -> String {
        let all = self.identifiers.iter().enumerate();
        all.fold(text.to_owned(), |text, (at, identifier)| text.replace(&format!("{PLACEHOLDER}{at}x"), identifier))
    }
}

/// Returns true for `$RepresentationID$`, and a number with or without its width: `$Number%05d$`. `$$` is none: players read
/// `$$Number$$` differently.
fn is_identifier(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('$').and_then(|text| text.strip_suffix('$')) else { return false };
    let (name, format) = inner.split_once('%').map_or((inner, None), |(name, format)| (name, Some(format)));
    let is_width = |format: &str| {
        let digits = format.strip_prefix('0').and_then(|format| format.strip_suffix('d'));
        digits.is_some_and(|digits| matches!(digits.len(), 1 | 2) && digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    match name {
        "RepresentationID" => format.is_none(),
        "Number" | "Time" | "Bandwidth" | "SubNumber" => format.is_none_or(is_width),
        _ => false,
    }
}

/// Returns the number of `.` and `..` in a path.
fn dot_segments(path: &str) -> usize {
    path.split(['/', '?', '#']).filter(|segment| matches!(*segment, "." | "..")).count()
}

/// Checks that every escape between identifiers is whole.
fn check_literal(text: &str) -> Result<(), ManifestFault> {
    let is_whole = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    match text.split('%').skip(1).all(is_whole) {
        true => Ok(()),
        false => Err(ManifestFault::Malformed("a `%` in a template that begins no escape")),
    }
}

/// Returns true for an id that leads nowhere else, whatever stands before and behind it in a segment's name.
pub fn is_safe_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~+,=/".contains(c);
    let segments = || id.split('/');
    !id.is_empty()
        && id.chars().all(plain)
        && segments().all(|segment| !segment.is_empty() && !segment.starts_with('.') && !segment.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_filled_in_and_put_back() {
        for (text, count) in [
            ("$RepresentationID$/seg-$Number%05d$.m4s", 2),
            ("a-$Time$.m4s", 1),
            ("plain.m4s", 0),
            ("$Bandwidth%08d$", 1),
            ("$RepresentationID$$SubNumber$", 2),
        ] {
            let template = SegmentTemplate::parse(text).expect(text);
            assert_eq!(template.identifiers.len(), count, "{text}");
            assert_eq!(template.restore(template.example()), text, "{text}");
        }
    }

    #[test]
    fn what_players_fill_in_differently_is_refused() {
        for text in [
            "$RepresentationID%05d$/i.mp4",
            "$representationid$/i.mp4",
            "$NUMBER$.m4s",
            "$Number%d$.m4s",
            "$Number%5d$.m4s",
            "$Number%0999d$.m4s",
            "$Number%05x$.m4s",
            "$Foo$",
            "$",
            "a$b",
            "$$",
            "$$Number$$",
            "%$Number$e",
            "%2$RepresentationID$/a",
            ".$SubNumber$./a",
            "a/$Time$../a",
            "$Time$//evil.example/a",
            "$Time$/a",
        ] {
            assert!(SegmentTemplate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_cannot_complete_a_dot_segment() {
        for (id, expected) in [
            ("v1", true),
            ("video/avc1/1", true),
            ("..", false),
            (".", false),
            ("a/../b", false),
            ("", false),
            ("/a", false),
        ] {
            assert_eq!(is_safe_id(id), expected, "{id:?}");
        }
        assert!(!is_safe_id("http://a") && !is_safe_id("a%2e") && !is_safe_id("a\\b"));
    }
}
