//! Limits on the way of a request: the route's policy is asked before a store is, what it says goes on every answer, and
//! what is sent is counted and paced. A route without a policy passes through untouched.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{HeaderMap, HeaderName};

use super::ctx::Ctx;
use super::failure::Failure;
use super::world::Served;
use http_semantics::rate_limit::{self, ExceededLimit};
use server_kit::auth::{self, AuthenticationError, Claims};
use server_kit::limit::rate_limiter::{LimitKind, LimitRejection};
use server_kit::limit::subject::{ClaimValue, RequesterInfo};

/// The claims of the request's token.
pub async fn authenticate(headers: &HeaderMap, query: Option<&str>, ctx: &Ctx) -> Result<Arc<Claims>, Failure> {
    ctx.world.authenticator.authenticate(headers, query).await.map_err(|refusal| refused(refusal, ctx))
}

/// The failure of a request whose token is not accepted. Bad tokens are counted by address, and beyond a number told that
/// they are too many; no valid one is kept out by that.
pub fn refused(refusal: AuthenticationError, ctx: &Ctx) -> Failure {
    let too_many = if refusal.is_invalid_token() { ctx.world.limits.invalid_tokens().record(ctx.client) } else { None };
    match (refusal, too_many) {
        (_, Some(wait)) => Failure::Limited(ExceededLimit::BadTokens, wait),
        (AuthenticationError::KeysUnavailable, None) => Failure::KeysUnavailable,
        (refusal, None) => Failure::Unauthorized(refusal),
    }
}

/// Asks the route's policy; the leave is kept in `ctx` to the request's end.
pub async fn admit(ctx: &mut Ctx, served: &Served) -> Result<(), Failure> {
    let Some(policy) = &served.limit else { return Ok(()) };
    let subject = {
        let claims = ctx.claims.as_deref();
        let claim = |name: &str| match (claims?, &ctx.ticket) {
            // A token in the path carries the one claim that this policy counts by, and no other.
            (_, Some(ticket)) => ticket.claim.clone().map(ClaimValue::from_text),
            (claims, None) => auth::claims_policy::claim_text(&claims.map, name).map(|text| ClaimValue::new(&text)),
        };
        let user = claims.map(|claims| claims.subject.as_str());
        policy.subject(&RequesterInfo { user, claim: &claim, address: ctx.client, route: &served.route.id })
    };
    // Boxed: the request's future, which a paused player keeps, does not grow by what a question to Redis needs.
    match policy.admit(&subject).boxed().await {
        Ok(permit) => {
            ctx.standing = permit.status();
            ctx.permit = Some(permit);
            Ok(())
        }
        Err(LimitRejection { limit: cause, status: standing }) => {
            ctx.standing = Some(standing);
            let limited = match cause {
                LimitKind::Requests => ExceededLimit::Requests,
                LimitKind::Streams => ExceededLimit::Streams,
                LimitKind::Egress => ExceededLimit::Egress,
            };
            Err(Failure::Limited(limited, standing.reset))
        }
    }
}

/// What an answer says of the limit.
pub fn headers(ctx: &Ctx) -> impl Iterator<Item = (HeaderName, u64)> {
    let standing = ctx.standing.map(|it| rate_limit::headers(it.limit, it.remaining, it.reset));
    standing.into_iter().flatten()
}

/// Takes the time that `bytes` need at the caller's speed; how long to wait before they are sent.
pub fn pace(ctx: &Ctx, bytes: u64) -> Option<Duration> {
    ctx.permit.as_ref()?.reserve_bandwidth(bytes)
}

/// Bytes that are sent at once where the caller has a speed.
pub fn piece(ctx: &Ctx) -> Option<usize> {
    ctx.permit.as_ref()?.chunk_size()
}

/// Counts `bytes` sent.
pub fn sent(ctx: &Ctx, bytes: u64) {
    if let Some(permit) = &ctx.permit {
        permit.record_sent(bytes);
    }
}
