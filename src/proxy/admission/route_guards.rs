//! The route of a request where its path can be read in more than one way, so that no spelling leads past a route that asks
//! for more than another. RFC 3986 §3.3 leaves it open what empty segments and parameters mean, and servers differ.

use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::proxy::failure::ProxyFailure;
use crate::proxy::route::{Route, RouteAuthorization};
use crate::proxy::settings::{AuthorizationSettings, HandlerSettings, RouteSettings};
use routing::pattern::{Separator, has_escaped_slash};
use routing::table::{RouteEntry, RouteLookup, RouteTable, RoutingInput};

/// Methods that are looked at for routes that take any.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The route of `request`.
///
/// `%2F` parts segments, as it does in the key that is made of them. Only where nothing stricter takes the path so does it
/// belong to a value (`/tracks/a%2Fb/stream`). A path that is refused is one that a server behind could take for a path
/// of a stricter route.
pub fn find<'a>(
    routes: &'a RouteTable<Arc<Route>>,
    request: &RoutingInput<'_>,
) -> Result<RouteLookup<'a, Arc<Route>>, ProxyFailure> {
    let as_sent = routes.find(request, Separator::Slash);
    let lookup = match has_escaped_slash(request.path) {
        true => stricter(as_sent, routes.find(request, Separator::EscapedSlash)),
        false => as_sent,
    };
    if let RouteLookup::Found(found) = &lookup {
        let route = found.value;
        let is_plain = !route.serves_objects();
        let is_passed = |path: &String| match routes.find(&RoutingInput { path, ..*request }, Separator::Slash) {
            RouteLookup::Found(other) => asks_more(policy(other.value), policy(route)),
            RouteLookup::MethodNotAllowed(_) | RouteLookup::NotFound => false,
        };
        if is_plain && has_dots_with_parameters(request.path) {
            return Err(ProxyFailure::BadRequest(
                "the path has a '.' or '..' segment with parameters: expected none".into(),
            ));
        }
        if readings(request.path, is_plain).iter().any(is_passed) {
            let what = "the path can be read as another one, which asks for more: write it without empty segments, \
                        '\\' and parameters behind ';'";
            return Err(ProxyFailure::BadRequest(what.into()));
        }
    }
    Ok(lookup)
}

/// Of the routes of a path as it was sent and with `%2F` as a slash the one that governs the object or resource.
fn stricter<'a>(
    as_sent: RouteLookup<'a, Arc<Route>>,
    parted: RouteLookup<'a, Arc<Route>>,
) -> RouteLookup<'a, Arc<Route>> {
    match (as_sent, parted) {
        (as_sent, RouteLookup::NotFound) => as_sent,
        (RouteLookup::Found(as_sent), RouteLookup::Found(parted))
            if as_sent.id != parted.id && !asks_more(policy(parted.value), policy(as_sent.value)) =>
        {
            RouteLookup::Found(as_sent)
        }
        (_, parted) => parted,
    }
}

/// Returns true where somebody whom a route of the policy `other` lets through may not use one of `policy`; `None` is
/// `Anonymous`.
fn asks_more(policy: Option<&str>, other: Option<&str>) -> bool {
    policy.is_some() && policy != other
}

/// The name of the policy that a route asks for.
fn policy(route: &Route) -> Option<&str> {
    match &route.policies.authorization {
        RouteAuthorization::Anonymous => None,
        RouteAuthorization::Policy { claims, .. } => Some(&claims.name),
    }
}

/// The same of a route that is only configured.
fn configured_policy(route: &RouteSettings) -> Option<&str> {
    match &route.authorization {
        AuthorizationSettings::Anonymous => None,
        AuthorizationSettings::Policy { claims, .. } => Some(&claims.name),
    }
}

/// Other paths that a lax server makes of this one: an escaped slash or a backslash as a slash, segments without their
/// parameters, empty segments dropped, no slash at the end, and all combinations. Of a store only those that keep objects
/// in folders do anything like it, and they drop empty segments alone.
fn readings(path: &str, of_server: bool) -> Vec<String> {
    const ALL_STEPS: u8 = 0b1111;
    /// Those of stores.
    const STORE_STEPS: u8 = 0b0101;
    let slashes = if of_server { with_slashes } else { with_escaped_slashes };
    let steps: [fn(&str) -> String; 4] = [slashes, without_parameters, without_empty_segments, without_last_slash];
    let is_odd = path.contains("//")
        || path.contains([';', '\\'])
        || path.ends_with('/')
        || escapes(path).any(|byte| b"/\\;".contains(&byte));
    if !is_odd {
        return Vec::new();
    }
    let read = |chosen: u8| {
        let taken = steps.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0);
        taken.fold(path.to_owned(), |path, (_, step)| step(&path))
    };
    let choices = (1..=ALL_STEPS).filter(|chosen| of_server || chosen & !STORE_STEPS == 0);
    choices.map(read).filter(|reading| reading != path).collect()
}

