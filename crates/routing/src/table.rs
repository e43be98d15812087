//! The route table: finds the route of a request. Pure; the values that routes carry are not looked at.
//!
//! Precedence: Order, then path specificity, method, host, headers, query. Two routes that tie on all of it are refused when
//! the table is built, if one matches all that the other does; if conditions keep them apart but for some requests, those
//! take the first by its place in the list, and the pair is remembered for a warning.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, Method};

pub use self::explain::{Explanation, Mismatch, RouteVerdict};
pub use self::host::{HostPattern, InvalidHostPattern};
use self::host::{HostRank, RequestHost};
pub use self::matcher::{HeaderMatchMode, HeaderMatcher, QueryMatchMode, QueryMatcher};
use super::pattern::{Captures, Overlap, PathPattern, Separator, Specificity};

mod explain;
mod host;
mod matcher;
mod overlap;

/// Conditions of a route; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// Pattern of the path; `None` takes any path.
    pub path: Option<PathPattern>,
    /// Hosts of which one must match; empty takes any.
    pub hosts: Vec<HostPattern>,
    /// Methods of which one must match; empty takes any. GET includes HEAD.
    pub methods: Vec<Method>,
    /// Conditions on headers, all of which must hold.
    pub headers: Vec<HeaderMatcher>,
    /// Conditions on query parameters, all of which must hold.
    pub query: Vec<QueryMatcher>,
}

/// A route in the table.
#[derive(Clone, Debug)]
pub struct RouteEntry<T> {
    /// Id of the route.
    pub id: Arc<str>,
    /// Configured order; lower comes first, before every other criterion.
    pub order: i32,
    /// Conditions of the route.
    pub matches: RouteMatch,
    /// Value that the route carries.
    pub value: T,
}

/// Two routes of which neither comes first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "routes `{first}` and `{second}` match the same requests and neither is more specific; give one of them an Order"
)]
pub struct AmbiguousRoutes {
    /// The one that stands first.
    pub first: Arc<str>,
    /// The other.
    pub second: Arc<str>,
}

/// Parts of a request that decide its route.
#[derive(Clone, Copy, Debug)]
pub struct RoutingInput<'a> {
    /// The method.
    pub method: &'a Method,
    /// `Host` or `:authority` in the spelling of [`http_semantics::request_host`], with the port if it was sent.
    pub host: Option<&'a str>,
    /// The raw path, percent-encoded as the client sent it.
    pub path: &'a str,
    /// The raw query, without `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// Outcome of a lookup.
#[derive(Debug)]
pub enum RouteLookup<'a, T> {
    /// The route.
    Found(MatchedRoute<'a, T>),
    /// Routes match in all but the method; these methods they accept (`Allow`, RFC 9110 §10.2.1).
    MethodNotAllowed(Vec<Method>),
    /// No route.
    NotFound,
}

/// The route a request takes.
#[derive(Debug)]
pub struct MatchedRoute<'a, T> {
    /// Id of the route.
    pub id: &'a Arc<str>,
    /// Value that the route carries.
    pub value: &'a T,
    /// Pattern of its path; `None` takes any path.
    pub path: Option<&'a PathPattern>,
    /// Values that its path captured.
    pub captures: Captures,
}

/// All routes, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct RouteTable<T> {
    entries: Vec<RouteEntry<T>>,
    lines: Vec<HostRoute>,
    partial_ties: Vec<AmbiguousRoutes>,
}

/// Precedence of a route under one of its hosts; the smaller is tried first. The order of the fields is that of the criteria.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RouteRank {
    order: i32,
    path: Specificity,
    // `false` sorts first: a route that names methods is more specific than one that takes any.
    takes_any_method: bool,
    host: HostRank,
    // The more conditions, the more specific.
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

/// One route under one of its hosts: an exact host goes before another route's wildcard whatever else the route lists.
#[derive(Clone, Copy, Debug)]
struct HostRoute {
    entry: usize,
    host: Option<usize>,
}

