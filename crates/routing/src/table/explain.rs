//! Explanation of a lookup: the routes that a request could have taken, and the condition or the rule of precedence by which it
//! takes another one.

use std::fmt;
use std::sync::Arc;

use super::{HeaderMatcher, HostPattern, HostRoute, QueryMatcher, RequestHost, RouteEntry, RouteRank};
use super::{PathPattern, RouteTable, RoutingInput, Separator, takes};
use http::Method;

/// Most routes of one kind in an explanation.
const MOST: usize = 10;

/// Routes that a request takes or could have taken, in the order in which they are tried; of each kind at most 10.
#[derive(Debug, Default)]
pub struct Explanation<'a> {
    /// Routes whose conditions all hold: the first takes the request.
    pub matching: Vec<RouteVerdict<'a>>,
    /// Routes whose path matches and another condition does not; where no path matches, those of which only the path does not.
    pub near_misses: Vec<RouteVerdict<'a>>,
}

/// A route in the explanation of a lookup.
#[derive(Debug)]
pub struct RouteVerdict<'a> {
    /// Id of the route.
    pub id: &'a Arc<str>,
    /// Conditions that do not hold.
    pub mismatches: Vec<Mismatch<'a>>,
    /// Rule of precedence by which the first matching route comes before this one; none for that route itself, and for those
    /// that do not match.
    pub preceded_by: Option<&'static str>,
}

/// A condition of a route that a request does not satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// The path.
    Path(&'a PathPattern),
    /// The host: none of these.
    Host(&'a [HostPattern]),
    /// The method: none of these.
    Method(&'a [Method]),
    /// A header.
    Header(&'a HeaderMatcher),
    /// A query parameter.
    Query(&'a QueryMatcher),
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(pattern) => write!(f, "Path is `{pattern}`"),
            Self::Host(hosts) => write!(f, "Hosts are {}", quoted(hosts.iter())),
            Self::Method(methods) => write!(f, "Methods are {}", quoted(methods.iter())),
            Self::Header(HeaderMatcher { name, values, mode, .. }) => {
                write!(f, "Headers: `{name}` {mode:?} {}", quoted(values.iter()))
            }
            Self::Query(QueryMatcher { name, values, mode, .. }) => {
                write!(f, "QueryParameters: `{name}` {mode:?} {}", quoted(values.iter()))
            }
        }
    }
}

fn quoted(all: impl Iterator<Item = impl fmt::Display>) -> String {
    all.map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
}

impl<T> RouteTable<T> {
    /// Explains the lookup of a request by [`RouteTable::find`]. Looks at every route.
    pub fn explain(&self, request: &RoutingInput<'_>, separator: Separator) -> Explanation<'_> {
        let host = request.host.map(RequestHost::new);
        let mut explanation = Explanation::default();
        let mut only_paths = Vec::new();
        let mut first: Option<RouteRank> = None;
        for (at, line) in self.lines.iter().enumerate() {
            let entry = &self.entries[line.entry];
            let mismatches = mismatches(entry, request, host.as_ref(), separator);
            // A route with several hosts is told of once, under the first of them, or the one that the request names.
            let is_told = |line: &HostRoute| {
                self.host(*line).zip(host.as_ref()).is_none_or(|(pattern, sent)| pattern.accepts(sent))
                    || mismatches.iter().any(|it| matches!(it, Mismatch::Host(_)))
            };
            let is_first = !self.lines[..at].iter().any(|before| before.entry == line.entry && is_told(before));
            if !is_told(line) || !is_first {
                continue;
            }
            let is_path = |mismatch: &Mismatch<'_>| matches!(mismatch, Mismatch::Path(_));
            let (list, preceded_by) = match mismatches.as_slice() {
                [] => {
                    let rank = self.rank(*line);
                    let preceded_by = first.as_ref().map(|first| first.precedes(&rank));
                    first.get_or_insert(rank);
                    (&mut explanation.matching, preceded_by)
                }
                [only] if is_path(only) => (&mut only_paths, None),
                all if all.iter().any(is_path) => continue,
                _ => (&mut explanation.near_misses, None),
            };
            if list.len() < MOST {
                list.push(RouteVerdict { id: &entry.id, mismatches, preceded_by });
            }
        }
        if explanation.matching.is_empty() && explanation.near_misses.is_empty() {
            explanation.near_misses = only_paths;
        }
        explanation
    }
}

/// The conditions of a route that do not hold.
fn mismatches<'a, T>(
    entry: &'a RouteEntry<T>,
    request: &RoutingInput<'_>,
    host: Option<&RequestHost<'_>>,
    separator: Separator,
) -> Vec<Mismatch<'a>> {
    let matches = &entry.matches;
    let path = matches.path.as_ref().filter(|path| !path.is_match(request.path, separator)).map(Mismatch::Path);
    let is_host =
        matches.hosts.is_empty() || host.is_some_and(|sent| matches.hosts.iter().any(|pattern| pattern.accepts(sent)));
    let host = (!is_host).then_some(Mismatch::Host(&matches.hosts));
    let method = (!takes(&matches.methods, request.method)).then_some(Mismatch::Method(&matches.methods));
    let headers = matches.headers.iter().filter(|it| !it.accepts(request.headers)).map(Mismatch::Header);
    let query = request.query.unwrap_or_default();
    let query = matches.query.iter().filter(|it| !it.accepts(query)).map(Mismatch::Query);
    path.into_iter().chain(host).chain(method).chain(headers).chain(query).collect()
}

impl RouteRank {
    /// Returns the rule by which this rank comes before `other`.
    fn precedes(&self, other: &Self) -> &'static str {
        if self.order != other.order {
            "its Order is lower"
        } else if self.path != other.path {
            "its Path is more specific"
        } else if self.takes_any_method != other.takes_any_method {
            "it lists Methods"
        } else if self.host != other.host {
            "its host is more specific"
        } else if self.headers != other.headers {
            "it has more conditions on Headers"
        } else if self.query != other.query {
            "it has more conditions on QueryParameters"
        } else {
            "it stands before it in the file"
        }
    }
}
