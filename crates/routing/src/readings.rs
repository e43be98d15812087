//! The route of a request whose path can be read in more than one way, so that no spelling leads past a route that asks
//! for more than another. RFC 3986 §3.3 leaves it open what empty segments and parameters mean, and servers differ. Pure;
//! what routes ask for is theirs to compare ([`GuardedRoute`]).

use std::sync::Arc;

use http_semantics::request_path::{PathMark, marks};

use super::pattern::{Captures, Separator, has_escaped_slash};
use super::table::{RouteLookup, RouteTable, RoutingInput};

/// Most readings of one path that are looked up: each costs a search of the table.
const MAX_READINGS: usize = 64;

/// A route with rules that no spelling of a path may lead past.
pub trait GuardedRoute {
    /// Returns true where a server gets the path as it was sent; false where the path makes the key of an object.
    fn is_read_by_server(&self) -> bool;

    /// Returns true where this route, for the values `own` of its path, may refuse or limit a request that `other` takes
    /// for its values `others`.
    fn asks_more(&self, own: &Captures, other: &Self, others: &Captures) -> bool;
}

impl<T: GuardedRoute> GuardedRoute for Arc<T> {
    fn is_read_by_server(&self) -> bool {
        T::is_read_by_server(self)
    }

    fn asks_more(&self, own: &Captures, other: &Self, others: &Captures) -> bool {
        T::asks_more(self, own, other, others)
    }
}

/// Reason why a path is refused that a server could take for another one. The texts repeat nothing of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousPath {
    /// Another reading has a route that asks for more.
    #[error(
        "the path can be read as another one, which asks for more: write it without empty segments, '\\', parameters \
         behind ';', and a '/' at the end"
    )]
    AsksMore,
    /// More readings than 64.
    #[error("the path can be read in too many ways: write it without empty segments, '\\' and parameters behind ';'")]
    TooManyReadings,
}

/// Finds the route of `request`.
///
/// `%2F` parts segments, as it does in the key that is made of them. Only where nothing stricter takes the path so does it
/// belong to a value (`/tracks/a%2Fb/stream`). A path that is refused is one that a server behind could take for a path
/// of a stricter route.
pub fn find<'a, T: GuardedRoute>(
    routes: &'a RouteTable<T>,
    request: &RoutingInput<'_>,
) -> Result<RouteLookup<'a, T>, AmbiguousPath> {
    let has_escaped_slash = has_escaped_slash(request.path);
    let as_sent = routes.find(request, Separator::Slash);
    let lookup = match has_escaped_slash {
        true => stricter(as_sent, routes.find(request, Separator::EscapedSlash)),
        false => as_sent,
    };
    let RouteLookup::Found(found) = &lookup else { return Ok(lookup) };
    let readings = match found.value.is_read_by_server() {
        // The path as it was sent is another reading where the route was found with its `%2F` as slashes.
        true => server_readings(request.path, routes.names_last_slashes(), has_escaped_slash),
        false => readings(request.path, &STORE_STEPS),
    };
    let is_passed = |path: &String| match routes.find(&RoutingInput { path, ..*request }, Separator::Slash) {
        RouteLookup::Found(other) => other.value.asks_more(&other.captures, found.value, &found.captures),
        RouteLookup::MethodNotAllowed(_) | RouteLookup::NotFound => false,
    };
    if readings?.iter().any(is_passed) { Err(AmbiguousPath::AsksMore) } else { Ok(lookup) }
}

/// Of the routes of a path as it was sent and with `%2F` as a slash the one that governs the object or resource.
fn stricter<'a, T: GuardedRoute>(as_sent: RouteLookup<'a, T>, parted: RouteLookup<'a, T>) -> RouteLookup<'a, T> {
    match (as_sent, parted) {
        (as_sent, RouteLookup::NotFound) => as_sent,
        (RouteLookup::Found(as_sent), RouteLookup::Found(parted))
            if as_sent.id != parted.id
                && !parted.value.asks_more(&parted.captures, as_sent.value, &as_sent.captures) =>
        {
            RouteLookup::Found(as_sent)
        }
        (_, parted) => parted,
    }
}

/// A change that some readers make to a path; `None` where it changes nothing.
type ReadingStep = fn(&str) -> Option<String>;

