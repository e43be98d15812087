//! Path patterns: `/stream/{**rest}`, `/api/v1/tracks/{id}/stream`. Pure text; knows nothing of routes or stores.
//!
//! A pattern is matched against the raw path as the client wrote it (RFC 3986 §3.3). Literal segments are compared
//! decoded and without regard to case, as YARP does; captured text keeps the client's bytes. Unlike YARP's, a trailing
//! slash counts: `/a` is not `/a/`, because to an object store they are two keys. Whether `%2F` parts segments is the
//! caller's choice ([`Separator`]).

use std::str::Utf8Error;
use std::sync::Arc;

use http_semantics::request_path::{PathMark, marks};
use percent_encoding::percent_decode_str;

/// Name of the value that `/**` at the end of a pattern captures.
const DEFAULT_REST_NAME: &str = "rest";

/// Separator between the segments of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// A slash as the client wrote it.
    Slash,
    /// A slash, or an escaped one (`%2F`), as in an object's key, which is decoded.
    EscapedSlash,
}

impl Separator {
    /// Returns the text before the first separator of `path` and the text behind it; `None` where there is none.
    fn split(self, path: &str) -> Option<(&str, &str)> {
        let (at, width) = match self {
            Self::Slash => (path.find('/')?, 1),
            Self::EscapedSlash => {
                let is_slash = |(_, mark): &(usize, PathMark)| matches!(mark, PathMark::Slash | PathMark::EscapedSlash);
                let (at, mark) = marks(path.as_bytes()).find(is_slash)?;
                (at, mark.width())
            }
        };
        // Both separators begin and end with ASCII bytes, so the slices end at character boundaries.
        Some((&path[..at], &path[at + width..]))
    }
}

/// Returns true where a raw path contains an escaped slash (`%2F`, `%2f`).
pub fn has_escaped_slash(path: &str) -> bool {
    marks(path.as_bytes()).any(|(_, mark)| mark == PathMark::EscapedSlash)
}

/// A parsed path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Literal),
    Name(Arc<str>),
    Rest(Arc<str>),
}

/// Rank of a pattern among those that match the same path; the smaller comes first. Compared segment by segment:
/// literal, then `{name}`, then `{**name}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity(Vec<SegmentKind>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SegmentKind {
    // The order of the variants is the precedence: `Ord` is derived from it.
    Literal,
    Name,
    Rest,
}

impl Specificity {
    /// Returns the rank of a route without a path, which takes every path: that of `/{**rest}`.
    pub fn any() -> Self {
        Self(vec![SegmentKind::Rest])
    }
}

/// Reason why a text is not a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is empty.
    #[error("the path is empty; expected one such as `/stream/{{**rest}}`")]
    Empty,
    /// `{**rest}` before the end.
    #[error("`{{**{name}}}` takes the rest of the path, so it must be the last segment")]
    RestNotLast {
        /// The value's name.
        name: String,
    },
    /// Braces beside other text, or not in pairs.
    #[error("`{segment}`: a `{{name}}` takes a whole segment between two slashes")]
    PartOfSegment {
        /// The segment.
        segment: String,
    },
    /// The text between braces is not a name.
    #[error(transparent)]
    Name(#[from] InvalidCaptureName),
    /// The same name twice.
    #[error("`{name}` is captured twice; each name can be used once")]
    Repeated {
        /// The name.
        name: String,
    },
    /// A literal that no request path can have.
    #[error("`{segment}` can never match: {reason}")]
    Unmatchable {
        /// The segment.
        segment: String,
        /// The reason, for the operator.
        reason: &'static str,
    },
}

/// Text between braces that is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{{{text}}}` is not a captured value; expected `{{name}}` or `{{**name}}` with letters, digits, `-` and `_` \
     (no constraint, default or `?`)"
)]
pub struct InvalidCaptureName {
    text: String,
}

