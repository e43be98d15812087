//! Which requests two routes of the same rank both match. The rank puts neither first, so a route table is refused where
//! nothing keeps such routes apart, and warned of where some requests satisfy both.

use super::matcher::{
    HeaderMatchMode, HeaderMatcher, QueryMatchMode, QueryMatcher, ValueComparison, contains, equals, starts_with,
};
use super::{HostPattern, RouteMatch};
use crate::pattern::Overlap;

/// Returns the requests that both matches hold for; they have the same rank, `hosts` aside, which are the patterns that they
/// are looked at under.
pub(super) fn overlap(one: &RouteMatch, two: &RouteMatch, hosts: Option<(&HostPattern, &HostPattern)>) -> Overlap {
    let hosts = hosts.map_or(Overlap::Whole, |(one, two)| one.overlap(two));
    // At the same rank both routes name methods or neither does. A route with GET and one with HEAD do not tie: the table
    // prefers the one that names HEAD.
    let is_shared = one.methods.is_empty() || one.methods.iter().any(|method| two.methods.contains(method));
    let paths = match (&one.path, &two.path) {
        (Some(one), Some(two)) => one.overlap(two),
        _ => Overlap::Whole,
    };
    let excludes = one.headers.iter().any(|one| two.headers.iter().any(|two| one.excludes(two)))
        || one.query.iter().any(|one| two.query.iter().any(|two| one.excludes(two)));
    if !is_shared || excludes || hosts == Overlap::Never || paths == Overlap::Never {
        return Overlap::Never;
    }
    let is_whole = implies(one, two) || implies(two, one);
    match (hosts, paths) {
        (Overlap::Whole, Overlap::Whole) if is_whole => Overlap::Whole,
        _ => Overlap::Partial,
    }
}

/// Returns true where every header and query that satisfies `one` satisfies `two`.
fn implies(one: &RouteMatch, two: &RouteMatch) -> bool {
    two.headers.iter().all(|two| one.headers.iter().any(|one| one.implies(two)))
        && two.query.iter().all(|two| one.query.iter().any(|one| one.implies(two)))
}

/// A condition on a value, of a header or a query parameter, whose modes are some of a header's.
struct ValueCondition<'a> {
    mode: HeaderMatchMode,
    values: &'a [String],
    case_sensitive: bool,
}

impl HeaderMatcher {
    /// Returns true where no request is meant for both conditions. Two different exact values keep routes apart,
    /// although a request could send both: it then takes the route that stands first.
    fn excludes(&self, other: &Self) -> bool {
        self.name == other.name && self.condition().excludes(&other.condition())
    }

    /// Returns true where every request that satisfies this condition satisfies `other`.
    fn implies(&self, other: &Self) -> bool {
        self.name == other.name && self.condition().implies(&other.condition())
    }

    fn condition(&self) -> ValueCondition<'_> {
        ValueCondition { mode: self.mode, values: &self.values, case_sensitive: self.case_sensitive }
    }
}

impl QueryMatcher {
    /// Returns true where no request is meant for both conditions. A request that sends the parameter twice can satisfy
    /// two exact values all the same: it takes the route that stands first.
    fn excludes(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name) && self.condition().excludes(&other.condition())
    }

    /// Returns true where every request that satisfies this condition satisfies `other`.
    fn implies(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name) && self.condition().implies(&other.condition())
    }

    fn condition(&self) -> ValueCondition<'_> {
        let mode = match self.mode {
            QueryMatchMode::Exact => HeaderMatchMode::Exact,
            QueryMatchMode::Prefix => HeaderMatchMode::Prefix,
            QueryMatchMode::Contains => HeaderMatchMode::Contains,
            QueryMatchMode::NotContains => HeaderMatchMode::NotContains,
            QueryMatchMode::Exists => HeaderMatchMode::Exists,
        };
        ValueCondition { mode, values: &self.values, case_sensitive: self.case_sensitive }
    }
}