/// Steps of servers, in an order in which each can do any of it: parameters end at the next slash as it was written, or at
/// one that was escaped.
const SERVER_STEPS: [ReadingStep; 9] = [
    without_host,
    |path| without_parameters(path, PathMark::Semicolon),
    |path| with_slashes(path, PathMark::EscapedSlash),
    |path| with_slashes(path, PathMark::Backslash),
    |path| with_slashes(path, PathMark::EscapedBackslash),
    |path| without_parameters(path, PathMark::Semicolon),
    |path| without_parameters(path, PathMark::EscapedSemicolon),
    without_empty_segments,
    without_last_slash,
];

/// Steps of stores: those that keep objects in folders drop empty segments.
const STORE_STEPS: [ReadingStep; 2] = [|path| with_slashes(path, PathMark::EscapedSlash), without_empty_segments];

/// Other paths that a server may take this one for; with `and_itself` the path as it was sent too, and with
/// `and_last_slash` each with a slash at its end.
fn server_readings(path: &str, and_last_slash: bool, and_itself: bool) -> Result<Vec<String>, AmbiguousPath> {
    let mut all = readings(path, &SERVER_STEPS)?;
    if and_itself {
        all.push(path.to_owned());
    }
    if and_last_slash {
        let with_slash: Vec<String> = all.iter().map(String::as_str).chain([path]).map(|it| format!("{it}/")).collect();
        all.extend(with_slash);
    }
    Ok(all)
}

/// Other paths that `path` becomes by any of these steps.
fn readings(path: &str, steps: &[ReadingStep]) -> Result<Vec<String>, AmbiguousPath> {
    let is_odd = |(_, mark): (usize, PathMark)| mark != PathMark::Slash;
    if !path.ends_with('/') && !path.contains("//") && !marks(path.as_bytes()).any(is_odd) {
        return Ok(Vec::new());
    }
    let mut all = vec![path.to_owned()];
    for step in steps {
        let changed: Vec<String> = all.iter().filter_map(|reading| step(reading)).collect();
        for reading in changed {
            if !all.contains(&reading) {
                all.push(reading);
            }
        }
        if all.len() > MAX_READINGS {
            return Err(AmbiguousPath::TooManyReadings);
        }
    }
    all.remove(0);
    Ok(all)
}

/// The path without the host that it begins with for a server that resolves it as a URL (RFC 3986 §4.2). A transform may
/// have removed what stands before it.
fn without_host(path: &str) -> Option<String> {
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    let bytes = path.as_bytes();
    let start = bytes.windows(2).position(|pair| pair.iter().all(is_separator))?;
    let host = start + bytes[start..].iter().position(|byte| !is_separator(byte))?;
    let end = bytes[host..].iter().position(is_separator).map_or(bytes.len(), |end| host + end);
    let rest = if end == bytes.len() { "/" } else { &path[end..] };
    Some([&path[..start], rest].concat())
}

/// The path with slashes for the marks of one kind.
fn with_slashes(path: &str, kind: PathMark) -> Option<String> {
    let mut text = String::with_capacity(path.len());
    let mut from = 0;
    for (at, mark) in marks(path.as_bytes()).filter(|(_, mark)| *mark == kind) {
        text.push_str(&path[from..at]);
        text.push('/');
        from = at + mark.width();
    }
    text.push_str(&path[from..]);
    (from > 0).then_some(text)
}

/// The path without what stands between a mark `start` and the next slash.
fn without_parameters(path: &str, start: PathMark) -> Option<String> {
    let mut text = String::with_capacity(path.len());
    let mut kept = Some(0);
    for (at, mark) in marks(path.as_bytes()) {
        match kept {
            Some(from) if mark == start => {
                text.push_str(&path[from..at]);
                kept = None;
            }
            None if mark == PathMark::Slash => kept = Some(at),
            _ => {}
        }
    }
    text.push_str(kept.map_or("", |from| &path[from..]));
    (text.len() < path.len()).then_some(text)
}

/// The path with one slash for several.
fn without_empty_segments(path: &str) -> Option<String> {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !text.ends_with('/') {
            text.push(character);
        }
    }
    (text.len() < path.len()).then_some(text)
}

fn without_last_slash(path: &str) -> Option<String> {
    path.strip_suffix('/').filter(|path| !path.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests;
