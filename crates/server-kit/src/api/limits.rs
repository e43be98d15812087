//! Limits on the API: a layer around a module's paths, by class. A class is a rate limiter policy of its name; where the
//! configuration has none of it, nothing is limited and nothing costs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use utoipa_axum::router::OpenApiRouter;

use super::caller::{Role, User};
use super::error::Error;
use crate::auth::policy::claim_text;
use crate::limit::policy::{Cause, Permit, Policy, Refused};
use crate::limit::subject::{ClaimValue, Who};
use crate::limit::{Limits, Standing};
use http_semantics::rate_limit::{self, ExceededLimit};
use http_semantics::request_info::RequestInfo;

/// Which policy counts a path's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    name: &'static str,
    /// In its place for users with the role `vip`.
    vip: Option<&'static str>,
    /// Whether callers may show a token of an issuer; where they may not, looking for one would count what they show
    /// instead as a bad one.
    has_users: bool,
}

impl Class {
    /// Most paths: `standard`, and `elevated` for the role `vip`.
    pub const STANDARD: Self = Self { name: "standard", vip: Some("elevated"), has_users: true };
    /// Paths of administrators: `strict`.
    pub const STRICT: Self = Self::named("strict");
    /// Recognition, which costs a foreign service: `recognition`.
    pub const RECOGNITION: Self = Self::named("recognition");

    /// A class of a module's own, such as one for paths that are polled.
    pub const fn named(name: &'static str) -> Self {
        Self { name, vip: None, has_users: true }
    }

    /// The same for paths that have a kind of token of their own: what counts there is the address.
    pub const fn without_users(name: &'static str) -> Self {
        Self { name, vip: None, has_users: false }
    }
}

/// Marks a request that no class counts: whoever sent it may ask for nothing.
#[derive(Clone, Copy, Debug)]
pub struct Uncounted;

/// The policies of a class.
#[derive(Clone)]
struct ClassPolicies {
    class: Class,
    policy: Option<Arc<Policy>>,
    vip: Option<Arc<Policy>>,
}

/// Tells requests of administrators among those of a path that everybody has.
pub type IsOperation = fn(&Uri, &User) -> bool;

/// What counts a path's requests.
#[derive(Clone)]
struct Limiter {
    of_everybody: ClassPolicies,
    of_operators: Option<(IsOperation, ClassPolicies)>,
}

impl ClassPolicies {
    fn new(limits: &Limits, class: Class) -> Self {
        let policy = limits.policy(class.name).cloned();
        let vip = class.vip.and_then(|name| limits.policy(name)).or(policy.as_ref()).cloned();
        Self { class, policy, vip }
    }

    fn is_empty(&self) -> bool {
        self.policy.is_none() && self.vip.is_none()
    }
}

impl Limiter {
    /// The policies for a request of `user` to `uri`.
    fn policies(&self, uri: &Uri, user: Option<&User>) -> &ClassPolicies {
        let of_operators = self.of_operators.as_ref().zip(user);
        match of_operators {
            Some(((is_operation, policies), user)) if is_operation(uri, user) => policies,
            _ => &self.of_everybody,
        }
    }
}

/// `routes`, their requests counted by `class`.
pub fn limited<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    limits: &Limits,
    class: Class,
) -> OpenApiRouter<S> {
    counted(routes, Limiter { of_everybody: ClassPolicies::new(limits, class), of_operators: None })
}

/// As [`limited`], and by [`Class::STRICT`] those requests that `is_operation` finds.
pub fn limited_with_operations<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    limits: &Limits,
    class: Class,
    is_operation: IsOperation,
) -> OpenApiRouter<S> {
    let of_operators = Some((is_operation, ClassPolicies::new(limits, Class::STRICT)));
    counted(routes, Limiter { of_everybody: ClassPolicies::new(limits, class), of_operators })
}

fn counted<S: Clone + Send + Sync + 'static>(routes: OpenApiRouter<S>, limiter: Limiter) -> OpenApiRouter<S> {
    let counts_nobody = limiter.of_operators.as_ref().is_none_or(|(_, policies)| policies.is_empty());
    if limiter.of_everybody.is_empty() && counts_nobody {
        return routes;
    }
    routes.layer(middleware::from_fn_with_state(limiter, limit))
}

async fn limit(State(limiter): State<Limiter>, request: Request, next: Next) -> Result<Response, Limited> {
    // A browser asks before it is let ask: that counts nowhere.
    if request.method() == Method::OPTIONS || request.extensions().get::<Uncounted>().is_some() {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    // Who it is is found once: the handler finds it in the extensions. A bad token is refused there; here it counts by
    // its address, and one too many costs nothing more.
    let user = match limiter.of_everybody.class.has_users {
        true => match User::from_request_parts(&mut parts, &()).await {
            Err(error) if error.status() == StatusCode::TOO_MANY_REQUESTS => return Ok(error.into_response()),
            found => found.ok(),
        },
        false => None,
    };
    let is_vip = user.as_ref().is_some_and(|user| user.role() == Role::Vip);
    let request = Request::from_parts(parts, body);
    let ClassPolicies { class, policy, vip } = limiter.policies(request.uri(), user.as_ref()).clone();
    let policy = if is_vip { vip } else { policy };
    let Some(policy) = policy else { return Ok(next.run(request).await) };
    let subject = {
        let claim = |name: &str| claim_text(&user.as_ref()?.claims.map, name).map(|text| ClaimValue::new(&text));
        let address = request.extensions().get::<RequestInfo>().and_then(|caller| caller.client_address);
        policy.subject(&Who { user: user.as_ref().map(User::id), claim: &claim, address, route: class.name })
    };
    let permit = policy.admit(&subject).await.map_err(Limited)?;
    let mut response = next.run(request).await;
    tell(response.headers_mut(), permit.standing());
    Ok(if permit.outlives_head() { holding(response, permit) } else { response })
}

/// The response, with `permit` held until its body is at its end.
fn holding(response: Response, permit: Permit) -> Response {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if let Some(bytes) = frame.data_ref() {
                // Counted, not paced: the API's answers are small.
                permit.sent(bytes.len() as u64);
            }
            frame
        }))
    })
}

fn tell(headers: &mut HeaderMap, standing: Option<Standing>) {
    for (name, value) in standing.iter().flat_map(|it| rate_limit::headers(it.limit, it.remaining, it.reset)) {
        headers.insert(name, value.into());
    }
}

/// A refusal, on its way to the envelope.
struct Limited(Refused);

impl IntoResponse for Limited {
    fn into_response(self) -> Response {
        let Self(Refused { cause, standing }) = self;
        let exceeded = match cause {
            Cause::Requests => ExceededLimit::Requests,
            Cause::Streams => ExceededLimit::Streams,
            Cause::Egress => ExceededLimit::Egress,
        };
        let mut response = Error::exceeded(exceeded, standing.reset).into_response();
        tell(response.headers_mut(), Some(standing));
        response
    }
}