impl ValueCondition<'_> {
    /// Returns true where no single value satisfies both.
    fn excludes(&self, other: &Self) -> bool {
        // If either ignores case, values that differ in case only can both match.
        let case = self.case_sensitive && other.case_sensitive;
        let none = |test: ValueComparison| !pairs(self, other).any(|(own, other)| test(own, other, case));
        let all = |test: ValueComparison| {
            self.values.iter().all(|own| other.values.iter().any(|it| test(own.as_bytes(), it.as_bytes(), case)))
        };
        match (self.mode, other.mode) {
            (HeaderMatchMode::NotExists, mode) => {
                !matches!(mode, HeaderMatchMode::NotExists | HeaderMatchMode::NotContains)
            }
            (HeaderMatchMode::Exact, HeaderMatchMode::Exact) => none(equals),
            (HeaderMatchMode::Exact, HeaderMatchMode::Prefix) => none(starts_with),
            (HeaderMatchMode::Exact, HeaderMatchMode::Contains) => none(contains),
            (HeaderMatchMode::Prefix, HeaderMatchMode::Prefix) => {
                none(starts_with) && !pairs(self, other).any(|(own, it)| starts_with(it, own, case))
            }
            // `NotContains` looks at all that is sent, so a value that has one of its texts cannot be beside it.
            (
                HeaderMatchMode::Exact | HeaderMatchMode::Prefix | HeaderMatchMode::Contains,
                HeaderMatchMode::NotContains,
            ) => all(contains),
            // The other way round, where the pair has not been looked at yet.
            (
                HeaderMatchMode::Prefix | HeaderMatchMode::Contains | HeaderMatchMode::NotContains,
                HeaderMatchMode::Exact,
            )
            | (HeaderMatchMode::NotContains, HeaderMatchMode::Prefix | HeaderMatchMode::Contains)
            | (
                HeaderMatchMode::Exact | HeaderMatchMode::Prefix | HeaderMatchMode::Contains | HeaderMatchMode::Exists,
                HeaderMatchMode::NotExists,
            ) => other.excludes(self),
            _ => false,
        }
    }

    /// Returns true where every value that satisfies this one satisfies `other`. False where that is not known.
    fn implies(&self, other: &Self) -> bool {
        // Where `other` heeds case and this one does not, a value in another case tells them apart.
        let is_comparable = self.case_sensitive || !other.case_sensitive;
        let all = |test: ValueComparison| {
            let holds =
                |own: &String| other.values.iter().any(|it| test(own.as_bytes(), it.as_bytes(), other.case_sensitive));
            is_comparable && self.values.iter().all(holds)
        };
        match (self.mode, other.mode) {
            (HeaderMatchMode::Exact, HeaderMatchMode::Exact) => all(equals),
            (HeaderMatchMode::Exact | HeaderMatchMode::Prefix, HeaderMatchMode::Prefix) => all(starts_with),
            (
                HeaderMatchMode::Exact | HeaderMatchMode::Prefix | HeaderMatchMode::Contains,
                HeaderMatchMode::Contains,
            ) => all(contains),
            (
                HeaderMatchMode::Exact | HeaderMatchMode::Prefix | HeaderMatchMode::Contains | HeaderMatchMode::Exists,
                HeaderMatchMode::Exists,
            )
            | (HeaderMatchMode::NotExists, HeaderMatchMode::NotExists | HeaderMatchMode::NotContains) => true,
            // Whatever contains none of many texts contains none of a few of them.
            (HeaderMatchMode::NotContains, HeaderMatchMode::NotContains) => {
                let is_known = |it: &String| {
                    self.values.iter().any(|own| contains(it.as_bytes(), own.as_bytes(), self.case_sensitive))
                };
                (other.case_sensitive || !self.case_sensitive) && other.values.iter().all(is_known)
            }
            _ => false,
        }
    }
}

/// Pairs of a value of `one` and a value of `two`.
fn pairs<'a>(one: &'a ValueCondition<'_>, two: &'a ValueCondition<'_>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    one.values.iter().flat_map(|one| two.values.iter().map(|two| (one.as_bytes(), two.as_bytes())))
}
