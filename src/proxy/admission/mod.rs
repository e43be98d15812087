//! Admission: from a request's head to the route that takes it and the authorization to use it; a refusal is a
//! [`ProxyFailure`]. One place decides the route, `Runtime::find`.

pub mod authorization;
mod film_requests;
pub mod rate_limit;
pub mod route_guards;
pub mod route_warnings;

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, header};

use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::films::FilmCredential;
use crate::proxy::modules::ModulePaths;
use crate::proxy::route::Route;
use crate::proxy::runtime::Runtime;
use http_semantics::request_path::InvalidPath;
use http_semantics::{client_ip, cors, request_path};
use http_server::Downstream;
use routing::table::{MatchedRoute, RouteLookup, RoutingInput};
use server_kit::auth::AuthenticationError;

/// Methods that object routes take.
pub const OBJECT_METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];

/// An admitted request, by what answers it.
pub enum AdmittedRequest {
    /// The handler of this route.
    Route(Arc<Route>),
    /// A question of a browser whether it may ask (Fetch, "CORS-preflight request").
    Preflight(Arc<cors::CorsPolicy>),
    /// The key authorization that an ACME server asks for (RFC 8555 §8.3).
    AcmeChallenge(String),
    /// HTTPS, at this port.
    HttpsRedirect(u16),
    /// Any other OPTIONS: which methods there are (RFC 9110 §9.3.7).
    Options,
    /// The modules in this process.
    Module,
}

/// Checks, routes, authenticates, limits and authorizes a request.
pub async fn admit(
    downstream: &impl Downstream,
    ctx: &mut RequestContext,
    modules: &ModulePaths,
) -> Result<AdmittedRequest, ProxyFailure> {
    let request = downstream.request();
    let trusted = &ctx.runtime.server.trusted_proxies;
    ctx.client_address = Some(client_ip::resolve(downstream.peer(), &request.headers, trusted));
    ctx.client_certificate.clone_from(&downstream.connection().client_certificate);
    check_request(request)?;
    if let Some(answer) = ctx.runtime.process.acme_challenges.key_authorization(request.uri.path()) {
        return Ok(AdmittedRequest::AcmeChallenge(answer));
    }
    if let Some(port) = downstream.connection().rules.https_redirect {
        return Ok(AdmittedRequest::HttpsRedirect(port));
    }

    let asked = preflight_method(request);
    if let Some(credential) = request.extensions.get::<FilmCredential>() {
        let film: BoxFuture<'_, _> = Box::pin(film_requests::admit(request, ctx, credential, asked.is_some()));
        return film.await;
    }
    if asked.is_none() {
        authorization::verify_path_token(request, ctx).await?;
    }
    let runtime = Arc::clone(&ctx.runtime);
    let route = match find_target(&runtime, modules, request, asked.as_ref())? {
        RequestTarget::Module => return admit_to_module(request, ctx, asked.is_some()),
        RequestTarget::Route(found) => {
            ctx.captures = found.captures;
            Arc::clone(found.value)
        }
    };
    ctx.route = Some(Arc::clone(&route));
    if let Some(answered) = answered_here(request, &route, asked.is_some())? {
        return Ok(answered);
    }
    authorization::authorize_request(request, ctx, &route).await?;
    check_length(request, &route)?;
    Ok(AdmittedRequest::Route(route))
}

/// What takes a request, by its head alone.
pub enum RequestTarget<'r> {
    /// The modules in this process.
    Module,
    /// A route.
    Route(MatchedRoute<'r, Arc<Route>>),
}

/// Finds what takes a request with this path; a CORS preflight has `asked` about a method. Fails as the answer does.
pub fn find_target<'r>(
    runtime: &'r Runtime,
    modules: &ModulePaths,
    request: &Parts,
    asked: Option<&Method>,
) -> Result<RequestTarget<'r>, ProxyFailure> {
    let path = request.uri.path();
    if is_reserved_path(path) {
        return Ok(RequestTarget::Module);
    }
    match find_route(runtime, request, asked)? {
        RouteLookup::Found(found) if modules.takes_precedence(path, found.path) => Ok(RequestTarget::Module),
        RouteLookup::Found(found) => Ok(RequestTarget::Route(found)),
        RouteLookup::NotFound | RouteLookup::MethodNotAllowed(_) if is_module_path(path) => Ok(RequestTarget::Module),
        RouteLookup::MethodNotAllowed(methods) => Err(ProxyFailure::MethodNotAllowed(methods)),
        RouteLookup::NotFound => Err(ProxyFailure::NoRoute),
    }
}

/// Returns the answer where the proxy itself has it for a request that `route` takes, before any token is looked at: to a CORS
/// preflight (`asked`), and to OPTIONS of an object.
pub fn answered_here(request: &Parts, route: &Route, asked: bool) -> Result<Option<AdmittedRequest>, ProxyFailure> {
    if let (true, Some(policy)) = (asked, &route.policies.cors) {
        return Ok(Some(AdmittedRequest::Preflight(Arc::clone(policy))));
    }
    let is_options = route.serves_objects() && check_object_request(request)? == Method::OPTIONS;
    Ok(is_options.then_some(AdmittedRequest::Options))
}

