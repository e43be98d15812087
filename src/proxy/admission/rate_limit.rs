//! Rate limits of a request: the route's rate limiter is asked before a store is, its status goes on every response, and
//! bytes are counted and paced as they are sent. A route without a policy is not limited.

use std::time::Duration;

use futures::FutureExt;
use http::HeaderName;

use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::route::Route;
use http_semantics::rate_limit;
use server_kit::auth;
use server_kit::limit::rate_limiter::LimitRejection;
use server_kit::limit::subject::{ClaimValue, RequesterInfo};

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
        Err(LimitRejection { limit, status }) => {
            ctx.rate_limit_status = Some(status);
            Err(ProxyFailure::Limited(limit.into(), status.reset))
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
