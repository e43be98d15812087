//! Explanation of a request that nobody sends: the route that it would take and why, what would be asked for, and of whom.
//! Routes are looked up where requests' are, and transforms are the same ones; nothing is connected to, and no token is verified.

mod report;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, header};

pub use self::report::{
    DestinationExplanation, HandlerExplanation, PassedRoute, Refusal, RequestExplanation, RouteExplanation,
    TransformExplanation,
};
use super::admission::{is_module_path, is_reserved_path, routing_input};
use super::failure::ProxyFailure;
use super::films::{self, FilmCredential};
use super::route::{ClusterHandler, Route, RouteAuthorization, RouteHandler};
use super::runtime::Runtime;
use super::tracks::RequestedObject;
use http_semantics::request_path;
use object_engine::ObjectOrigin;
use primitives::clock::monotonic_now;
use routing::pattern::{Captures, Separator};
use routing::table::{Explanation, RouteLookup, RouteVerdict};
use routing::transform::{OriginalRequest, OutgoingRequest, Transform, apply_request};
use server_kit::auth::path_token;
use upstream::cluster::Cluster;

/// Headers whose values are secrets.
const SECRET_HEADERS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
/// Client of a request that tells of none.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Makes the head of a request for `url`, which may be a path alone, and returns it with the scheme. Fails, in words for the
/// operator, where a client could not send it.
pub fn request_head(
    method: &Method,
    url: &str,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Result<(Parts, String), String> {
    // Not by a URL library, which would resolve `..` and escape what the proxy is to see.
    let (scheme, host, target) = match url.split_once("://") {
        _ if url.starts_with('/') => ("http", None, url),
        Some((scheme @ ("http" | "https"), rest)) => {
            let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (scheme, Some(&rest[..at]), &rest[at..])
        }
        _ => return Err(format!("`{url}` is no URL of HTTP; expected `https://host/path` or `/path`")),
    };
    let target = target.split('#').next().unwrap_or_default();
    let slash = if target.starts_with('/') { "" } else { "/" };
    let request = Request::builder().method(method.clone()).uri(format!("{slash}{target}")).body(());
    let (mut head, ()) =
        request.map_err(|error| format!("`{target}` is no target of a request: {error}"))?.into_parts();
    if let Some(host) = host {
        let host = HeaderValue::from_str(host).map_err(|_| format!("`{host}` is no host"))?;
        head.headers.insert(header::HOST, host);
    }
    for (name, value) in headers {
        if name == header::HOST {
            head.headers.remove(&name);
        }
        head.headers.append(name, value);
    }
    Ok((head, scheme.to_owned()))
}

/// Explains a request of this head, which came in by `scheme`.
pub fn explain(runtime: &Runtime, mut request: Parts, scheme: &str) -> RequestExplanation {
    strip_credentials(runtime, &mut request);
    let request = &request;
    let path = request.uri.path();
    let mut told = RequestExplanation {
        method: request.method.to_string(),
        path: path.to_owned(),
        refusal: None,
        module: None,
        route: None,
        preceded: Vec::new(),
        near_misses: Vec::new(),
    };
    if let Err(fault) = request_path::check(path.as_bytes()) {
        return RequestExplanation {
            refusal: Some(refusal(&ProxyFailure::BadRequest(fault.to_string().into()))),
            ..told
        };
    }
    if request.extensions.get::<FilmCredential>().is_some() {
        return explain_film(runtime, request, told);
    }
    if is_reserved_path(path) {
        told.module = Some(super::modules::module_name(path));
        return told;
    }
    let input = routing_input(request, &request.method);
    let Explanation { matching, near_misses } = runtime.routes.explain(&input, Separator::Slash);
    told.near_misses = near_misses.into_iter().map(passed).collect();
    match runtime.find(&input) {
        Ok(RouteLookup::Found(found)) => {
            told.preceded = matching.into_iter().filter(|verdict| verdict.id != found.id).map(passed).collect();
            let pattern = found.path.map(ToString::to_string);
            let pattern = (pattern, found.path.map(|path| path.names().map(str::to_owned).collect()));
            tell_route(&mut told, found.value, pattern, &found.captures, (request, scheme));
        }
        Ok(RouteLookup::NotFound | RouteLookup::MethodNotAllowed(_)) if is_module_path(path) => {
            told.module = Some(super::modules::module_name(path));
        }
        Ok(RouteLookup::MethodNotAllowed(methods)) => {
            told.refusal = Some(refusal(&ProxyFailure::MethodNotAllowed(methods)));
        }
        Ok(RouteLookup::NotFound) => told.refusal = Some(refusal(&ProxyFailure::NoRoute)),
        Err(failure) => told.refusal = Some(refusal(&failure)),
    }
    told
}

/// Takes tokens out of the path, as the listener does.
fn strip_credentials(runtime: &Runtime, request: &mut Parts) {
    if let Some((_, rest)) = path_token::split(request.uri.path()) {
        let rest = rest.to_owned();
        super::admission::authorization::replace_path(request, &rest);
    }
    if runtime.films.is_some() {
        films::extract_credential(request);
    }
}

fn explain_film(runtime: &Runtime, request: &Parts, mut told: RequestExplanation) -> RequestExplanation {
    match runtime.films.as_ref().and_then(|routes| Some((routes, routes.read(request.uri.path())?))) {
        Some((routes, film)) => {
            let route = if film.is_key { &routes.keys } else { &routes.films };
            tell_route(&mut told, route, (None, None), &film.captures, (request, "https"));
        }
        None => told.refusal = Some(refusal(&ProxyFailure::NoRoute)),
    }
    told
}

fn passed(verdict: RouteVerdict<'_>) -> PassedRoute {
    let mismatches = verdict.mismatches.iter().map(ToString::to_string);
    let because = mismatches.chain(verdict.preceded_by.map(str::to_owned)).collect();
    PassedRoute { id: verdict.id.to_string(), because }
}

/// The answer of a failure.
fn refusal(failure: &ProxyFailure) -> Refusal {
    Refusal { status: failure.status().as_u16(), reason: failure.detail().into_owned() }
}

fn tell_route(
    told: &mut RequestExplanation,
    route: &Arc<Route>,
    (pattern, names): (Option<String>, Option<Vec<String>>),
    captures: &Captures,
    request: (&Parts, &str),
) {
    let handler = explain_handler(route, captures, request);
    told.refusal = handler.as_ref().err().map(refusal);
    let decoded = |name: String| {
        let value = captures.decoded(&name)?.unwrap_or_else(|error| error.to_string());
        Some((name, value))
    };
    told.route = Some(RouteExplanation {
        id: route.id.to_string(),
        pattern,
        captures: names.into_iter().flatten().filter_map(decoded).collect(),
        authorization: match &route.policies.authorization {
            RouteAuthorization::Anonymous => "Anonymous: no token is looked at".to_owned(),
            RouteAuthorization::Policy { claims, .. } => format!("a token that satisfies `{}`", claims.name),
        },
        rules: rules(route),
        handler: handler.ok(),
    });
}

/// Limits of a route and the like, as the configuration names them.
fn rules(route: &Route) -> Vec<(&'static str, String)> {
    let policies = &route.policies;
    let mut rules = Vec::new();
    if let Some(limiter) = &policies.rate_limiter {
        rules.push(("RateLimiterPolicy", limiter.settings().name.to_string()));
    }
    if policies.cors.is_some() {
        rules.push(("CorsPolicy", "answers of this route may be read by pages of other sites".to_owned()));
    }
    if let Some(most) = policies.max_request_body {
        rules.push(("MaxRequestBodySize", format!("{most} bytes")));
    }
    if let Some(hide) = policies.hide_existence {
        rules.push(("HideExistence", hide.to_string()));
    }
    rules
}

/// Explains the handler; fails as the request would.
fn explain_handler(
    route: &Route,
    captures: &Captures,
    request: (&Parts, &str),
) -> Result<HandlerExplanation, ProxyFailure> {
    Ok(match &route.handler {
        RouteHandler::Object(handler) => explain_object(&handler.origin, &handler.find_object(captures)?),
        RouteHandler::Film(handler) => explain_object(&handler.origin, &handler.find_object(captures)?),
        RouteHandler::Track(handler) => HandlerExplanation::Track { track: handler.track_id(captures)? },
        RouteHandler::Cluster(handler) => explain_cluster(handler, captures, request),
    })
}

fn explain_object(origin: &ObjectOrigin, object: &RequestedObject) -> HandlerExplanation {
    let cache = origin.cache.as_ref().map(|cache| {
        let policy = &cache.policy;
        format!("fresh for {:?}, then {:?} while it is asked for anew", policy.ttl, policy.stale_while_revalidate)
    });
    HandlerExplanation::Object {
        store: origin.store.to_string(),
        bucket: origin.bucket.to_string(),
        key: object.key().to_owned(),
        cache,
        destinations: destinations(&origin.cluster),
    }
}

fn explain_cluster(
    handler: &ClusterHandler,
    captures: &Captures,
    (request, scheme): (&Parts, &str),
) -> HandlerExplanation {
    let transforms = &handler.transforms;
    let send = |count: usize| lines(&send(&transforms[..count], captures, (request, scheme)));
    let mut before = send(0);
    let mut steps = Vec::new();
    for (at, transform) in transforms.iter().enumerate() {
        let after = send(at + 1);
        let removed = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
        let added = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
        steps.push(TransformExplanation { name: transform.name(), changes: removed.chain(added).collect() });
        before = after;
    }
    HandlerExplanation::Cluster {
        cluster: handler.cluster.id().to_string(),
        load_balancing: format!("{:?}", handler.cluster.settings().load_balancing),
        transforms: steps,
        request: before,
        destinations: destinations(&handler.cluster),
    }
}

/// The request that is sent with these transforms.
fn send(transforms: &[Transform], captures: &Captures, (request, scheme): (&Parts, &str)) -> OutgoingRequest {
    let mut outgoing = OutgoingRequest {
        method: request.method.clone(),
        path: request.uri.path().to_owned(),
        query: request.uri.query().map(str::to_owned),
        headers: request.headers.clone(),
    };
    let host = super::admission::request_host(request);
    let origin = OriginalRequest { captures, host, client: CLIENT, scheme, client_certificate: None };
    apply_request(transforms, &mut outgoing, &origin);
    outgoing
}

/// The lines of a request's head, secrets masked.
fn lines(request: &OutgoingRequest) -> Vec<String> {
    let query = request.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
    let first = format!("{} {}{query}", request.method, request.path);
    let value = |(name, value): (&HeaderName, &HeaderValue)| {
        let shown = match SECRET_HEADERS.contains(name) {
            true => Cow::Borrowed("***"),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        format!("{name}: {shown}")
    };
    std::iter::once(first).chain(request.headers.iter().map(value)).collect()
}

fn destinations(cluster: &Cluster) -> Vec<DestinationExplanation> {
    let now = monotonic_now();
    let members = cluster.members().iter();
    let explain = |member: &upstream::cluster::ClusterMember| DestinationExplanation {
        id: member.destination.id().to_string(),
        address: member.address.to_string(),
        health: member.destination.health().state(now).name(),
    };
    members.map(explain).collect()
}