impl<T> RouteTable<T> {
    /// Builds the table. The error names every pair of routes that tie: one matches all that the other does, and no
    /// criterion puts one before the other.
    pub fn build(mut entries: Vec<RouteEntry<T>>) -> Result<Self, Vec<AmbiguousRoutes>> {
        heed_named_slashes(&mut entries);
        let mut lines = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if entry.matches.hosts.is_empty() {
                lines.push(HostRoute { entry: index, host: None });
            }
            lines.extend((0..entry.matches.hosts.len()).map(|host| HostRoute { entry: index, host: Some(host) }));
        }
        let mut table = Self { entries, lines: Vec::new(), partial_ties: Vec::new() };
        // Cached, because a rank allocates its path specificity.
        lines.sort_by_cached_key(|line| table.rank(*line));
        table.lines = lines;
        let ties = table.ties(Overlap::Whole);
        table.partial_ties = table.ties(Overlap::Partial);
        if ties.is_empty() { Ok(table) } else { Err(ties) }
    }

    /// Returns the pairs of routes of which neither comes first for the requests that satisfy both; each matches others
    /// besides. Such a request takes the first of the pair.
    pub fn partial_ties(&self) -> &[AmbiguousRoutes] {
        &self.partial_ties
    }

    /// Finds the route of a request; `separator` says what parts the segments of its path. Allocates only for the
    /// captures of the route that is found, or for the methods of a refusal.
    pub fn find(&self, request: &RoutingInput<'_>, separator: Separator) -> RouteLookup<'_, T> {
        let host = request.host.map(RequestHost::new);
        let accepts =
            |line: &HostRoute| self.entries[line.entry].matches.accepts(line.host, host.as_ref(), request, separator);
        let mut allowed = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            if !accepts(line) {
                continue;
            }
            let methods = &self.entries[line.entry].matches.methods;
            if takes(methods, request.method) {
                // A route that names HEAD comes before one that takes it with GET, if nothing else tells them apart.
                let names = |line: &&HostRoute| self.entries[line.entry].matches.methods.contains(request.method);
                let peers = self.lines[index..].iter().take_while(|peer| self.rank(**peer) == self.rank(*line));
                let is_implied = !methods.is_empty() && !names(&line);
                let named = is_implied.then(|| peers.filter(names).find(|peer| accepts(peer))).flatten();
                return RouteLookup::Found(self.found(*named.unwrap_or(line), request.path, separator));
            }
            // `Allow` names HEAD wherever GET is accepted, since `takes` accepts it.
            let implied = methods.contains(&Method::GET).then_some(&Method::HEAD);
            for method in methods.iter().chain(implied) {
                if !allowed.contains(method) {
                    allowed.push(method.clone());
                }
            }
        }
        if allowed.is_empty() { RouteLookup::NotFound } else { RouteLookup::MethodNotAllowed(allowed) }
    }

    fn found(&self, line: HostRoute, path: &str, separator: Separator) -> MatchedRoute<'_, T> {
        let RouteEntry { id, matches, value, .. } = &self.entries[line.entry];
        let pattern = matches.path.as_ref();
        let captures = pattern.and_then(|pattern| pattern.matches(path, separator)).unwrap_or_default();
        MatchedRoute { id, value, path: pattern, captures }
    }

    /// Converts the value of each route by `make`, and fails with its first error. Matching and order stay the same.
    pub fn try_map<U, E>(self, mut make: impl FnMut(T) -> Result<U, E>) -> Result<RouteTable<U>, E> {
        let entry =
            |RouteEntry { id, order, matches, value }| Ok(RouteEntry { id, order, matches, value: make(value)? });
        Ok(RouteTable {
            entries: self.entries.into_iter().map(entry).collect::<Result<_, E>>()?,
            lines: self.lines,
            partial_ties: self.partial_ties,
        })
    }

    /// Returns the entries in the order in which they were given.
    pub fn entries(&self) -> impl Iterator<Item = &RouteEntry<T>> {
        self.entries.iter()
    }

    /// Returns true where the path of some route ends with a slash of its own, as `/a/` does.
    pub fn names_last_slashes(&self) -> bool {
        self.entries.iter().any(|entry| entry.matches.path.as_ref().is_some_and(PathPattern::ends_with_slash))
    }

    fn host(&self, line: HostRoute) -> Option<&HostPattern> {
        line.host.map(|host| &self.entries[line.entry].matches.hosts[host])
    }

    /// Returns the sort key of a line; the smaller is tried first.
    fn rank(&self, line: HostRoute) -> RouteRank {
        let RouteEntry { order, matches, .. } = &self.entries[line.entry];
        RouteRank {
            order: *order,
            path: matches.path.as_ref().map_or_else(Specificity::any, PathPattern::specificity),
            takes_any_method: matches.methods.is_empty(),
            host: HostPattern::rank(self.host(line)),
            headers: Reverse(matches.headers.len()),
            query: Reverse(matches.query.len()),
        }
    }

    /// Returns every pair of entries that tie for `which` requests, once, in the order of the file.
    fn ties(&self, which: Overlap) -> Vec<AmbiguousRoutes> {
        let mut ties = Vec::new();
        // Lines are sorted by rank, so those of one rank stand together.
        for group in self.lines.chunk_by(|one, two| self.rank(*one) == self.rank(*two)) {
            for (index, one) in group.iter().enumerate() {
                ties.extend(group[index + 1..].iter().filter(|two| self.overlap(*one, **two) == which).map(|two| {
                    let (first, second) = (one.entry.min(two.entry), one.entry.max(two.entry));
                    (first, second)
                }));
            }
        }
        // Two routes can tie under several of their hosts.
        ties.sort_unstable();
        ties.dedup();
        let id = |entry: usize| Arc::clone(&self.entries[entry].id);
        ties.into_iter().map(|(first, second)| AmbiguousRoutes { first: id(first), second: id(second) }).collect()
    }

    /// Returns the requests that two lines of the same rank both match. Lines of one route do not tie.
    fn overlap(&self, one: HostRoute, two: HostRoute) -> Overlap {
        let matches = |line: HostRoute| &self.entries[line.entry].matches;
        match one.entry == two.entry {
            true => Overlap::Never,
            false => overlap::overlap(matches(one), matches(two), self.host(one).zip(self.host(two))),
        }
    }
}

