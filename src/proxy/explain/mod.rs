//! Explanation of a request that nobody sends: the route that it would take and why, what would be asked for, and of whom.
//! Routes are looked up where requests' are, and transforms are the same ones; nothing is connected to, and no token is verified.

mod report;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, header};

pub use self::report::{
    DestinationExplanation, HandlerExplanation, PassedRoute, Refusal, RequestExplanation, RouteExplanation,
    TransformExplanation,
};
use super::admission::authorization::extract_path_token;
use super::admission::{
    AdmittedRequest, RequestTarget, answered_here, check_length, check_request, find_target, is_reserved_path,
    preflight_method, routing_input,
};
use super::failure::ProxyFailure;
use super::films::{self, FilmCredential};
use super::forward::request::without_credentials;
use super::modules::ModulePaths;
use super::route::{ClusterHandler, Route, RouteAuthorization, RouteHandler};
use super::runtime::Runtime;
use super::tracks::RequestedObject;
use http_semantics::request_host;
use object_engine::ObjectOrigin;
use primitives::clock::monotonic_now;
use routing::pattern::{Captures, Separator};
use routing::table::{Explanation, RouteVerdict};
use routing::transform::{OriginalRequest, OutgoingRequest, Transform, apply_request};
use server_kit::auth::AuthenticationError;
use server_kit::auth::path_token::PathToken;
use upstream::cluster::Cluster;

/// Headers whose values are secrets.
const SECRET_HEADERS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
/// Text in place of a value that may be a secret.
const MASKED: &str = "***";
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
    if host.is_some_and(|host| host.contains('@')) {
        return Err("a URL with a user or a password is not taken: send it as a header with -H".to_owned());
    }
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
        // As the parsers of requests, which do not panic at many.
        head.headers
            .try_append(name, value)
            .map_err(|_| "there are more headers than a request can have".to_owned())?;
    }
    request_host::normalize(&mut head);
    Ok((head, scheme.to_owned()))
}

/// Explains a request of this head, which came in by `scheme`. `modules` are the paths of this process; `None`: they are not
/// known, since nothing is served.
pub async fn explain(
    runtime: &Runtime,
    modules: Option<&ModulePaths>,
    mut request: Parts,
    scheme: &str,
) -> RequestExplanation {
    extract_path_token(&runtime.process, &mut request);
    if runtime.films.is_some() {
        films::extract_credential(&mut request);
    }
    let mut told = RequestExplanation {
        method: request.method.to_string(),
        path: request.uri.path().to_owned(),
        refusal: None,
        answered_by: None,
        route: None,
        preceded: Vec::new(),
        near_misses: Vec::new(),
    };
    if let Err(failure) = tell(&mut told, runtime, modules, (&request, scheme)).await {
        told.refusal = Some(refusal(&failure));
    }
    told
}

/// Goes the way of an admission; fails as it does.
async fn tell(
    told: &mut RequestExplanation,
    runtime: &Runtime,
    modules: Option<&ModulePaths>,
    (request, scheme): (&Parts, &str),
) -> Result<(), ProxyFailure> {
    check_request(request)?;
    let (path, asked) = (request.uri.path(), preflight_method(request));
    if request.extensions.get::<FilmCredential>().is_some() {
        return tell_film(told, runtime, request).await;
    }
    let unknown = ModulePaths::default();
    let target = find_target(runtime, modules.unwrap_or(&unknown), request, asked.as_ref());
    let method = asked
        .as_ref()
        .filter(|_| matches!(&target, Ok(RequestTarget::Route(found)) if found.value.policies.cors.is_some()));
    let input = routing_input(request, method.unwrap_or(&request.method));
    let Explanation { matching, near_misses } = runtime.routes.explain(&input, Separator::Slash);
    if !is_reserved_path(path) {
        told.near_misses = near_misses.into_iter().map(passed).collect();
    }
    let found = match target? {
        RequestTarget::Route(found) => found,
        RequestTarget::Module => {
            if !is_reserved_path(path) {
                told.preceded = matching.into_iter().map(passed).collect();
            }
            return tell_module(told, modules, request);
        }
    };
    told.preceded = matching.into_iter().filter(|verdict| verdict.id != found.id).map(passed).collect();
    let pattern =
        (found.path.map(ToString::to_string), found.path.map(|path| path.names().map(str::to_owned).collect()));
    let route = found.value;
    told.route = Some(describe_route(route, pattern, &found.captures));
    tell_answer(told, runtime, (route, &found.captures), (request, scheme), asked.is_some()).await
}

/// Tells who answers a request that `route` takes; `asked` is true for a CORS preflight.
async fn tell_answer(
    told: &mut RequestExplanation,
    runtime: &Runtime,
    (route, captures): (&Route, &Captures),
    (request, scheme): (&Parts, &str),
    asked: bool,
) -> Result<(), ProxyFailure> {
    match answered_here(request, route, asked)? {
        Some(AdmittedRequest::Preflight(_)) => told.answered_by = Some("the proxy: a CORS preflight".to_owned()),
        Some(_) => told.answered_by = Some("the proxy: which methods there are".to_owned()),
        None => {
            check_length(request, route)?;
            let handler = explain_handler(runtime, route, captures, (request, scheme)).await?;
            told.route = told.route.take().map(|route| RouteExplanation { handler: Some(handler), ..route });
        }
    }
    Ok(())
}

