//! `RouteMatch.Headers` and `RouteMatch.QueryParameters`, with YARP's modes. A value that is sent empty counts as not
//! sent.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use url::form_urlencoded;

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// The header's name.
    pub name: HeaderName,
    /// Values of which one must match; empty for `Exists` and `NotExists`.
    pub values: Vec<String>,
    /// Comparison of the values.
    pub mode: HeaderMatchMode,
    /// Compares with regard to case (ASCII).
    pub case_sensitive: bool,
}

/// Comparison of a header's value, named as in YARP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMatchMode {
    /// `ExactHeader`: an element of the header's list equals one of the values.
    #[default]
    Exact,
    /// `HeaderPrefix`: an element begins with one of the values.
    Prefix,
    /// A line of the header contains one of the values.
    Contains,
    /// No line contains any of the values, or the header is absent.
    NotContains,
    /// The header is there and not empty.
    Exists,
    /// The header is absent or empty.
    NotExists,
}

/// A condition on a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatcher {
    /// The parameter's name, decoded; compared without regard to case, as in YARP.
    pub name: String,
    /// Values of which one must match, decoded; empty for `Exists`.
    pub values: Vec<String>,
    /// Comparison of the values.
    pub mode: QueryMatchMode,
    /// Compares with regard to case (ASCII).
    pub case_sensitive: bool,
}

/// Comparison of a query parameter's value, named as in YARP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryMatchMode {
    /// It equals one of the values.
    #[default]
    Exact,
    /// It contains one.
    Contains,
    /// It contains none, or is absent.
    NotContains,
    /// It begins with one.
    Prefix,
    /// The parameter is there and not empty.
    Exists,
}

impl HeaderMatcher {
    pub(super) fn accepts(&self, headers: &HeaderMap) -> bool {
        let lines = || headers.get_all(&self.name).iter().map(|line| line.as_bytes()).filter(|line| !line.is_empty());
        let listed = |test: ValueComparison| {
            // Cookies are separated by `; ` (RFC 6265 §4.2.1), the elements of other lists by commas.
            let separator = if self.name == COOKIE { b';' } else { b',' };
            lines().any(|line| elements(line, separator).any(|element| self.one_of(element, test)))
        };
        match self.mode {
            HeaderMatchMode::Exact => listed(equals),
            HeaderMatchMode::Prefix => listed(starts_with),
            // Whole lines, not elements: a wanted value may hold a comma itself.
            HeaderMatchMode::Contains => lines().any(|line| self.one_of(line, contains)),
            HeaderMatchMode::NotContains => !lines().any(|line| self.one_of(line, contains)),
            HeaderMatchMode::Exists => lines().next().is_some(),
            HeaderMatchMode::NotExists => lines().next().is_none(),
        }
    }

    fn one_of(&self, sent: &[u8], test: ValueComparison) -> bool {
        self.values.iter().any(|value| test(sent, value.as_bytes(), self.case_sensitive))
    }
}

impl QueryMatcher {
    pub(super) fn accepts(&self, query: &str) -> bool {
        let sent = || {
            form_urlencoded::parse(query.as_bytes())
                .filter(|(name, value)| name.eq_ignore_ascii_case(&self.name) && !value.is_empty())
        };
        let one_of = |test: ValueComparison| {
            sent().any(|(_, sent)| {
                self.values.iter().any(|value| test(sent.as_bytes(), value.as_bytes(), self.case_sensitive))
            })
        };
        match self.mode {
            QueryMatchMode::Exact => one_of(equals),
            QueryMatchMode::Contains => one_of(contains),
            QueryMatchMode::NotContains => !one_of(contains),
            QueryMatchMode::Prefix => one_of(starts_with),
            QueryMatchMode::Exists => sent().next().is_some(),
        }
    }
}

/// Comparison of a sent value (first) with a wanted one; the flag says that case matters.
pub(super) type ValueComparison = fn(&[u8], &[u8], bool) -> bool;

pub(super) fn equals(sent: &[u8], value: &[u8], case_sensitive: bool) -> bool {
    if case_sensitive { sent == value } else { sent.eq_ignore_ascii_case(value) }
}

pub(super) fn starts_with(sent: &[u8], value: &[u8], case_sensitive: bool) -> bool {
    sent.get(..value.len()).is_some_and(|start| equals(start, value, case_sensitive))
}

pub(super) fn contains(sent: &[u8], value: &[u8], case_sensitive: bool) -> bool {
    // `windows(0)` panics, and every value contains the empty one.
    value.is_empty() || sent.windows(value.len()).any(|part| equals(part, value, case_sensitive))
}

/// Splits a list into its elements (RFC 9110 §5.6.1), without blanks around them and without the quotes of a quoted
/// one.
fn elements(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let parts = line.split(move |&byte| {
        // A separator within quotes belongs to the element. Escaped quotes (`\"`) are not interpreted.
        quoted ^= byte == b'"';
        byte == separator && !quoted
    });
    parts.map(|part| {
        let part = part.trim_ascii();
        part.strip_prefix(b"\"").and_then(|part| part.strip_suffix(b"\"")).unwrap_or(part)
    })
}