impl PathPattern {
    /// Parses a pattern. A missing first slash is added, as YARP does; `/x/**` is short for `/x/{**rest}`. Fails for an
    /// empty text, braces that do not take a whole segment, a rest segment before the end, a name that is invalid or
    /// used twice, and a literal that no request path can have.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let path = text.strip_prefix('/').unwrap_or(text);
        let count = path.split('/').count();
        let mut pattern = Self { segments: Vec::with_capacity(count) };
        for (index, segment) in path.split('/').enumerate() {
            let last = index + 1 == count;
            let segment = Segment::parse(segment, last)?;
            if let Segment::Rest(name) = &segment
                && !last
            {
                return Err(PatternError::RestNotLast { name: name.to_string() });
            }
            if let Some(name) = segment.name()
                && pattern.names().any(|known| known == &**name)
            {
                return Err(PatternError::Repeated { name: name.to_string() });
            }
            pattern.segments.push(segment);
        }
        Ok(pattern)
    }

    /// Returns the captured values of `raw_path`, as the client wrote them; `None` where the pattern does not match.
    pub fn matches(&self, raw_path: &str, separator: Separator) -> Option<Captures> {
        let mut captured = Vec::new();
        let matched = self.walk(raw_path, separator, |name, value| captured.push((Arc::clone(name), Box::from(value))));
        matched.then_some(Captures(captured))
    }

    /// Returns true where the pattern matches `raw_path`. Does not allocate.
    pub fn is_match(&self, raw_path: &str, separator: Separator) -> bool {
        self.walk(raw_path, separator, |_, _| ())
    }

    /// Returns true where the pattern matches every path that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        for (at, segment) in self.segments.iter().enumerate() {
            match (segment, other.segments.get(at)) {
                // `/a/{**rest}` matches `/a` too.
                (Segment::Rest(_), _) => return true,
                (Segment::Literal(one), Some(Segment::Literal(two))) if one == two => {}
                (Segment::Name(_), Some(Segment::Name(_))) => {}
                // A name takes no empty segment: `/a/{x}` does not match `/a/`.
                (Segment::Name(_), Some(Segment::Literal(text))) if !text.0.is_empty() => {}
                _ => return false,
            }
        }
        self.segments.len() == other.segments.len()
    }

    /// Returns true where the pattern ends with a slash, as `/a/` does and `/` does not.
    pub(super) fn ends_with_slash(&self) -> bool {
        self.segments.len() > 1 && matches!(self.segments.last(), Some(Segment::Literal(text)) if text.0.is_empty())
    }

    /// Returns the names that the pattern captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| segment.name().map(|name| &**name))
    }

    /// Returns the pattern's rank among patterns that match the same path.
    pub fn specificity(&self) -> Specificity {
        let kinds = self.segments.iter().map(|segment| match segment {
            Segment::Literal(_) => SegmentKind::Literal,
            Segment::Name(_) => SegmentKind::Name,
            Segment::Rest(_) => SegmentKind::Rest,
        });
        Specificity(kinds.collect())
    }

    /// Returns true where some path can match both patterns. Both must have the same specificity: then only literals
    /// tell them apart.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        // The same specificity means the same number of segments, so `zip` leaves none out.
        self.segments.iter().zip(&other.segments).all(|pair| match pair {
            (Segment::Literal(one), Segment::Literal(two)) => one == two,
            _ => true,
        })
    }

    /// Matches `raw_path` and calls `capture` for each value. On a mismatch some values may have been reported already.
    fn walk<'p>(&self, raw_path: &'p str, separator: Separator, mut capture: impl FnMut(&Arc<str>, &'p str)) -> bool {
        // `*`, the target of `OPTIONS *` (RFC 9112 §3.2.4), is no path: no pattern matches it.
        let Some(path) = raw_path.strip_prefix('/') else { return false };
        let mut left = Some(path);
        for segment in &self.segments {
            if let Segment::Rest(name) = segment {
                // `/stream` matches `/stream/{**rest}` too, with nothing captured, as in YARP.
                capture(name, left.unwrap_or_default());
                return true;
            }
            let Some(path) = left else { return false };
            let (value, after) = match separator.split(path) {
                Some((value, after)) => (value, Some(after)),
                None => (path, None),
            };
            left = after;
            match segment {
                Segment::Literal(literal) if literal.matches(value) => {}
                Segment::Name(name) if !value.is_empty() => capture(name, value),
                _ => return false,
            }
        }
        left.is_none()
    }
}

