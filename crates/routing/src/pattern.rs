//! Path patterns: `/stream/{**rest}`, `/api/v1/tracks/{id}/stream`. Pure text; knows nothing of routes or stores.
//!
//! A pattern is matched against the raw path as the client wrote it (RFC 3986 §3.3). Literal segments are compared
//! decoded and without regard to case, as YARP does; captured text keeps the client's bytes. A value may have
//! constraints, a default, or be left out (`{id:int}`, `{page=1}`, `{id?}`), as in ASP.NET Core. A slash at the end counts,
//! because to an object store `/a` and `/a/` are two keys, unless the pattern is told to ignore it, as YARP does
//! ([`PathPattern::ignoring_last_slash`]). Whether `%2F` parts segments is the caller's choice ([`Separator`]).

use std::fmt;
use std::str::Utf8Error;
use std::sync::Arc;

use http_semantics::request_path::{PathMark, marks};
use percent_encoding::percent_decode_str;

pub use self::constraint::InvalidConstraint;
use self::segment::{AbsentValue, CapturedSegment, Segment, split_segments};

mod constraint;
mod segment;

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    segments: Vec<Segment>,
    ignores_last_slash: bool,
    text: Box<str>,
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Rank of a pattern among those that match the same path; the smaller comes first. Compared segment by segment:
/// literal, then `{name:constraint}`, `{name}`, `{**name:constraint}`, `{**name}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    kinds: Vec<SegmentKind>,
    // `false` sorts first: `/a/`, which names its slash, comes before an `/a` that ignores one.
    without_last_slash: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SegmentKind {
    // The order of the variants is the precedence: `Ord` is derived from it.
    Literal,
    ConstrainedName,
    Name,
    ConstrainedRest,
    Rest,
}

/// Requests that two patterns, or two routes, both match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// None.
    Never,
    /// Some, while each may match others that the other one does not.
    Partial,
    /// All that one of them matches.
    Whole,
}

impl Specificity {
    /// Returns the rank of a route without a path, which takes every path: that of `/{**rest}`.
    pub fn any() -> Self {
        Self { kinds: vec![SegmentKind::Rest], without_last_slash: true }
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
    /// A constraint that is not known.
    #[error(transparent)]
    Constraint(InvalidConstraint),
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
    "`{{{text}}}` is not a captured value; expected `{{name}}` or `{{**name}}` with letters, digits, `-` and `_`; in a \
     path also `{{name:int}}`, `{{name=default}}` and `{{name?}}`"
)]
pub struct InvalidCaptureName {
    text: String,
}

impl InvalidCaptureName {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned() }
    }
}

