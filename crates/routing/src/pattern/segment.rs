//! Segments of a path pattern: literal text, a captured value, or the rest of the path.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::constraint::{InvalidConstraint, ValueConstraint};
use super::{InvalidCaptureName, PatternError, parse_capture_name};

/// Name of the value that `/**` at the end of a pattern captures.
const DEFAULT_REST_NAME: &str = "rest";
/// Bytes of a default value that are escaped, so that it reads as one that a client wrote.
const NOT_IN_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    Literal(Literal),
    Name(CapturedSegment),
    Rest(CapturedSegment),
}

/// A value that a pattern captures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CapturedSegment {
    pub name: Arc<str>,
    /// Constraints, all of which must hold.
    pub constraints: Vec<ValueConstraint>,
    pub absent: AbsentValue,
}

/// Meaning of a path that ends before a captured segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum AbsentValue {
    /// The path does not match.
    Mismatch,
    /// `{name?}`: it matches, and captures nothing.
    Nothing,
    /// `{name=value}`: it matches, and captures this, escaped as a client would write it.
    Default(Box<str>),
}

impl Segment {
    /// Parses a segment; `last` says that it is the pattern's last.
    pub(super) fn parse(text: &str, last: bool) -> Result<Self, PatternError> {
        if last && text == "**" {
            let name = Arc::from(DEFAULT_REST_NAME);
            return Ok(Self::Rest(CapturedSegment { name, constraints: Vec::new(), absent: AbsentValue::Mismatch }));
        }
        let braced = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if let Some(inner) = braced.and_then(unescaped) {
            let capture = CapturedSegment::parse(&inner)?;
            // `{*name}` and `{**name}` match the same paths, as in ASP.NET routing.
            return Ok(if inner.starts_with('*') { Self::Rest(capture) } else { Self::Name(capture) });
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

    /// Returns what the segment captures; `None` for a literal.
    pub(super) fn capture(&self) -> Option<&CapturedSegment> {
        match self {
            Self::Literal(_) => None,
            Self::Name(capture) | Self::Rest(capture) => Some(capture),
        }
    }

    /// Returns true where a path may end before this segment.
    pub(super) fn may_be_absent(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Name(capture) => capture.absent != AbsentValue::Mismatch,
            Self::Rest(_) => true,
        }
    }

    /// Returns true for the empty literal of a slash at the end.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Literal(text) if text.0.is_empty())
    }
}

impl CapturedSegment {
    /// Parses the text between braces, such as `id`, `**rest`, `id:int:min(1)`, `id?` or `id=5`.
    fn parse(inner: &str) -> Result<Self, PatternError> {
        let end = inner.find([':', '=', '?']).unwrap_or(inner.len());
        let name = Arc::from(parse_capture_name(&inner[..end]).map_err(|_| InvalidCaptureName::new(inner))?);
        let is_rest = inner.starts_with('*');
        let mut rest = &inner[end..];
        let mut constraints = Vec::new();
        while let Some(text) = rest.strip_prefix(':') {
            let (constraint, after) = split_constraint(text);
            // `{id:int?}`: the question mark belongs to the value, as it does in ASP.NET.
            let (constraint, after) = match constraint.strip_suffix('?').filter(|_| after.is_empty()) {
                Some(constraint) => (constraint, "?"),
                None => (constraint, after),
            };
            constraints.push(ValueConstraint::parse(constraint)?);
            rest = after;
        }
        let absent = match rest.split_at_checked(1) {
            None => AbsentValue::Mismatch,
            Some(("?", "")) if !is_rest => AbsentValue::Nothing,
            Some(("=", value)) if !value.is_empty() && !value.ends_with('?') => {
                AbsentValue::Default(utf8_percent_encode(value, NOT_IN_VALUE).to_string().into())
            }
            Some(_) => return Err(InvalidCaptureName::new(inner).into()),
        };
        Ok(Self { name, constraints, absent })
    }

    /// Returns true where all constraints hold for a value as the client wrote it.
    pub(super) fn accepts(&self, value: &str) -> bool {
        self.constraints.iter().all(|constraint| constraint.accepts(value))
    }

    /// Returns true where no value satisfies the constraints of both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.constraints.iter().any(|one| other.constraints.iter().any(|two| one.excludes(two)))
    }

    /// Returns true where every value that `other` takes is taken by this too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.constraints.iter().all(|constraint| other.constraints.contains(constraint))
    }
}

/// Splits the first constraint from the rest of a text, which begins with `:` or `=` or is empty. What stands in
/// parentheses belongs to the constraint; they end where a separator or nothing follows, as in ASP.NET.
fn split_constraint(text: &str) -> (&str, &str) {
    let mut is_within = false;
    for (at, character) in text.char_indices() {
        match character {
            '(' => is_within = true,
            ')' if matches!(text[at + 1..].chars().next(), None | Some(':' | '=' | '?')) => is_within = false,
            ':' | '=' if !is_within => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

/// Returns the text of braces with `{{` and `}}` as single ones; `None` where a brace has no other half.
fn unescaped(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if matches!(character, '{' | '}') && characters.next() != Some(character) {
            return None;
        }
        text.push(character);
    }
    Some(text)
}

/// Splits a pattern into its segments: at slashes, but for those within braces.
pub(super) fn split_segments(path: &str) -> Vec<&str> {
    let (mut segments, mut start, mut is_within) = (Vec::new(), 0, false);
    let bytes = path.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let is_double = bytes.get(at + 1) == Some(byte);
        match byte {
            // A doubled brace within braces is one of an expression.
            b'{' | b'}' if is_within && is_double => at += 1,
            b'{' => is_within = true,
            b'}' => is_within = false,
            b'/' if !is_within => {
                segments.push(&path[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    segments.push(&path[start..]);
    segments
}

/// A literal segment, decoded and in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Literal(Box<str>);

impl Literal {
    /// Parses a literal as it is written in a URL or in plain text: `my%20files` and `my files` are the same. Bytes
    /// that are not UTF-8 become U+FFFD.
    pub(crate) fn parse(text: &str) -> Self {
        Self(percent_decode_str(text).decode_utf8_lossy().to_lowercase().into())
    }

    /// Returns true where a segment of a raw path, decoded, equals this text without regard to case.
    pub(crate) fn matches(&self, raw: &str) -> bool {
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

impl From<InvalidConstraint> for PatternError {
    fn from(error: InvalidConstraint) -> Self {
        Self::Constraint(error)
    }
}
