//! `RouteMatch.Headers` and `RouteMatch.QueryParameters`, with YARP's modes. A value that is sent empty counts as not sent.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use url::form_urlencoded;

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// The header's name.
    pub name: HeaderName,
    /// One of these; none for `Exists` and `NotExists`.
    pub values: Vec<String>,
    /// How they are compared.
    pub mode: HeaderMatchMode,
    /// Whether upper and lower case differ (ASCII).
    pub case_sensitive: bool,
}

/// How a header's value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMatchMode {
    /// `ExactHeader`: an element of the header's list equals one of the values.
    #[default]
    Exact,
    /// `HeaderPrefix`: an element begins with one.
    Prefix,
    /// Some line of it contains one.
    Contains,
    /// None does, or it is absent.
    NotContains,
    /// It is there.
    Exists,
    /// It is not.
    NotExists,
}

/// A condition on a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatcher {
    /// The parameter's name, decoded; compared without regard to case, as in YARP.
    pub name: String,
    /// One of these, decoded; none for `Exists`.
    pub values: Vec<String>,
    /// How they are compared.
    pub mode: QueryMatchMode,
    /// Whether upper and lower case differ (ASCII).
    pub case_sensitive: bool,
}

/// How a query parameter's value is compared.
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
    /// It is there.
    Exists,
}

impl HeaderMatcher {
    pub(super) fn accepts(&self, headers: &HeaderMap) -> bool {
        let lines = || headers.get_all(&self.name).iter().map(|line| line.as_bytes()).filter(|line| !line.is_empty());
        let listed = |test: ValueComparison| {
            let separator = if self.name == COOKIE { b';' } else { b',' };
            lines().any(|line| elements(line, separator).any(|element| self.one_of(element, test)))
        };
        match self.mode {
            HeaderMatchMode::Exact => listed(equals),
            HeaderMatchMode::Prefix => listed(starts_with),
            HeaderMatchMode::Contains => lines().any(|line| self.one_of(line, contains)),
            HeaderMatchMode::NotContains => !lines().any(|line| self.one_of(line, contains)),
            HeaderMatchMode::Exists => lines().next().is_some(),
            HeaderMatchMode::NotExists => lines().next().is_none(),
        }
    }

    /// Whether no request is meant for both. Two exact values set routes apart, though a request could send both: it
    /// then takes the route that stands first.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        let apart = match (self.mode, other.mode) {
            (HeaderMatchMode::Exact, HeaderMatchMode::Exact) => {
                disjoint(&self.values, &other.values, self.case_sensitive && other.case_sensitive)
            }
            (HeaderMatchMode::NotExists, other) => {
                !matches!(other, HeaderMatchMode::NotExists | HeaderMatchMode::NotContains)
            }
            (own, HeaderMatchMode::NotExists) => own != HeaderMatchMode::NotContains,
            _ => false,
        };
        apart && self.name == other.name
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

    /// As [`HeaderMatcher::excludes`].
    pub(super) fn excludes(&self, other: &Self) -> bool {
        (self.mode, other.mode) == (QueryMatchMode::Exact, QueryMatchMode::Exact)
            && self.name.eq_ignore_ascii_case(&other.name)
            && disjoint(&self.values, &other.values, self.case_sensitive && other.case_sensitive)
    }
}

/// What was sent, what is wanted, whether case matters.
type ValueComparison = fn(&[u8], &[u8], bool) -> bool;

fn equals(sent: &[u8], value: &[u8], case_sensitive: bool) -> bool {
    if case_sensitive { sent == value } else { sent.eq_ignore_ascii_case(value) }
}

fn starts_with(sent: &[u8], value: &[u8], case_sensitive: bool) -> bool {
    sent.get(..value.len()).is_some_and(|start| equals(start, value, case_sensitive))
}

fn contains(sent: &[u8], value: &[u8], case_sensitive: bool) -> bool {
    value.is_empty() || sent.windows(value.len()).any(|part| equals(part, value, case_sensitive))
}

fn disjoint(one: &[String], two: &[String], case_sensitive: bool) -> bool {
    !one.iter().any(|one| two.iter().any(|two| equals(one.as_bytes(), two.as_bytes(), case_sensitive)))
}

/// The elements of a list (RFC 9110 §5.6.1), without blanks around them and without the quotes of a quoted one.
fn elements(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let parts = line.split(move |&byte| {
        quoted ^= byte == b'"';
        byte == separator && !quoted
    });
    parts.map(|part| {
        let part = part.trim_ascii();
        part.strip_prefix(b"\"").and_then(|part| part.strip_suffix(b"\"")).unwrap_or(part)
    })
}
