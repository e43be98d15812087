//! Authorization of a request to its route: by a token of the request, or by one in its path; then by the authorities
//! that decide beyond claims.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};

use super::rate_limit;
use super::request_host;
use crate::proxy::certificate_claims;
use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::process::Process;
use crate::proxy::route::{Route, RouteAuthorization, TrackAccess};
use crate::proxy::runtime::Runtime;
use catalog::access::AccessDecision;
use http_semantics::cross_site::is_from_foreign_page;
use primitives::ids::UserId;
use routing::pattern::Captures;
use server_kit::admission::{self, AdmissionRefusal, RequestCredentials};
use server_kit::auth::claims_policy::claim_text;
use server_kit::auth::path_token::{self, AuthorizationDigest, PathAuthorization, PathToken};
use server_kit::auth::{AuthenticationError, Claims};
use server_kit::limit::settings::LimitPartition;
use server_kit::limit::subject::ClaimValue;

/// Takes a token out of the request's path, before anything else looks at it: no route, no log and no store sees it.
/// It is verified when the request is admitted.
pub fn extract_path_token(process: &Process, request: &mut Parts) {
    if process.path_tokens.is_none() {
        return;
    }
    let Some((token, rest)) = path_token::split(request.uri.path()) else { return };
    let rest = rest.to_owned();
    replace_path(request, &rest);
    request.extensions.insert(token);
}

/// Puts `rest` in the place of the request's path.
pub fn replace_path(request: &mut Parts, rest: &str) {
    let target = request.uri.query().map_or_else(|| Cow::Borrowed(rest), |query| format!("{rest}?{query}").into());
    // What is no target without its token is answered under `/`, which no token is good for.
    let target = target.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"));
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = Some(target);
    request.uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Verifies the token of the request's path, where it has one, whatever answers that path.
pub async fn verify_path_token(request: &Parts, ctx: &mut RequestContext) -> Result<(), ProxyFailure> {
    let Some(token) = request.extensions.get::<PathToken>() else { return Ok(()) };
    let process = &ctx.runtime.process;
    let tokens = process.path_tokens.as_ref().ok_or(ProxyFailure::Unauthorized(AuthenticationError::Malformed))?;
    let invalid_tokens = process.limiters.invalid_tokens();
    let refused = |error| admission::refuse(error, Some(invalid_tokens), ctx.client_address);
    let path_token = tokens.verify(token, request.uri.path()).map_err(refused)?;
    if let Some(revocations) = &process.revocations {
        let revoked: BoxFuture<'_, _> = Box::pin(revocations.is_revoked(&path_token.user, path_token.generation));
        if revoked.await {
            return Err(ProxyFailure::Unauthorized(AuthenticationError::Revoked));
        }
    }
    ctx.path_token = Some(path_token);
    Ok(())
}

/// Admits a request to its route: authenticates it, counts it against the route's rate limit, and authorizes it.
pub async fn authorize_request(request: &Parts, ctx: &mut RequestContext, route: &Route) -> Result<(), ProxyFailure> {
    if matches!(route.policies.authorization, RouteAuthorization::Anonymous) {
        return rate_limit::admit_by_rate_limit(ctx, route).await;
    }
    let runtime = Arc::clone(&ctx.runtime);
    if ctx.path_token.is_some() {
        let check: BoxFuture<'_, _> = Box::pin(authorize_by_path_token(&runtime, &request.method, ctx, route));
        return check.await;
    }
    let query = request.uri.query();
    let own = own_hosts(&runtime, request_host(request));
    let is_foreign = is_from_foreign_page(&request.method, &request.headers, own, route.policies.cors.as_deref());
    let credentials = RequestCredentials {
        headers: &request.headers,
        query,
        address: ctx.client_address,
        is_from_foreign_page: is_foreign,
    };
    let invalid_tokens = runtime.process.limiters.invalid_tokens();
    let authenticated = admission::authenticate(&runtime.authenticator, Some(invalid_tokens), credentials).await;
    let certificate = ctx.client_certificate.as_deref();
    let claims = match (authenticated, certificate.filter(|certificate| certificate.authenticates)) {
        // A browser shows its certificate for any page, as it sends a cookie.
        (Err(AdmissionRefusal::Unauthenticated(AuthenticationError::Missing)), Some(_)) if is_foreign => {
            return Err(ProxyFailure::Unauthorized(AuthenticationError::CrossSite));
        }
        (Err(AdmissionRefusal::Unauthenticated(AuthenticationError::Missing)), Some(certificate)) => {
            certificate_claims::claims_of(certificate).map_err(ProxyFailure::Unauthorized)?
        }
        (claims, _) => certificate_claims::add_certificate(claims?, certificate),
    };
    ctx.claims = Some(Arc::clone(&claims));
    rate_limit::admit_by_rate_limit(ctx, route).await?;
    check_access(&runtime, route, &ctx.captures, &claims, (&request.headers, query)).await
}

/// Returns the hosts that are this server's: the one that the request names, and the one of `Server.PublicUrl`.
pub fn own_hosts<'a>(runtime: &'a Runtime, named: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let public = runtime.server.public_url.as_deref().into_iter();
    named.into_iter().chain(public.filter_map(|url| url.split_once("://")).map(|(_, host)| host))
}

