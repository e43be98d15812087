//! Leave to use a route: by a token of the request, or by one in its path; then by those who decide beyond claims.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};

use super::admit::host;
use super::ctx::Ctx;
use super::failure::Failure;
use super::limit;
use super::settings::Authorization;
use super::world::{Served, World};
use catalog::access::{AccessChecker, AccessDecision};
use http_semantics::cross_site::is_from_foreign_page;
use routing::pattern::Captures;
use server_kit::auth::claims_policy::claim_text;
use server_kit::auth::path_token::{self, AuthorizationDigest, PathAuthorization, PathToken, PathTokenSigner};
use server_kit::auth::revocation::TokenRevocations;
use server_kit::auth::{AuthenticationError, Claims};
use server_kit::limit::settings::LimitPartition;
use server_kit::limit::subject::ClaimValue;

/// Who is asked for leave beside the issuers of tokens.
#[derive(Clone, Default)]
pub struct Guards {
    /// Those who decide beyond claims, by the policy's name.
    pub access: HashMap<Arc<str>, Arc<AccessChecker>>,
    /// Tokens in paths, where they are given out.
    pub path_tokens: Option<Arc<PathTokenSigner>>,
    /// The users' generations, where tokens in paths or live streams are tied to them.
    pub revocations: Option<Arc<TokenRevocations>>,
    /// Whether a logout ends live streams.
    pub end_streams: bool,
}

/// Takes a token out of the request's path, before anything else looks at it: no route, no log and no store sees it.
/// It is verified when the request is admitted.
pub fn open_path(world: &World, request: &mut Parts) {
    if world.guards.path_tokens.is_none() {
        return;
    }
    let Some((token, rest)) = path_token::split(request.uri.path()) else { return };
    let target = request.uri.query().map_or_else(|| Cow::Borrowed(rest), |query| format!("{rest}?{query}").into());
    // What is no target without its token is answered under `/`, which no token is good for.
    let target = target.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"));
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = Some(target);
    request.uri = Uri::from_parts(parts).unwrap_or_default();
    request.extensions.insert(token);
}

/// Verifies the token of the request's path, where it has one, whatever answers that path.
pub async fn verify_path_token(request: &Parts, ctx: &mut Ctx) -> Result<(), Failure> {
    let Some(token) = request.extensions.get::<PathToken>() else { return Ok(()) };
    let guards = &ctx.world.guards;
    let tokens = guards.path_tokens.as_ref().ok_or(Failure::Unauthorized(AuthenticationError::Malformed))?;
    let ticket = tokens.verify(token, request.uri.path()).map_err(|refusal| limit::refused(refusal, ctx))?;
    if let Some(revocations) = &guards.revocations {
        let asked: BoxFuture<'_, _> = Box::pin(revocations.is_revoked(&ticket.user, ticket.generation));
        if asked.await {
            return Err(Failure::Unauthorized(AuthenticationError::Revoked));
        }
    }
    ctx.ticket = Some(ticket);
    Ok(())
}

/// Authenticates and authorises.
pub async fn authorise(request: &Parts, ctx: &mut Ctx, served: &Served) -> Result<(), Failure> {
    let Authorization::Policy(_) = &served.route.authorization else { return limit::admit(ctx, served).await };
    let world = Arc::clone(&ctx.world);
    if ctx.ticket.is_some() {
        let asked: BoxFuture<'_, _> = Box::pin(by_ticket(&world, &request.method, ctx, served));
        return asked.await;
    }
    let query = request.uri.query();
    let own_cors = served.route.cors.as_deref();
    if is_from_foreign_page(&request.method, &request.headers, &hosts(&world, host(request)), own_cors)
        && world.authenticator.is_in_cookie(&request.headers, query)
    {
        return Err(Failure::Unauthorized(AuthenticationError::CrossSite));
    }
    let claims = limit::authenticate(&request.headers, query, ctx).await?;
    ctx.claims = Some(Arc::clone(&claims));
    limit::admit(ctx, served).await?;
    permit(&world, served, &ctx.captures, &claims, (&request.headers, query)).await
}

/// Hosts that are ours: the one that the request names, and the one that the operator does.
pub fn hosts<'a>(world: &'a World, named: Option<&'a str>) -> Vec<&'a str> {
    let public = world.server.public_url.as_deref().and_then(|url| url.split_once("://")).map(|(_, host)| host);
    named.into_iter().chain(public).collect()
}

/// Whether whoever has these claims may use the route, for the path that was captured; `sent` is where the token was.
pub async fn permit(
    world: &World,
    served: &Served,
    captures: &Captures,
    claims: &Claims,
    (headers, query): (&HeaderMap, Option<&str>),
) -> Result<(), Failure> {
    let Authorization::Policy(policy) = &served.route.authorization else { return Ok(()) };
    let captured = |name: &str| captures.decoded(name).and_then(Result::ok);
    if !policy.permits(claims, &captured) {
        return Err(denied(served));
    }
    let Some(guarded) = &served.guarded else { return Ok(()) };
    let token = world.authenticator.token(headers, query);
    ask(served, guarded, captures, &claims.subject, token.as_deref()).await
}