/// The bytes that the path's escapes stand for.
fn escapes(path: &str) -> impl Iterator<Item = u8> {
    path.match_indices('%').filter_map(|(at, _)| u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok())
}

fn with_escaped_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/")
}

fn with_slashes(path: &str) -> String {
    with_escaped_slashes(path).replace("%5C", "/").replace("%5c", "/").replace('\\', "/")
}

fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(without_parameter).collect();
    segments.join("/")
}

fn without_parameter(segment: &str) -> &str {
    let end = [";", "%3B", "%3b"].iter().filter_map(|mark| segment.find(mark)).min();
    &segment[..end.unwrap_or(segment.len())]
}

/// The path with one slash for several.
fn without_empty_segments(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !text.ends_with('/') {
            text.push(character);
        }
    }
    text
}

fn without_last_slash(path: &str) -> String {
    path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path).to_owned()
}

/// Whether a segment is `.` or `..` once its parameters are cut off, as Tomcat does before it resolves them.
fn has_dots_with_parameters(path: &str) -> bool {
    let mut segments = path.split(['/', '\\']).filter(|segment| without_parameter(segment) != *segment);
    segments.any(|segment| {
        let decoded = percent_decode_str(without_parameter(segment)).decode_utf8_lossy();
        matches!(&*decoded, "." | "..")
    })
}

/// Returns warnings, in words for the operator, of routes that limit themselves to some methods while a route that is less
/// strictly authorized takes others of the same paths.
pub fn weaker_route_warnings(routes: &RouteTable<Arc<RouteSettings>>) -> Vec<String> {
    let entries: Vec<&RouteEntry<Arc<RouteSettings>>> = routes.entries().collect();
    let mut warnings = Vec::new();
    for strict in entries.iter().filter(|entry| !entry.matches.methods.is_empty()) {
        for weak in &entries {
            let methods = open_methods(strict, weak, &entries);
            if methods.is_empty() {
                continue;
            }
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            warnings.push(format!(
                "`{}` asks for more than `{}`, which takes other methods of the same paths ({}): list them in the first one's \
                 `Match.Methods`, or leave that out",
                strict.id,
                weak.id,
                names.join(", "),
            ));
        }
    }
    warnings
}

/// Methods of the paths of `strict` that only `weak` takes, and no other route that asks for more.
fn open_methods(
    strict: &RouteEntry<Arc<RouteSettings>>,
    weak: &RouteEntry<Arc<RouteSettings>>,
    all: &[&RouteEntry<Arc<RouteSettings>>],
) -> Vec<Method> {
    if !asks_more(configured_policy(&strict.value), configured_policy(&weak.value))
        || !weak.matches.covers(&strict.matches)
    {
        return Vec::new();
    }
    let answers = |method: &Method| match weak.value.handler {
        HandlerSettings::Object(_) | HandlerSettings::Track(_) => matches!(*method, Method::GET | Method::HEAD),
        HandlerSettings::Cluster(_) => true,
    };
    let is_guarded = |method: &Method| {
        let mut others =
            all.iter().filter(|other| asks_more(configured_policy(&other.value), configured_policy(&weak.value)));
        others.any(|other| other.matches.takes(method) && other.matches.covers(&strict.matches))
    };
    let any = METHODS;
    let listed = if weak.matches.methods.is_empty() { &any[..] } else { weak.matches.methods.as_slice() };
    listed.iter().filter(|method| answers(method) && !is_guarded(method)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_lax_servers_read_it() {
        let reads = |path: &str, of_server| readings(path, of_server);
        assert!(reads("/web/admin/x%20y", true).is_empty());
        assert!(reads("/web//admin;a/x", true).contains(&"/web/admin/x".to_owned()));
        assert!(reads("/web/%5Cadmin%3Bb", true).contains(&"/web/admin".to_owned()));
        assert_eq!(reads("/a//b;c", false), ["/a/b;c", "/a/b;c"]);
        assert!(reads("/a/", false).is_empty() && reads("/", true).is_empty());
        assert!(reads("/a/;b", true).contains(&"/a".to_owned()));
        assert!(reads("/a/%2Fb", false).contains(&"/a/b".to_owned()));
        assert!(reads("/a%252Fb", true).is_empty());
    }

    #[test]
    fn dots_with_parameters_are_seen() {
        for (path, expected) in [
            ("/a/..;/b", true),
            ("/a/%2e%2E;x", true),
            ("/.%3Bx/b", true),
            ("/a\\..;b", true),
            ("/a/...;/b", false),
            ("/a;../b", false),
            ("/a/.b;c", false),
        ] {
            assert_eq!(has_dots_with_parameters(path), expected, "{path}");
        }
    }
}