fn tell_module(
    told: &mut RequestExplanation,
    modules: Option<&ModulePaths>,
    request: &Parts,
) -> Result<(), ProxyFailure> {
    if request.extensions.get::<PathToken>().is_some() {
        return Err(ProxyFailure::Unauthorized(AuthenticationError::WrongPath));
    }
    let path = request.uri.path();
    let name = super::modules::module_name(path);
    told.answered_by = Some(match modules {
        Some(modules) if modules.contain(path) || is_reserved_path(path) => {
            format!("the module {name} of this process")
        }
        Some(_) => "the API of this process, which has no such path where none of its pages does: 404".to_owned(),
        None => format!("the module {name}, where it is switched on"),
    });
    Ok(())
}

async fn tell_film(told: &mut RequestExplanation, runtime: &Runtime, request: &Parts) -> Result<(), ProxyFailure> {
    let found = runtime.films.as_ref().and_then(|routes| Some((routes, routes.read(request.uri.path())?)));
    let (routes, film) = found.ok_or(ProxyFailure::NoRoute)?;
    let route = if film.is_key { &routes.keys } else { &routes.films };
    let described = describe_route(route, (None, None), &film.captures);
    // The route says nothing of it: the grant is looked at before.
    told.route = Some(RouteExplanation {
        authorization: "a grant of a film, in its path, a cookie or a header".to_owned(),
        ..described
    });
    tell_answer(told, runtime, (route, &film.captures), (request, "https"), false).await
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

fn describe_route(
    route: &Route,
    (pattern, names): (Option<String>, Option<Vec<String>>),
    captures: &Captures,
) -> RouteExplanation {
    let decoded = |name: String| {
        let value = captures.decoded(&name)?.unwrap_or_else(|error| error.to_string());
        Some((name, value))
    };
    RouteExplanation {
        id: route.id.to_string(),
        pattern,
        captures: names.into_iter().flatten().filter_map(decoded).collect(),
        authorization: match &route.policies.authorization {
            RouteAuthorization::Anonymous => "Anonymous: no token is looked at".to_owned(),
            RouteAuthorization::Policy { claims, .. } => format!("a token that satisfies `{}`", claims.name),
        },
        rules: rules(route),
        handler: None,
    }
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
    for name in route.response_headers.names() {
        rules.push(("ResponseHeader", name.to_string()));
    }
    if let Some(hide) = policies.hide_existence {
        rules.push(("HideExistence", hide.to_string()));
    }
    rules
}

/// Explains the handler; fails as the request would.
async fn explain_handler(
    runtime: &Runtime,
    route: &Route,
    captures: &Captures,
    request: (&Parts, &str),
) -> Result<HandlerExplanation, ProxyFailure> {
    Ok(match &route.handler {
        RouteHandler::Object(handler) => explain_object(&handler.origin, &handler.find_object(captures)?).await,
        RouteHandler::Film(handler) => explain_object(&handler.origin, &handler.find_object(captures)?).await,
        RouteHandler::Track(handler) => HandlerExplanation::Track { track: handler.track_id(captures)? },
        RouteHandler::Cluster(handler) => explain_cluster((runtime, route), handler, captures, request),
    })
}

async fn explain_object(origin: &ObjectOrigin, object: &RequestedObject) -> HandlerExplanation {
    let cache = origin.cache.as_ref().map(|cache| {
        let policy = &cache.policy;
        format!("fresh for {:?}, then {:?} while it is asked for anew", policy.ttl, policy.stale_while_revalidate)
    });
    let kept = match &origin.cache {
        Some(cache) => cache.cache.inspect(origin, object.key()).await,
        None => None,
    };
    HandlerExplanation::Object {
        store: origin.store.to_string(),
        bucket: origin.bucket.to_string(),
        key: object.key().to_owned(),
        cache,
        kept,
        destinations: destinations(&origin.cluster),
    }
}

fn explain_cluster(
    (runtime, route): (&Runtime, &Route),
    handler: &ClusterHandler,
    captures: &Captures,
    (request, scheme): (&Parts, &str),
) -> HandlerExplanation {
    let transforms = &handler.transforms;
    let original = without_credentials(request, runtime, route);
    let send = |count: usize| lines(&send(&original, &transforms[..count], captures, (request, scheme)), transforms);
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

/// The request `original` after these transforms.
fn send(
    original: &OutgoingRequest,
    transforms: &[Transform],
    captures: &Captures,
    (request, scheme): (&Parts, &str),
) -> OutgoingRequest {
    let mut outgoing = original.clone();
    let host = super::admission::request_host(request);
    let origin = OriginalRequest { captures, host, client: CLIENT, scheme, client_certificate: None };
    apply_request(transforms, &mut outgoing, &origin);
    outgoing
}

/// The lines of a request's head. Values that may be secrets are masked: the client's, and those that the configuration sets.
fn lines(request: &OutgoingRequest, transforms: &[Transform]) -> Vec<String> {
    let query =
        request.query.as_ref().map_or_else(String::new, |query| format!("?{}", masked_query(query, transforms)));
    let first = format!("{} {}{query}", request.method, request.path);
    let is_set = |name: &HeaderName| {
        transforms
            .iter()
            .any(|transform| matches!(transform, Transform::RequestHeader { name: set, .. } if set == name))
    };
    let value = |(name, value): (&HeaderName, &HeaderValue)| {
        let shown = match SECRET_HEADERS.contains(name) || is_set(name) && *name != header::HOST {
            true => Cow::Borrowed(MASKED),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        format!("{name}: {shown}")
    };
    std::iter::once(first).chain(request.headers.iter().map(value)).collect()
}

fn masked_query(query: &str, transforms: &[Transform]) -> String {
    let is_set = |name: &str| {
        transforms
            .iter()
            .any(|transform| matches!(transform, Transform::QueryValueParameter { name: set, .. } if **set == *name))
    };
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if is_set(name) => format!("{name}={MASKED}"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
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