impl Segment {
    fn parse(text: &str, last: bool) -> Result<Self, PatternError> {
        if last && text == "**" {
            return Ok(Self::Rest(Arc::from(DEFAULT_REST_NAME)));
        }
        let braced = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if let Some(inner) = braced.filter(|inner| !inner.contains(['{', '}'])) {
            let name = Arc::from(parse_capture_name(inner)?);
            // `{*name}` and `{**name}` match the same paths, as in ASP.NET routing.
            return Ok(if inner.starts_with('*') { Self::Rest(name) } else { Self::Name(name) });
        }
        if text.contains(['{', '}']) {
            return Err(PatternError::PartOfSegment { segment: text.to_owned() });
        }
        // An empty last segment is the trailing slash of `/a/`; `?` and `#` never occur in a path (RFC 3986 §3.3).
        let reason = if text.is_empty() && !last {
            "an empty segment; write one slash, or let `{**rest}` take the path from here"
        } else if text.contains(['?', '#']) {
            "`?` and `#` end a path; use Match.QueryParameters for the query"
        } else if text.contains('*') {
            "`*` has no meaning here; use `{name}`, or `/**` at the end"
        } else {
            let literal = Literal::parse(text);
            match literal.0.as_ref() {
                "." | ".." => "requests with `.` or `..` segments are refused",
                _ => return Ok(Self::Literal(literal)),
            }
        };
        Err(PatternError::Unmatchable { segment: text.to_owned(), reason })
    }

    fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Literal(_) => None,
            Self::Name(name) | Self::Rest(name) => Some(name),
        }
    }
}

/// A literal segment, decoded and in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal(Box<str>);

impl Literal {
    /// Parses a literal as it is written in a URL or in plain text: `my%20files` and `my files` are the same. Bytes
    /// that are not UTF-8 become U+FFFD.
    pub(super) fn parse(text: &str) -> Self {
        Self(percent_decode_str(text).decode_utf8_lossy().to_lowercase().into())
    }

    /// Returns true where a segment of a raw path, decoded, equals this text without regard to case.
    pub(super) fn matches(&self, raw: &str) -> bool {
        // The usual case needs no allocation: bytes are compared as they are decoded. A segment is never shorter than
        // its decoded form, so most mismatches end at the length.
        if self.0.is_ascii() {
            raw.len() >= self.0.len()
                && percent_decode_str(raw).map(|byte| byte.to_ascii_lowercase()).eq(self.0.bytes())
        } else {
            percent_decode_str(raw).decode_utf8().is_ok_and(|text| text.to_lowercase() == *self.0)
        }
    }
}

/// Returns the name in `name`, `*name` or `**name`, the text between braces. Fails where it is empty or has characters
/// other than letters, digits, `-` and `_`.
pub(super) fn parse_capture_name(inner: &str) -> Result<&str, InvalidCaptureName> {
    let name = inner.strip_prefix("**").or_else(|| inner.strip_prefix('*')).unwrap_or(inner);
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(InvalidCaptureName { text: inner.to_owned() });
    }
    Ok(name)
}

/// Values that a pattern captured from one path, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures(Vec<(Arc<str>, Box<str>)>);

impl Captures {
    /// Returns the value of `name` as the client wrote it; `None` where it was not captured.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }

    /// Returns the value of `name`, percent-decoded once (`+` stays `+`); `None` where it was not captured, an error
    /// where it is not UTF-8.
    pub fn decoded(&self, name: &str) -> Option<Result<String, Utf8Error>> {
        self.get(name).map(|raw| percent_decode_str(raw).decode_utf8().map(String::from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::{Captures, PathPattern, PatternError, Separator, has_escaped_slash};

    type Values = &'static [(&'static str, &'static str)];

    fn captured(pattern: &str, path: &str) -> Option<Captures> {
        PathPattern::parse(pattern).expect("a valid pattern").matches(path, Separator::Slash)
    }

    #[test]
    fn paths_match_and_capture_their_raw_bytes() {
        let cases: [(&str, &str, Values); 20] = [
            ("/", "/", &[]),
            ("/health", "/HEALTH", &[]),
            ("/health", "/he%61lth", &[]),
            ("/my files", "/my%20Files", &[]),
            ("/my%20files", "/my%20files", &[]),
            ("/étoile", "/%C3%89toile", &[]),
            ("/a/", "/a/", &[]),
            ("/stream/{**rest}", "/stream/A/b.mp3", &[("rest", "A/b.mp3")]),
            ("/stream/{**rest}", "/Stream//a//b/", &[("rest", "/a//b/")]),
            ("/stream/{**rest}", "/stream/", &[("rest", "")]),
            ("/stream/{**rest}", "/stream", &[("rest", "")]),
            ("/stream/{**catch-all}", "/stream/%2F%252F+%20", &[("catch-all", "%2F%252F+%20")]),
            ("/stream/{*rest}", "/stream/a/b", &[("rest", "a/b")]),
            ("/stream/**", "/stream/a/b", &[("rest", "a/b")]),
            ("/**", "/", &[("rest", "")]),
            ("{**all}", "/a/b", &[("all", "a/b")]),
            ("/t/{id}/stream", "/t/a%2Fb/stream", &[("id", "a%2Fb")]),
            ("/t/{id}", "/t/%C3%A9", &[("id", "%C3%A9")]),
            ("/{user}/{**key}", "/Ann/x/y", &[("user", "Ann"), ("key", "x/y")]),
            ("/{user}/{**key}", "/Ann", &[("user", "Ann"), ("key", "")]),
        ];
        for (pattern, path, expected) in cases {
            let captures = captured(pattern, path).unwrap_or_else(|| panic!("{pattern} must match {path}"));
            for (name, value) in expected {
                assert_eq!(captures.get(name), Some(*value), "{pattern} on {path}");
            }
            assert_eq!(captures.0.len(), expected.len(), "{pattern} on {path}");
        }
    }

    #[test]
    fn other_paths_do_not_match() {
        let cases = [
            ("/", "/a"),
            ("/", ""),
            ("/health", "/health/"),
            ("/health", "/healthy"),
            ("/health", "/h"),
            ("/a/", "/a"),
            ("/a/b", "/a%2Fb"),
            ("/étoile", "/%E9toile"),
            ("/stream/{**rest}", "/streams/a"),
            ("/stream/{**rest}", "//stream/a"),
            ("/t/{id}", "/t/"),
            ("/t/{id}", "/t"),
            ("/t/{id}", "/t/a/b"),
            ("/t/{id}", "/t/a/"),
            ("/t/{id}/stream", "/t//stream"),
            ("{**all}", "*"),
        ];
        for (pattern, path) in cases {
            assert_eq!(captured(pattern, path), None, "{pattern} must not match {path}");
        }
    }

    #[test]
    fn an_escaped_slash_parts_segments_where_it_is_asked_to() {
        let cases: [(&str, &str, Option<Values>); 8] = [
            ("/a/b", "/a%2Fb", Some(&[])),
            ("/a/{x}/{**rest}", "/a%2fb%2Fc/d%2F", Some(&[("x", "b"), ("rest", "c/d%2F")])),
            ("/a/{x}", "/a/b%2Fc", None),
            ("/a/{x}", "/a/b%252Fc", Some(&[("x", "b%252Fc")])),
            ("/a/{x}", "/a%2F", None),
            ("/a/{**rest}", "/a%2F", Some(&[("rest", "")])),
            ("/étoile/{x}", "/%C3%89toile%2Fb", Some(&[("x", "b")])),
            ("/a/{x}", "/a/%2", Some(&[("x", "%2")])),
        ];
        for (pattern, path, expected) in cases {
            let parsed = PathPattern::parse(pattern).expect("a valid pattern");
            let captures = parsed.matches(path, Separator::EscapedSlash);
            assert_eq!(captures.is_some(), expected.is_some(), "{pattern} on {path}");
            for (name, value) in expected.unwrap_or_default() {
                assert_eq!(
                    captures.as_ref().and_then(|captures| captures.get(name)),
                    Some(*value),
                    "{pattern} on {path}"
                );
            }
        }
        assert!(has_escaped_slash("/a%2fb") && !has_escaped_slash("/a%252Fb/%2"));
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let cases = [
            ("/{**x}", "/a/b", true),
            ("/a/{**x}", "/a", true),
            ("/a/{**x}", "/a/{b}/{**c}", true),
            ("/a/{**x}", "/b/{**x}", false),
            ("/a/{b}", "/a/b", true),
            ("/a/{b}", "/a/{**b}", false),
            ("/a/{b}", "/a/b/c", false),
            ("/a/{b}", "/a/", false),
            ("/a/b", "/A/b", true),
            ("/a/b", "/a/{x}", false),
        ];
        for (one, other, expected) in cases {
            let parse = |text| PathPattern::parse(text).expect("a valid pattern");
            assert_eq!(parse(one).covers(&parse(other)), expected, "{one} {other}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_refused_with_the_reason() {
        let cases = [
            ("", "empty"),
            ("/{**a}/b", "must be the last"),
            ("/a/{id}.mp3", "a whole segment"),
            ("/a/{id", "a whole segment"),
            ("/a/id}", "a whole segment"),
            ("/{a}{b}", "a whole segment"),
            ("/{}", "not a captured value"),
            ("/{id:int}", "no constraint"),
            ("/{id?}", "no constraint"),
            ("/{**}", "not a captured value"),
            ("/{***a}", "not a captured value"),
            ("/{a}/{a}", "captured twice"),
            ("/**/a", "no meaning"),
            ("/a*", "no meaning"),
            ("/a?b=c", "QueryParameters"),
            ("/a//b", "an empty segment"),
            ("/a/../b", "refused"),
            ("/%2e", "refused"),
        ];
        for (text, part) in cases {
            let error = PathPattern::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(PathPattern::parse(""), Err(PatternError::Empty));
    }

    #[test]
    fn literals_come_before_names_and_names_before_the_rest() {
        let ordered = ["/a", "/a/b", "/a/{x}", "/a/{**x}", "/{x}/b", "/{x}/{y}", "/{x}/{**y}", "/{**x}"];
        let ranks: Vec<_> =
            ordered.iter().map(|text| PathPattern::parse(text).expect("a valid pattern").specificity()).collect();
        assert!(ranks.is_sorted_by(|one, two| one < two), "{ranks:?}");
    }

    #[test]
    fn decoding_happens_once_and_needs_utf8() {
        let captures = captured("/{**k}", "/a+b%252F%20%C3%A9").expect("a match");
        assert_eq!(captures.decoded("k").expect("captured").expect("UTF-8"), "a+b%2F é");
        let captures = captured("/{**k}", "/%FF").expect("a match");
        assert!(captures.decoded("k").expect("captured").is_err());
        assert!(captures.decoded("other").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_text_parses_or_is_refused_and_matching_never_panics(text in any::<String>(), path in any::<String>()) {
            if let Ok(pattern) = PathPattern::parse(&text) {
                for separator in [Separator::Slash, Separator::EscapedSlash] {
                    prop_assert_eq!(pattern.is_match(&path, separator), pattern.matches(&path, separator).is_some());
                }
            }
        }

        #[test]
        fn the_rest_is_kept_byte_by_byte(rest in "[ -~]{0,40}") {
            let captures = captured("/x/{**rest}", &format!("/x/{rest}")).expect("it takes everything");
            prop_assert_eq!(captures.get("rest"), Some(&*rest));
        }
    }
}
