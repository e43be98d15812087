//! Leave to use a route: by a token of the request, or by one in its path; then by those who decide beyond claims.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};

use super::ctx::Ctx;
use super::failure::Failure;
use super::limit;
use super::settings::Authorization;
use super::world::{Served, World};
use crate::auth::path_token::{self, PathToken, PathTokens};
use crate::auth::revocation::Revocations;
use crate::auth::{Claims, Refusal};
use crate::catalog::access::{Access, Verdict};
use crate::route::pattern::Captures;

/// Who is asked for leave beside the issuers of tokens.
#[derive(Clone, Default)]
pub struct Guards {
    /// Those who decide beyond claims, by the policy's name.
    pub access: HashMap<Arc<str>, Arc<Access>>,
    /// Tokens in paths, where they are given out.
    pub path_tokens: Option<Arc<PathTokens>>,
    /// The users' generations, where tokens in paths or live streams are tied to them.
    pub revocations: Option<Arc<Revocations>>,
    /// Whether a logout ends live streams.
    pub end_streams: bool,
}

/// Takes a token out of the request's path, before anything else looks at it.
pub fn open_path(world: &World, request: &mut Parts) {
    if world.guards.path_tokens.is_none() || !request.uri.path().starts_with("/t/") {
        return;
    }
    let Some((token, rest)) = path_token::split(request.uri.path()) else { return };
    let target = request.uri.query().map_or_else(|| Cow::Borrowed(rest), |query| format!("{rest}?{query}").into());
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = target.parse().ok();
    if let Some(uri) = parts.path_and_query.is_some().then(|| Uri::from_parts(parts).ok()).flatten() {
        request.uri = uri;
        request.extensions.insert(token);
    }
}

/// Authenticates and authorises.
pub async fn authorise(request: &Parts, ctx: &mut Ctx, served: &Served) -> Result<(), Failure> {
    let Authorization::Policy(_) = &served.route.authorization else { return limit::admit(ctx, served).await };
    let world = Arc::clone(&ctx.world);
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    if let Some(token) = request.extensions.get::<PathToken>().filter(|_| reads) {
        let asked: BoxFuture<'_, _> = Box::pin(by_path(&world, token, request.uri.path(), ctx, served));
        return asked.await;
    }
    let query = request.uri.query();
    let claims = limit::authenticate(&request.headers, query, ctx).await?;
    ctx.claims = Some(Arc::clone(&claims));
    limit::admit(ctx, served).await?;
    permit(&world, served, &ctx.captures, &claims, (&request.headers, query)).await
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

/// By a token in the path: the rules over claims were satisfied when it was made.
async fn by_path(world: &World, token: &PathToken, path: &str, ctx: &mut Ctx, served: &Served) -> Result<(), Failure> {
    let tokens = world.guards.path_tokens.as_ref().ok_or(Failure::Unauthorized(Refusal::Missing))?;
    let ticket = tokens.verify(token, path).map_err(Failure::Unauthorized)?;
    if let Some(revocations) = &world.guards.revocations
        && revocations.is_revoked(&ticket.user, ticket.generation).await
    {
        return Err(Failure::Unauthorized(Refusal::Revoked));
    }
    let map = Map::from_iter([("sub".to_owned(), Value::from(ticket.user.as_str()))]);
    ctx.claims = Some(Arc::new(Claims { subject: ticket.user.clone(), map }));
    let user = ticket.user.clone();
    ctx.ticket = Some(ticket);
    limit::admit(ctx, served).await?;
    match &served.guarded {
        Some(guarded) if !path_token::is_digest(&user) => ask(served, guarded, &ctx.captures, &user, None).await,
        _ => Ok(()),
    }
}

async fn ask(
    served: &Served,
    guarded: &Guarded,
    captures: &Captures,
    user: &str,
    token: Option<&str>,
) -> Result<(), Failure> {
    let track = guarded.track.render(captures);
    let track = track.map_err(|error| Failure::BadRequest(error.to_string().into()))?;
    // Few routes ask; the others carry a pointer in place of the question.
    let asked: BoxFuture<'_, _> = Box::pin(guarded.access.permits(user, &track, token));
    match asked.await {
        Verdict::Allowed => Ok(()),
        Verdict::Denied => Err(denied(served)),
        Verdict::Unknown => Err(Failure::AccessUnavailable),
    }
}

/// What of a route those who decide beyond claims are asked about.
pub struct Guarded {
    /// They.
    pub access: Arc<Access>,
    /// The track's id.
    pub track: crate::route::template::Template,
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
            Some((revocations, claims)) => Box::pin(revocations.revoked(&claims.subject, generation)).await,
            None => std::future::pending().await,
        }
    }
}