/// Checks that a request is one that object routes take; returns its method.
fn check_object_request(request: &Parts) -> Result<&Method, ProxyFailure> {
    if has_client_signature(request) {
        let refused = "a signature of the client's own is not taken (X-Amz-*): the proxy signs for itself";
        return Err(ProxyFailure::BadRequest(Cow::Borrowed(refused)));
    }
    match request.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Ok(&request.method),
        _ => Err(ProxyFailure::MethodNotAllowed(OBJECT_METHODS.to_vec())),
    }
}

/// Checks that the body of a request is not longer than its route takes.
pub fn check_length(request: &Parts, route: &Route) -> Result<(), ProxyFailure> {
    let is_longer = |(limit, length)| length > limit;
    match route.policies.max_request_body.zip(declared_length(request)).is_some_and(is_longer) {
        true => Err(ProxyFailure::BodyTooLarge),
        false => Ok(()),
    }
}

/// Finds the route of `request`. A CORS preflight takes the route of the method that it `asked` about only where that route
/// answers it; else it is a request like others, and OPTIONS is its method.
fn find_route<'r>(
    runtime: &'r Runtime,
    request: &Parts,
    asked: Option<&Method>,
) -> Result<RouteLookup<'r, Arc<Route>>, ProxyFailure> {
    if let Some(method) = asked
        && let RouteLookup::Found(found) = runtime.find(&routing_input(request, method))?
        && found.value.policies.cors.is_some()
    {
        return Ok(RouteLookup::Found(found));
    }
    runtime.find(&routing_input(request, &request.method))
}

/// Admits a request to the modules; a preflight is answered for them where the API has cross-origin rules, but for pages of the
/// visitor's own machine, which a module may allow itself. A token in the path allows its user to read on routes, not to
/// speak for its user here.
fn admit_to_module(request: &Parts, ctx: &mut RequestContext, asked: bool) -> Result<AdmittedRequest, ProxyFailure> {
    ctx.is_module_request = true;
    if ctx.path_token.is_some() {
        return Err(ProxyFailure::Unauthorized(AuthenticationError::WrongPath));
    }
    let origin = request.headers.get(header::ORIGIN);
    let answers = |policy: &&Arc<cors::CorsPolicy>| policy.allows(origin) || !origin.is_some_and(cors::is_local);
    match ctx.cors().filter(|_| asked).filter(answers) {
        Some(policy) => Ok(AdmittedRequest::Preflight(Arc::clone(policy))),
        None => Ok(AdmittedRequest::Module),
    }
}

/// Returns the parts of `request` that decide its route, with `method` in place of its own.
pub fn routing_input<'a>(request: &'a Parts, method: &'a Method) -> RoutingInput<'a> {
    let uri = &request.uri;
    RoutingInput {
        method,
        host: request_host(request),
        path: uri.path(),
        query: uri.query(),
        headers: &request.headers,
    }
}

/// Returns true for `/health`, `/openapi.json` and `/docs`, which no route can take: what watches the process must find
/// them whatever the routes are.
pub fn is_reserved_path(path: &str) -> bool {
    matches!(path, "/health" | "/openapi.json" | "/docs") || path.starts_with("/docs/")
}

/// The length of the request's body, where it says one.
pub fn declared_length(request: &Parts) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Paths that the modules in this process answer where no route takes them.
pub fn is_module_path(path: &str) -> bool {
    ["/api/", "/listen/", "/watch/", "/player/", "/t/"].iter().any(|prefix| path.starts_with(prefix))
}

pub fn check_request(request: &Parts) -> Result<(), ProxyFailure> {
    let bad = |what: &'static str| Err(ProxyFailure::BadRequest(Cow::Borrowed(what)));
    if request.method == Method::OPTIONS && request.uri.path() == "*" {
        return bad("OPTIONS * is not answered: ask for a path");
    }
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(ProxyFailure::MethodNotAllowed(vec![Method::GET, Method::HEAD, Method::OPTIONS]));
    }
    request_path::check(request.uri.path().as_bytes()).map_err(|fault| match fault {
        InvalidPath::TooLong { .. } => ProxyFailure::PathTooLong,
        fault => ProxyFailure::BadRequest(fault.to_string().into()),
    })?;
    Ok(())
}

/// True where the client signs for S3 itself (AWS Signature Version 4, in headers or query), which can only be an attempt to
/// reach past the proxy. No other `X-Amz-*` is looked at: a CDN or a load balancer sets its own, and on object routes
/// nothing of a client's headers and query is sent on.
fn has_client_signature(request: &Parts) -> bool {
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

/// Returns the method that a CORS preflight asks for; `None` for other requests.
pub fn preflight_method(request: &Parts) -> Option<Method> {
    if !cors::is_preflight(&request.method, &request.headers) {
        return None;
    }
    request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?.parse().ok()
}

/// `:authority` or the host of an absolute target, else `Host`.
pub fn request_host(request: &Parts) -> Option<&str> {
    let named = request.uri.authority().map(http::uri::Authority::as_str);
    named.or_else(|| request.headers.get(header::HOST).and_then(|value| value.to_str().ok()))
}