/// Authorizes a caller with these claims for the captured path; the token is looked for in `headers` and `query`, to be
/// shown to an authorization service.
pub async fn check_access(
    runtime: &Runtime,
    route: &Route,
    captures: &Captures,
    claims: &Claims,
    (headers, query): (&HeaderMap, Option<&str>),
) -> Result<(), ProxyFailure> {
    let RouteAuthorization::Policy { claims: policy, track_access } = &route.policies.authorization else {
        return Ok(());
    };
    let captured = |name: &str| captures.decoded(name).and_then(Result::ok);
    if !policy.permits(claims, &captured) {
        return Err(denial(route));
    }
    let Some(access) = track_access else { return Ok(()) };
    let token = runtime.authenticator.token(headers, query);
    check_track_access(route, access, captures, claims.subject.as_str(), token.as_deref()).await
}

/// Returns the authorization that [`check_access`] has just given, for a token that stands for these claims.
pub fn path_authorization(
    route: &Route,
    captures: &Captures,
    claims: &Claims,
) -> Result<PathAuthorization, ProxyFailure> {
    let claim = counted_claim(route).and_then(|name| claim_text(&claims.map, name));
    let claim = claim.map(|text| ClaimValue::new(&text).into_text());
    Ok(PathAuthorization { digest: authorization_digest(route, captures)?, claim })
}

/// Digest of everything that [`check_access`] reads of the route beside the user: its hosts, its policy, the captured
/// values that the policy's rules speak of, the track that authorities are asked about. Beside it the claim that the
/// route's limit counts by, which a token carries.
fn authorization_digest(route: &Route, captures: &Captures) -> Result<AuthorizationDigest, ProxyFailure> {
    let RouteAuthorization::Policy { claims: policy, track_access } = &route.policies.authorization else {
        return Ok(AuthorizationDigest::default());
    };
    let mut parts = vec![route.policies.hosts.join("\n"), policy.name.to_string()];
    parts.push(counted_claim(route).unwrap_or_default().to_owned());
    parts.push(track_access.as_ref().map_or(Ok(String::new()), |access| track_id(access, captures))?);
    for name in policy.captured_names() {
        parts.push(name.to_owned());
        parts.push(captures.decoded(name).and_then(Result::ok).unwrap_or_default());
    }
    Ok(AuthorizationDigest::new(parts.iter().map(String::as_str)))
}

/// The claim that the route's limit counts by.
fn counted_claim(route: &Route) -> Option<&str> {
    match &route.policies.rate_limiter.as_ref()?.settings().partition {
        LimitPartition::Claim(name) => Some(name),
        LimitPartition::User | LimitPartition::Address | LimitPartition::Route => None,
    }
}

/// Authorizes by a token in the path: the rules over claims were satisfied, for the same digest, when it was made.
async fn authorize_by_path_token(
    runtime: &Runtime,
    method: &Method,
    ctx: &mut RequestContext,
    route: &Route,
) -> Result<(), ProxyFailure> {
    let (Some(tokens), Some(path_token)) = (&runtime.process.path_tokens, &ctx.path_token) else {
        return Err(ProxyFailure::Unauthorized(AuthenticationError::Missing));
    };
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if !reads || !tokens.authorizes(path_token, &authorization_digest(route, &ctx.captures)?) {
        return Err(ProxyFailure::Unauthorized(AuthenticationError::WrongPath));
    }
    let user = UserId::parse(path_token.user.as_str());
    let user = user.ok_or(ProxyFailure::Unauthorized(AuthenticationError::UnusableSubject))?;
    let map = Map::from_iter([("sub".to_owned(), Value::from(user.as_str()))]);
    ctx.claims = Some(Arc::new(Claims { subject: user.clone(), map }));
    rate_limit::admit_by_rate_limit(ctx, route).await?;
    match &route.policies.authorization {
        // Asked at each request: a grant can be taken back while the token is good.
        RouteAuthorization::Policy { track_access: Some(access), .. } => {
            check_track_access(route, access, &ctx.captures, user.as_str(), None).await
        }
        RouteAuthorization::Policy { track_access: None, .. } | RouteAuthorization::Anonymous => Ok(()),
    }
}

/// The id of the track that authorities are asked about.
fn track_id(access: &TrackAccess, captures: &Captures) -> Result<String, ProxyFailure> {
    access.track_id.render_key(captures).map_err(|error| ProxyFailure::BadRequest(error.to_string().into()))
}

async fn check_track_access(
    route: &Route,
    access: &TrackAccess,
    captures: &Captures,
    user: &str,
    token: Option<&str>,
) -> Result<(), ProxyFailure> {
    let track = track_id(access, captures)?;
    // Few routes ask; the others carry a pointer in place of the question.
    let decision: BoxFuture<'_, _> = Box::pin(access.checker.permits(user, &track, token));
    match decision.await {
        AccessDecision::Allowed => Ok(()),
        AccessDecision::Denied => Err(denial(route)),
        AccessDecision::Unknown => Err(ProxyFailure::AccessUnavailable),
    }
}

fn denial(route: &Route) -> ProxyFailure {
    if route.policies.hide_existence == Some(true) { ProxyFailure::Hidden } else { ProxyFailure::Forbidden }
}

/// Resolves when the user of a live stream has logged out and that is to end it.
pub fn wait_until_revoked(ctx: &RequestContext) -> impl Future<Output = ()> + use<> {
    let runtime = &ctx.runtime;
    let watched = runtime.process.revocations.clone().filter(|_| runtime.end_revoked_streams).zip(ctx.claims.clone());
    let generation = ctx.path_token.as_ref().map(|path_token| path_token.generation);
    async move {
        match watched {
            // Boxed: a stream that nobody can end so, which is most, does not keep room for it.
            Some((revocations, claims)) => {
                Box::pin(revocations.wait_until_revoked(claims.subject.as_str(), generation)).await
            }
            None => std::future::pending().await,
        }
    }
}