/// The leave that [`permit`] has just given, for a token that stands for these claims.
pub fn leave(served: &Served, captures: &Captures, claims: &Claims) -> Result<PathAuthorization, Failure> {
    let claim = counted_claim(served).and_then(|name| claim_text(&claims.map, name));
    let claim = claim.map(|text| ClaimValue::new(&text).into_text());
    Ok(PathAuthorization { digest: judged(served, captures)?, claim })
}

/// Everything that [`permit`] looks at on the route beside the user: its hosts, its policy, the captured values that the
/// policy's rules speak of, the track that others are asked about. Beside it the claim that the route's limit counts by,
/// which a token carries.
fn judged(served: &Served, captures: &Captures) -> Result<AuthorizationDigest, Failure> {
    let Authorization::Policy(policy) = &served.route.authorization else { return Ok(AuthorizationDigest::default()) };
    let mut parts = vec![served.route.hosts.join("\n"), policy.name.to_string()];
    parts.push(counted_claim(served).unwrap_or_default().to_owned());
    parts.push(served.guarded.as_ref().map_or(Ok(String::new()), |guarded| track(guarded, captures))?);
    for name in policy.captured_names() {
        parts.push(name.to_owned());
        parts.push(captures.decoded(name).and_then(Result::ok).unwrap_or_default());
    }
    Ok(AuthorizationDigest::new(parts.iter().map(String::as_str)))
}

/// The claim that the route's limit counts by.
fn counted_claim(served: &Served) -> Option<&str> {
    match &served.limit.as_ref()?.settings().partition {
        LimitPartition::Claim(name) => Some(name),
        LimitPartition::User | LimitPartition::Address | LimitPartition::Route => None,
    }
}

/// By a token in the path: the rules over claims were satisfied, for what is judged here, when it was made.
async fn by_ticket(world: &World, method: &Method, ctx: &mut Ctx, served: &Served) -> Result<(), Failure> {
    let (Some(tokens), Some(ticket)) = (&world.guards.path_tokens, &ctx.ticket) else {
        return Err(Failure::Unauthorized(AuthenticationError::Missing));
    };
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if !reads || !tokens.authorizes(ticket, &judged(served, &ctx.captures)?) {
        return Err(Failure::Unauthorized(AuthenticationError::WrongPath));
    }
    let user = ticket.user.clone();
    let map = Map::from_iter([("sub".to_owned(), Value::from(user.as_str()))]);
    ctx.claims = Some(Arc::new(Claims { subject: user.clone(), map }));
    limit::admit(ctx, served).await?;
    match &served.guarded {
        Some(guarded) => ask(served, guarded, &ctx.captures, &user, None).await,
        None => Ok(()),
    }
}

/// The id of the track that those who decide beyond claims are asked about.
fn track(guarded: &Guarded, captures: &Captures) -> Result<String, Failure> {
    guarded.track.render_key(captures).map_err(|error| Failure::BadRequest(error.to_string().into()))
}

async fn ask(
    served: &Served,
    guarded: &Guarded,
    captures: &Captures,
    user: &str,
    token: Option<&str>,
) -> Result<(), Failure> {
    let track = track(guarded, captures)?;
    // Few routes ask; the others carry a pointer in place of the question.
    let asked: BoxFuture<'_, _> = Box::pin(guarded.access.permits(user, &track, token));
    match asked.await {
        AccessDecision::Allowed => Ok(()),
        AccessDecision::Denied => Err(denied(served)),
        AccessDecision::Unknown => Err(Failure::AccessUnavailable),
    }
}

/// What of a route those who decide beyond claims are asked about.
pub struct Guarded {
    /// They.
    pub access: Arc<AccessChecker>,
    /// The track's id.
    pub track: routing::template::CaptureTemplate,
}

fn denied(served: &Served) -> Failure {
    if served.route.hide_existence == Some(true) { Failure::Hidden } else { Failure::Forbidden }
}

/// Resolves when the user of a live stream has logged out and that is to end it.
pub fn revoked(ctx: &Ctx) -> impl Future<Output = ()> + use<> {
    let guards = &ctx.world.guards;
    let watched = guards.revocations.clone().filter(|_| guards.end_streams).zip(ctx.claims.clone());
    let generation = ctx.ticket.as_ref().map(|ticket| ticket.generation);
    async move {
        match watched {
            // Boxed: a stream that nobody can end so, which is most, does not keep room for it.
            Some((revocations, claims)) => Box::pin(revocations.wait_until_revoked(&claims.subject, generation)).await,
            None => std::future::pending().await,
        }
    }
}