impl PathPattern {
    /// Parses a pattern. A missing first slash is added, as YARP does; `/x/**` is short for `/x/{**rest}`. Fails for an
    /// empty text, braces that do not take a whole segment, a rest segment before the end, a name that is invalid or
    /// used twice, and a literal that no request path can have.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        // YARP's host knows `~/a` as another way to write `/a`.
        let path = text.strip_prefix("~/").or_else(|| text.strip_prefix('/')).unwrap_or(text);
        let texts = split_segments(path);
        let mut pattern =
            Self { segments: Vec::with_capacity(texts.len()), ignores_last_slash: false, text: text.into() };
        for (index, segment) in texts.iter().enumerate() {
            let last = index + 1 == texts.len();
            let segment = Segment::parse(segment, last)?;
            if let Segment::Rest(capture) = &segment
                && !last
            {
                return Err(PatternError::RestNotLast { name: capture.name.to_string() });
            }
            if let Some(capture) = segment.capture()
                && pattern.names().any(|known| known.eq_ignore_ascii_case(&capture.name))
            {
                return Err(PatternError::Repeated { name: capture.name.to_string() });
            }
            pattern.segments.push(segment);
        }
        Ok(pattern)
    }

    /// Returns this pattern as one to which `/a` and `/a/` are the same path, as to YARP.
    pub fn ignoring_last_slash(mut self) -> Self {
        self.ignores_last_slash = true;
        self
    }

    /// Returns this pattern as one to which `/a` and `/a/` are two paths.
    pub(super) fn heeding_last_slash(mut self) -> Self {
        self.ignores_last_slash = false;
        self
    }

    /// Returns the captured values of `raw_path`, as the client wrote them; `None` where the pattern does not match.
    pub fn matches(&self, raw_path: &str, separator: Separator) -> Option<Captures> {
        let mut captured = Vec::new();
        let matched = self.walk(raw_path, separator, |name, value| captured.push((Arc::clone(name), Box::from(value))));
        matched.then_some(Captures(captured))
    }

    /// Returns true where the pattern matches `raw_path`. Does not allocate, but for constraints on escaped values.
    pub fn is_match(&self, raw_path: &str, separator: Separator) -> bool {
        self.walk(raw_path, separator, |_, _| ())
    }

    /// Returns true where the pattern matches every path that `other` matches. False where that is not known.
    pub fn covers(&self, other: &Self) -> bool {
        for (at, segment) in self.segments.iter().enumerate() {
            match (segment, other.segments.get(at)) {
                // `/a/{**rest}` matches `/a` too.
                (Segment::Rest(own), _) if own.constraints.is_empty() => return true,
                (Segment::Rest(_), other) => return other == Some(segment),
                (Segment::Literal(one), Some(Segment::Literal(two))) if one == two => {}
                (Segment::Name(own), Some(Segment::Name(others)))
                    if own.covers(others)
                        && (others.absent == AbsentValue::Mismatch || own.absent != AbsentValue::Mismatch) => {}
                // A name takes no empty segment: `/a/{x}` does not match `/a/`.
                (Segment::Name(own), Some(literal @ Segment::Literal(_)))
                    if own.constraints.is_empty() && !literal.is_empty() => {}
                (segment, None) if segment.may_be_absent() => {}
                _ => return false,
            }
        }
        self.segments.len() >= other.segments.len() && (self.ignores_last_slash || !other.ignores_last_slash)
    }

    /// Returns true where the pattern ends with a slash, as `/a/` does and `/` does not.
    pub(super) fn ends_with_slash(&self) -> bool {
        self.segments.len() > 1 && self.segments.last().is_some_and(Segment::is_empty)
    }

    /// Returns true where this pattern is `other` with a slash at its end.
    pub(super) fn is_slash_behind(&self, other: &Self) -> bool {
        self.ends_with_slash() && self.segments[..self.segments.len() - 1] == other.segments[..]
    }

    /// Returns the names that the pattern captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| segment.capture().map(|capture| &*capture.name))
    }

    /// Returns the names that a path which matches may leave without a value (`{name?}`).
    pub fn optional_names(&self) -> impl Iterator<Item = &str> {
        let captures = self.segments.iter().filter_map(Segment::capture);
        captures.filter(|capture| capture.absent == AbsentValue::Nothing).map(|capture| &*capture.name)
    }

    /// Returns the pattern's rank among patterns that match the same path.
    pub fn specificity(&self) -> Specificity {
        let has_last_slash = self.ends_with_slash();
        let counted = &self.segments[..self.segments.len() - usize::from(has_last_slash)];
        let is_free = |capture: &CapturedSegment| capture.constraints.is_empty();
        let kinds = counted.iter().map(|segment| match segment {
            Segment::Literal(_) => SegmentKind::Literal,
            Segment::Name(capture) if is_free(capture) => SegmentKind::Name,
            Segment::Name(_) => SegmentKind::ConstrainedName,
            Segment::Rest(capture) if is_free(capture) => SegmentKind::Rest,
            Segment::Rest(_) => SegmentKind::ConstrainedRest,
        });
        Specificity { kinds: kinds.collect(), without_last_slash: !has_last_slash }
    }

    /// Returns the paths that both patterns match. Both must have the same specificity: then only literals and
    /// constraints tell them apart.
    pub(super) fn overlap(&self, other: &Self) -> Overlap {
        let (mut covers, mut is_covered) = (true, true);
        // The same specificity means the same number of segments, so `zip` leaves none out.
        for pair in self.segments.iter().zip(&other.segments) {
            match pair {
                (Segment::Literal(one), Segment::Literal(two)) if one != two => return Overlap::Never,
                (Segment::Literal(_), _) | (_, Segment::Literal(_)) => {}
                (Segment::Name(one) | Segment::Rest(one), Segment::Name(two) | Segment::Rest(two)) => {
                    if one.excludes(two) {
                        return Overlap::Never;
                    }
                    covers &= one.covers(two);
                    is_covered &= two.covers(one);
                }
            }
        }
        if covers || is_covered { Overlap::Whole } else { Overlap::Partial }
    }

    /// Matches `raw_path` and calls `capture` for each value. On a mismatch some values may have been reported already.
    fn walk<'p>(
        &'p self,
        raw_path: &'p str,
        separator: Separator,
        mut capture: impl FnMut(&Arc<str>, &'p str),
    ) -> bool {
        // `*`, the target of `OPTIONS *` (RFC 9112 §3.2.4), is no path: no pattern matches it.
        let Some(path) = raw_path.strip_prefix('/') else { return false };
        let mut left = Some(path);
        for segment in &self.segments {
            // Nothing is left, or a slash at the end alone: what begins behind it is absent.
            let is_at_end = left.is_none_or(str::is_empty);
            match segment {
                Segment::Rest(rest) => {
                    // `/stream` matches `/stream/{**rest}` too, with nothing captured, as in YARP.
                    let value = match (left.unwrap_or_default(), &rest.absent) {
                        ("", AbsentValue::Default(value)) => value,
                        (value, _) => value,
                    };
                    capture(&rest.name, value);
                    return rest.accepts(value);
                }
                Segment::Name(name) if is_at_end => {
                    match &name.absent {
                        AbsentValue::Mismatch => return false,
                        AbsentValue::Nothing => {}
                        AbsentValue::Default(value) => capture(&name.name, value),
                    }
                    left = None;
                }
                Segment::Literal(_) | Segment::Name(_) => {
                    let Some(path) = left else { return self.ignores_last_slash && segment.is_empty() };
                    let (value, after) = match separator.split(path) {
                        Some((value, after)) => (value, Some(after)),
                        None => (path, None),
                    };
                    left = after;
                    match segment {
                        Segment::Literal(literal) if literal.matches(value) => {}
                        Segment::Name(name) if !value.is_empty() && name.accepts(value) => capture(&name.name, value),
                        _ => return false,
                    }
                }
            }
        }
        left.is_none() || self.ignores_last_slash && left == Some("")
    }
}

/// Returns the name in `name`, `*name` or `**name`, the text between braces. Fails where it is empty or has characters
/// other than letters, digits, `-` and `_`.
pub(super) fn parse_capture_name(inner: &str) -> Result<&str, InvalidCaptureName> {
    let name = inner.strip_prefix("**").or_else(|| inner.strip_prefix('*')).unwrap_or(inner);
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(InvalidCaptureName::new(inner));
    }
    Ok(name)
}

/// Values that a pattern captured from one path, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures(Vec<(Arc<str>, Box<str>)>);

impl Captures {
    /// Returns the value of `name`, in any case, as the client wrote it; `None` where it was not captured.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Returns the value of `name`, percent-decoded once (`+` stays `+`); `None` where it was not captured, an error
    /// where it is not UTF-8.
    pub fn decoded(&self, name: &str) -> Option<Result<String, Utf8Error>> {
        self.get(name).map(|raw| percent_decode_str(raw).decode_utf8().map(String::from))
    }
}

#[cfg(test)]
mod tests;
