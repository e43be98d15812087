//! Names of segments with `$Number$` and the like in them (ISO/IEC 23009-1, §5.3.9.4.4).

use std::borrow::Cow;

/// Text in the place of an identifier, with its number behind it; no name has it.
const PLACEHOLDER: &str = "tidegate0identifier";

/// A template, whose identifiers are filled in with words that change nothing about where it leads.
pub struct SegmentTemplate<'a> {
    identifiers: Vec<&'a str>,
    example: Cow<'a, str>,
}

impl<'a> SegmentTemplate<'a> {
    /// Reads a template. A `$…$` that is no identifier stands for itself.
    pub fn parse(text: &'a str) -> Self {
        let mut identifiers = Vec::new();
        let mut example = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('$') {
            let (before, from) = rest.split_at(start);
            example.push_str(before);
            let end = from[1..].find('$').map_or(from.len(), |length| length + 2);
            let identifier = &from[..end];
            if is_identifier(identifier) {
                example.push_str(&format!("{PLACEHOLDER}{}x", identifiers.len()));
                identifiers.push(identifier);
            } else {
                example.push('$');
                rest = &from[1..];
                continue;
            }
            rest = &from[end..];
        }
        if identifiers.is_empty() {
            return Self { identifiers, example: Cow::Borrowed(text) };
        }
        example.push_str(rest);
        Self { identifiers, example: Cow::Owned(example) }
    }

    /// Returns true where the id of a representation stands in it.
    pub fn has_representation_id(&self) -> bool {
        self.identifiers.contains(&"$RepresentationID$")
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

/// Returns true for `$$`, `$RepresentationID$`, and a number with or without its width: `$Number%05d$`.
fn is_identifier(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('$').and_then(|text| text.strip_suffix('$')) else { return false };
    let (name, format) = inner.split_once('%').map_or((inner, None), |(name, format)| (name, Some(format)));
    let is_width = |format: &str| {
        let digits = format.strip_prefix('0').and_then(|format| format.strip_suffix('d'));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    match name {
        "" | "RepresentationID" => text.len() > 1 && format.is_none(),
        "Number" | "Time" | "Bandwidth" | "SubNumber" => format.is_none_or(is_width),
        _ => false,
    }
}

/// Returns true for an id that leads nowhere else, whatever stands before and behind it in a segment's name.
pub fn is_safe_id(id: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.~+,=@!/ ".contains(c);
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
            ("a$$b-$Time$.m4s", 2),
            ("$Number%d$ $Foo$ $", 0),
            ("plain.m4s", 0),
            ("$Bandwidth%08d$", 1),
        ] {
            let template = SegmentTemplate::parse(text);
            assert_eq!(template.identifiers.len(), count, "{text}");
            assert_eq!(template.restore(template.example()), text, "{text}");
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
