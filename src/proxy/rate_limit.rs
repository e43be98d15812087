//! Rate limits of a request: the route's rate limiter is asked before a store is, its status goes on every response, and
//! bytes are counted and paced as they are sent. A route without a policy is not limited.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{HeaderMap, HeaderName};

use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::route::Route;
use http_semantics::rate_limit::{self, ExceededLimit};
use server_kit::auth::{self, AuthenticationError, Claims};
use server_kit::limit::rate_limiter::{LimitKind, LimitRejection};
use server_kit::limit::subject::{ClaimValue, RequesterInfo};

/// The claims of the request's token.
pub async fn authenticate(
    headers: &HeaderMap,
    query: Option<&str>,
    ctx: &RequestContext,
) -> Result<Arc<Claims>, ProxyFailure> {
    ctx.runtime
        .process
        .authenticator
        .authenticate(headers, query)
        .await
        .map_err(|refusal| authentication_failure(refusal, ctx))
}

/// Returns the failure of a request whose token is not accepted. Bad tokens are counted by client network, and beyond a
/// number answered by 429; a valid one is accepted regardless.
pub fn authentication_failure(refusal: AuthenticationError, ctx: &RequestContext) -> ProxyFailure {
    let too_many = if refusal.is_invalid_token() {
        ctx.runtime.process.limiters.invalid_tokens().record(ctx.client_address)
    } else {
        None
    };
    match (refusal, too_many) {
        (_, Some(wait)) => ProxyFailure::Limited(ExceededLimit::BadTokens, wait),
        (AuthenticationError::KeysUnavailable, None) => ProxyFailure::KeysUnavailable,
        (refusal, None) => ProxyFailure::Unauthorized(refusal),
    }
}

/// Asks the route's rate limiter; its permit is kept in `ctx` to the request's end.
pub async fn admit_by_rate_limit(ctx: &mut RequestContext, route: &Route) -> Result<(), ProxyFailure> {
    let Some(policy) = &route.policies.rate_limiter else { return Ok(()) };
    let subject = {
        let claims = ctx.claims.as_deref();
        let claim = |name: &str| match (claims?, &ctx.path_token) {
            // A token in the path carries the one claim that this policy counts by, and no other.
            (_, Some(path_token)) => path_token.claim.clone().map(ClaimValue::from_text),
            (claims, None) => auth::claims_policy::claim_text(&claims.map, name).map(|text| ClaimValue::new(&text)),
        };
        let user = claims.map(|claims| claims.subject.as_str());
        policy.subject(&RequesterInfo { user, claim: &claim, address: ctx.client_address, route: &route.id })
    };
    // Boxed: the request's future, which a paused player keeps, does not grow by what a question to Redis needs.
    match policy.admit(&subject).boxed().await {
        Ok(permit) => {
            ctx.rate_limit_status = permit.status();
            ctx.rate_limit_permit = Some(permit);
            Ok(())
        }
        Err(LimitRejection { limit: cause, status }) => {
            ctx.rate_limit_status = Some(status);
            let limited = match cause {
                LimitKind::Requests => ExceededLimit::Requests,
                LimitKind::Streams => ExceededLimit::Streams,
                LimitKind::Egress => ExceededLimit::Egress,
            };
            Err(ProxyFailure::Limited(limited, status.reset))
        }
    }
}

/// Rate limit headers of the response: names and whole numbers, seconds for the reset.
pub fn rate_limit_headers(ctx: &RequestContext) -> impl Iterator<Item = (HeaderName, u64)> {
    let status = ctx.rate_limit_status.map(|it| rate_limit::headers(it.limit, it.remaining, it.reset));
    status.into_iter().flatten()
}

/// Reserves bandwidth for `bytes`; returns the time to wait before they are sent, `None` where that is not needed.
pub fn reserve_bandwidth(ctx: &RequestContext, bytes: u64) -> Option<Duration> {
    ctx.rate_limit_permit.as_ref()?.reserve_bandwidth(bytes)
}

/// Largest number of bytes to write at once; `None` where the caller has no bandwidth limit.
pub fn chunk_size(ctx: &RequestContext) -> Option<usize> {
    ctx.rate_limit_permit.as_ref()?.chunk_size()
}

/// Counts `bytes` sent against the caller's egress quota.
pub fn record_sent(ctx: &RequestContext, bytes: u64) {
    if let Some(permit) = &ctx.rate_limit_permit {
        permit.record_sent(bytes);
    }
}