/// Makes `/a/` a path of its own where another route has `/a`, though it ignores a slash at the end otherwise.
fn heed_named_slashes<T>(entries: &mut [RouteEntry<T>]) {
    let paths: Vec<PathPattern> = entries.iter().filter_map(|entry| entry.matches.path.clone()).collect();
    for entry in entries {
        let is_named = |path: &PathPattern| path.ends_with_slash() && paths.iter().any(|it| path.is_slash_behind(it));
        if entry.matches.path.as_ref().is_some_and(is_named) {
            entry.matches.path = entry.matches.path.take().map(PathPattern::heeding_last_slash);
        }
    }
}

impl RouteMatch {
    /// Returns true where the route accepts this method.
    pub fn takes(&self, method: &Method) -> bool {
        takes(&self.methods, method)
    }

    /// Returns true where this route accepts every path and host that `other` accepts. Methods, headers and query are
    /// not compared.
    pub fn covers(&self, other: &Self) -> bool {
        let path = match (&self.path, &other.path) {
            (None, _) => true,
            (Some(path), Some(other)) => path.covers(other),
            (Some(_), None) => false,
        };
        let hosts = self.hosts.is_empty()
            || !other.hosts.is_empty()
                && other.hosts.iter().all(|other| self.hosts.iter().any(|host| host.covers(other)));
        path && hosts
    }

    /// Returns true where all but the method holds, under the host pattern at index `host`. The cheapest test comes
    /// first.
    fn accepts(
        &self,
        host: Option<usize>,
        sent: Option<&RequestHost<'_>>,
        request: &RoutingInput<'_>,
        separator: Separator,
    ) -> bool {
        self.path.as_ref().is_none_or(|path| path.is_match(request.path, separator))
            && host.is_none_or(|host| sent.is_some_and(|sent| self.hosts[host].accepts(sent)))
            && self.headers.iter().all(|matcher| matcher.accepts(request.headers))
            && self.query.iter().all(|matcher| matcher.accepts(request.query.unwrap_or_default()))
    }
}

/// Returns true where a route with these methods accepts `method`; an empty list accepts any. GET includes HEAD, which
/// is GET without content (RFC 9110 §9.3.2).
fn takes(methods: &[Method], method: &Method) -> bool {
    let implied = *method == Method::HEAD && methods.contains(&Method::GET);
    methods.is_empty() || implied || methods.contains(method)
}

#[cfg(test)]
mod tests;
