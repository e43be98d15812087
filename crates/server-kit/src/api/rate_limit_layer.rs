//! Limits of the API: a layer around a module's paths, by class. A class is a rate limiter policy of its name; without
//! that policy in the configuration nothing is limited and nothing costs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use utoipa_axum::router::OpenApiRouter;

use super::error::Error;
use super::user::{User, UserRole};
use crate::auth::claims_policy::claim_text;
use crate::limit::rate_limiter::{LimitRejection, RateLimitPermit, RateLimiter};
use crate::limit::subject::{ClaimValue, RequesterInfo};
use crate::limit::{RateLimitStatus, RateLimiters};
use http_semantics::rate_limit;
use http_semantics::request_info::RequestInfo;

/// Policy that counts a path's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitClass {
    name: &'static str,
    /// Policy in its place for users with the role `vip`.
    vip: Option<&'static str>,
    /// True if callers must send a valid token of an issuer; otherwise none is looked for, or their other token would
    /// count as invalid.
    has_users: bool,
}

impl RateLimitClass {
    /// Most paths: `standard`, and `elevated` for the role `vip`.
    pub const STANDARD: Self = Self { name: "standard", vip: Some("elevated"), has_users: true };
    /// Paths of administrators: `strict`.
    pub const STRICT: Self = Self::named("strict");
    /// Recognition, which costs a foreign service: `recognition`.
    pub const RECOGNITION: Self = Self::named("recognition");

    /// Returns a class of a module's own, whose callers must all be users.
    pub const fn named(name: &'static str) -> Self {
        Self { name, vip: None, has_users: true }
    }

    /// Returns a class for paths that have a kind of token of their own: the address is counted there.
    pub const fn without_users(name: &'static str) -> Self {
        Self { name, vip: None, has_users: false }
    }
}

/// Mark of a request that no class counts.
#[derive(Clone, Copy, Debug)]
pub struct SkipRateLimit;

/// Predicate for requests of administrators among those of a path that everybody has.
pub type IsAdminRequest = fn(&Uri, &User) -> bool;

/// Limiter of a path's requests.
#[derive(Clone)]
struct ClassLimiter {
    limits: Arc<RateLimiters>,
    class: RateLimitClass,
    admin_class: Option<(IsAdminRequest, RateLimitClass)>,
}

impl ClassLimiter {
    /// Returns true where no policy counts anybody: a request then pays nothing, not even for its user.
    fn is_empty(&self) -> bool {
        let is_counted = |class: RateLimitClass| {
            self.limits.has_limiter(class.name) || class.vip.is_some_and(|name| self.limits.has_limiter(name))
        };
        !is_counted(self.class) && self.admin_class.is_none_or(|(_, class)| !is_counted(class))
    }

    /// Returns the class of a request of `user` to `uri`, and its policy, if the configuration has one.
    fn policy(&self, uri: &Uri, user: Option<&User>) -> (RateLimitClass, Option<Arc<RateLimiter>>) {
        let class = match self.admin_class.zip(user) {
            Some(((is_admin, class), user)) if is_admin(uri, user) => class,
            _ => self.class,
        };
        let vip = class.vip.filter(|_| user.is_some_and(|user| user.role() == UserRole::Vip));
        (class, vip.and_then(|name| self.limits.limiter(name)).or_else(|| self.limits.limiter(class.name)))
    }
}

/// Returns `routes` with a layer that counts their requests by `class`, and answers those beyond its limit with 429.
/// Where the class has users, it also refuses requests without a valid token. Does nothing where the configuration has no
/// policy of the class; `OPTIONS` is not counted.
pub fn limit_routes<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    limits: &Arc<RateLimiters>,
    class: RateLimitClass,
) -> OpenApiRouter<S> {
    add_limiter(routes, ClassLimiter { limits: Arc::clone(limits), class, admin_class: None })
}

/// Returns `routes` as [`limit_routes`] does, except that requests that `is_operation` finds are counted by
/// [`RateLimitClass::STRICT`] instead.
pub fn limit_routes_with_admin_class<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    limits: &Arc<RateLimiters>,
    class: RateLimitClass,
    is_operation: IsAdminRequest,
) -> OpenApiRouter<S> {
    let admin_class = Some((is_operation, RateLimitClass::STRICT));
    add_limiter(routes, ClassLimiter { limits: Arc::clone(limits), class, admin_class })
}

fn add_limiter<S: Clone + Send + Sync + 'static>(routes: OpenApiRouter<S>, limiter: ClassLimiter) -> OpenApiRouter<S> {
    routes.layer(middleware::from_fn_with_state(limiter, enforce_limit))
}

async fn enforce_limit(
    State(limiter): State<ClassLimiter>,
    request: Request,
    next: Next,
) -> Result<Response, LimitRejectionResponse> {
    // A preflight comes before the request itself, which is counted.
    let is_exempt = request.method() == Method::OPTIONS || request.extensions().get::<SkipRateLimit>().is_some();
    if is_exempt || limiter.is_empty() {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    // The token is judged first: a request without a valid one is counted as an invalid token, and uses up nobody's
    // limit. The user is determined once: the handler finds it in the extensions.
    let user = match limiter.class.has_users {
        true => match User::from_request_parts(&mut parts, &()).await {
            Ok(user) => Some(user),
            Err(error) => return Ok(error.into_response()),
        },
        false => None,
    };
    let request = Request::from_parts(parts, body);
    let (class, policy) = limiter.policy(request.uri(), user.as_ref());
    let Some(policy) = policy else { return Ok(next.run(request).await) };
    let subject = {
        let claim = |name: &str| claim_text(&user.as_ref()?.claims.map, name).map(|text| ClaimValue::new(&text));
        let address = request.extensions().get::<RequestInfo>().and_then(|caller| caller.client_address);
        let user = user.as_ref().map(|user| user.id().as_str());
        policy.subject(&RequesterInfo { user, claim: &claim, address, route: class.name })
    };
    let permit = policy.admit(&subject).await.map_err(LimitRejectionResponse)?;
    let mut response = next.run(request).await;
    set_rate_limit_headers(response.headers_mut(), permit.status());
    // Otherwise the permit ends here, and the body is passed on unwrapped.
    Ok(if permit.covers_body() { hold_permit(response, permit) } else { response })
}

/// Returns the response, with `permit` held until its body has ended.
fn hold_permit(response: Response, permit: RateLimitPermit) -> Response {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if let Some(bytes) = frame.data_ref() {
                // Counted, not paced: the API's responses are small.
                permit.record_sent(bytes.len() as u64);
            }
            frame
        }))
    })
}

fn set_rate_limit_headers(headers: &mut HeaderMap, standing: Option<RateLimitStatus>) {
    for (name, value) in standing.iter().flat_map(|it| rate_limit::headers(it.limit, it.remaining, it.reset)) {
        headers.insert(name, value.into());
    }
}

/// Refusal, on its way to the envelope.
struct LimitRejectionResponse(LimitRejection);

impl IntoResponse for LimitRejectionResponse {
    fn into_response(self) -> Response {
        let Self(LimitRejection { limit, status }) = self;
        let mut response = Error::exceeded(limit.into(), status.reset).into_response();
        // Set beside the error: `envelope` keeps these fields when it writes the body.
        set_rate_limit_headers(response.headers_mut(), Some(status));
        response
    }
}
