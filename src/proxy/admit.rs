//! From a request's head to the route that takes it and the leave to use it; a refusal is a [`Failure`].

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, header};

use super::ctx::Ctx;
use super::failure::Failure;
use super::inside::ModulePaths;
use super::permit;
use super::settings::Kind;
use super::world::{Served, World};
use http_semantics::request_path::InvalidPath;
use http_semantics::{client_ip, cors, request_path};
use http_server::Downstream;
use routing::table::{RouteLookup, RoutingInput};
use server_kit::auth::AuthenticationError;

/// What object routes take.
pub const OBJECT_METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];

/// Who answers an admitted request.
pub enum Way {
    /// The object engine or a cluster, by the route in the context.
    Route(Arc<Served>),
    /// A question of a browser whether it may ask (Fetch, "CORS-preflight request").
    Preflight(Arc<cors::CorsPolicy>),
    /// Any other OPTIONS: which methods there are (RFC 9110 §9.3.7).
    Options,
    /// The modules in this process.
    Inside,
}

/// Checks, routes, authenticates, limits and authorises.
pub async fn admit(downstream: &impl Downstream, ctx: &mut Ctx, modules: &ModulePaths) -> Result<Way, Failure> {
    let request = downstream.request();
    let trusted = &ctx.world.server.trusted_proxies;
    ctx.client = Some(client_ip::resolve(downstream.peer(), &request.headers, trusted));
    well_formed(request)?;

    let path = request.uri.path();
    let asked = preflight_method(request);
    if asked.is_none() {
        permit::verify_path_token(request, ctx).await?;
    }
    if is_ours(path) {
        return inside(request, ctx, asked.is_some());
    }
    let world = Arc::clone(&ctx.world);
    let served = match route(&world, request, asked.as_ref())? {
        RouteLookup::Found(found) if modules.take(path, found.path) => return inside(request, ctx, asked.is_some()),
        RouteLookup::Found(found) => {
            ctx.captures = found.captures;
            Arc::clone(found.value)
        }
        RouteLookup::NotFound | RouteLookup::MethodNotAllowed(_) if is_inside(path) => {
            return inside(request, ctx, asked.is_some());
        }
        RouteLookup::MethodNotAllowed(methods) => return Err(Failure::MethodNotAllowed(methods)),
        RouteLookup::NotFound => return Err(Failure::NoRoute),
    };
    ctx.served = Some(Arc::clone(&served));
    let route = &served.route;
    if let (Some(_), Some(policy)) = (&asked, &route.cors) {
        return Ok(Way::Preflight(Arc::clone(policy)));
    }
    let objects = matches!(route.kind, Kind::Object(_));
    if objects && foreign_signature(request) {
        let refused = "a signature of the client's own is not taken (X-Amz-*): the proxy signs for itself";
        return Err(Failure::BadRequest(Cow::Borrowed(refused)));
    }
    match request.method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS if objects => return Ok(Way::Options),
        _ if objects => return Err(Failure::MethodNotAllowed(OBJECT_METHODS.to_vec())),
        _ => {}
    }
    permit::authorise(request, ctx, &served).await?;
    if route.max_request_body.zip(announced(request)).is_some_and(|(limit, length)| length > limit) {
        return Err(Failure::BodyTooLarge);
    }
    Ok(Way::Route(served))
}

/// The route of `request`. A browser's question goes to the route that it `asked` about only where that answers it; else
/// it is a request like others, and OPTIONS is its method.
fn route<'w>(
    world: &'w World,
    request: &Parts,
    asked: Option<&Method>,
) -> Result<RouteLookup<'w, Arc<Served>>, Failure> {
    if let Some(method) = asked
        && let RouteLookup::Found(found) = world.find(&lookup(request, method))?
        && found.value.route.cors.is_some()
    {
        return Ok(RouteLookup::Found(found));
    }
    world.find(&lookup(request, &request.method))
}

/// To the modules; a browser's question is answered for them where the API has cross-origin rules, but for pages of the
/// visitor's own machine, which a module may give leave of its own. A token in the path is leave to read on routes, not to
/// speak for its user here.
fn inside(request: &Parts, ctx: &mut Ctx, asked: bool) -> Result<Way, Failure> {
    ctx.inside = true;
    if ctx.ticket.is_some() {
        return Err(Failure::Unauthorized(AuthenticationError::WrongPath));
    }
    let origin = request.headers.get(header::ORIGIN);
    let answers = |policy: &&Arc<cors::CorsPolicy>| policy.allows(origin) || !origin.is_some_and(cors::is_local);
    match ctx.cors().filter(|_| asked).filter(answers) {
        Some(policy) => Ok(Way::Preflight(Arc::clone(policy))),
        None => Ok(Way::Inside),
    }
}

/// What decides the route of `request` when it is asked for with `method`.
pub fn lookup<'a>(request: &'a Parts, method: &'a Method) -> RoutingInput<'a> {
    let uri = &request.uri;
    RoutingInput { method, host: host(request), path: uri.path(), query: uri.query(), headers: &request.headers }
}

/// Paths that no route can take: what watches the process must find them whatever the routes are.
pub fn is_ours(path: &str) -> bool {
    matches!(path, "/health" | "/openapi.json" | "/docs") || path.starts_with("/docs/")
}

/// The length of the request's body, where it says one.
pub fn announced(request: &Parts) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Paths that the modules in this process answer where no route takes them.
pub fn is_inside(path: &str) -> bool {
    ["/api/", "/listen/", "/t/", "/demo/"].iter().any(|prefix| path.starts_with(prefix))
}

fn well_formed(request: &Parts) -> Result<(), Failure> {
    let bad = |what: &'static str| Err(Failure::BadRequest(Cow::Borrowed(what)));
    if request.method == Method::OPTIONS && request.uri.path() == "*" {
        return bad("OPTIONS * is not answered: ask for a path");
    }
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(Failure::MethodNotAllowed(vec![Method::GET, Method::HEAD, Method::OPTIONS]));
    }
    request_path::check(request.uri.path().as_bytes()).map_err(|fault| match fault {
        InvalidPath::TooLong { .. } => Failure::PathTooLong,
        fault => Failure::BadRequest(fault.to_string().into()),
    })?;
    Ok(())
}

/// Whether the client signs for S3 itself (AWS Signature Version 4, in headers or query), which can only be an attempt to
/// reach past the proxy. No other `X-Amz-*` is looked at: a CDN or a load balancer sets its own, and on object routes
/// nothing of a client's headers and query is sent on.
fn foreign_signature(request: &Parts) -> bool {
    const NAMES: [&str; 8] = [
        "algorithm",
        "content-sha256",
        "credential",
        "date",
        "expires",
        "security-token",
        "signature",
        "signedheaders",
    ];
    let signs = |name: &str| {
        let (start, rest) = name.split_at_checked(6).unwrap_or_default();
        start.eq_ignore_ascii_case("x-amz-") && NAMES.iter().any(|known| rest.eq_ignore_ascii_case(known))
    };
    let name = |pair: &str| signs(pair.split('=').next().unwrap_or_default());
    request.headers.keys().any(|name| signs(name.as_str()))
        || request.uri.query().is_some_and(|query| query.split('&').any(name))
}

/// The method that a browser asks leave for.
pub fn preflight_method(request: &Parts) -> Option<Method> {
    if !cors::is_preflight(&request.method, &request.headers) {
        return None;
    }
    request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?.parse().ok()
}

/// `:authority` or the host of an absolute target, else `Host`.
pub fn host(request: &Parts) -> Option<&str> {
    let named = request.uri.authority().map(http::uri::Authority::as_str);
    named.or_else(|| request.headers.get(header::HOST).and_then(|value| value.to_str().ok()))
}
