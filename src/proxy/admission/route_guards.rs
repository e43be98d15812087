//! What a route asks for beside another: so that no spelling of a path leads past a stricter one
//! ([`routing::readings`]), and for warnings of methods that do.

use std::sync::Arc;

use http::Method;

use crate::proxy::route::{Route, RouteAuthorization, RoutePolicies, TrackAccess};
use crate::proxy::settings::{AuthorizationSettings, HandlerSettings, RouteSettings};
use routing::pattern::Captures;
use routing::readings::GuardedRoute;
use routing::table::{RouteEntry, RouteTable};
use server_kit::limit::settings::LimitPartition;

/// Methods that are looked at for routes that take any.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

impl GuardedRoute for Route {
    fn is_read_by_server(&self) -> bool {
        !self.serves_objects()
    }

    fn asks_more(&self, own: &Captures, other: &Self, others: &Captures) -> bool {
        // What limits the requests to a server limits nobody who asks for an object.
        let is_comparable = self.serves_objects() || other.is_read_by_server();
        is_authorized_by_more((self, own), (other, others)) || is_comparable && is_limited_by_more(self, other)
    }
}

/// Returns true where somebody whom `other` lets through may not use `route`.
fn is_authorized_by_more((route, own): (&Route, &Captures), (other, others): (&Route, &Captures)) -> bool {
    let RouteAuthorization::Policy { claims, track_access } = &route.policies.authorization else { return false };
    let RouteAuthorization::Policy { claims: other_claims, track_access: other_access } = &other.policies.authorization
    else {
        return true;
    };
    let differs = |name: &str| own.decoded(name) != others.decoded(name);
    let track =
        |access: &Option<TrackAccess>, captures: &Captures| access.as_ref().map(|it| it.track_id.render_key(captures));
    claims.name != other_claims.name
        || claims.captured_names().into_iter().any(differs)
        || track(track_access, own) != track(other_access, others)
}

/// Returns true where a request that `other` takes may be refused or slowed down by `route`: by a count of its own, a
/// smaller body, or because pages of fewer sites may read what it answers. Two limits of different names are not compared.
fn is_limited_by_more(route: &Route, other: &Route) -> bool {
    let RoutePolicies { rate_limiter, max_request_body, cors, .. } = &route.policies;
    let is_counted_apart = rate_limiter.as_ref().is_some_and(|limiter| {
        let settings = limiter.settings();
        let is_same = |it: &str| it == &*settings.name;
        let by_route = settings.partition == LimitPartition::Route && route.id != other.id;
        by_route || !other.policies.rate_limiter.as_ref().is_some_and(|it| is_same(&it.settings().name))
    });
    let takes_less = max_request_body.is_some_and(|most| other.policies.max_request_body.is_none_or(|it| it > most));
    let is_read_by_fewer = other.policies.cors.is_some() && other.policies.cors != *cors;
    is_counted_apart || takes_less || is_read_by_fewer
}

/// Returns true where somebody whom a route of the policy `other` lets through may not use one of `policy`; `None` is
/// `Anonymous`.
fn asks_more(policy: Option<&str>, other: Option<&str>) -> bool {
    policy.is_some() && policy != other
}

/// The name of the policy that a route asks for.
fn configured_policy(route: &RouteSettings) -> Option<&str> {
    match &route.authorization {
        AuthorizationSettings::Anonymous => None,
        AuthorizationSettings::Policy { claims, .. } => Some(&claims.name),
    }
}

/// Returns warnings, in words for the operator, of routes that limit themselves to some methods while a route that is less
/// strictly authorized takes others of the same paths.
pub fn weaker_route_warnings(routes: &RouteTable<Arc<RouteSettings>>) -> Vec<String> {
    let entries: Vec<&RouteEntry<Arc<RouteSettings>>> = routes.entries().collect();
    let mut warnings = Vec::new();
    for strict in entries.iter().filter(|entry| !entry.matches.methods.is_empty()) {
        for weak in &entries {
            let methods = open_methods(strict, weak, &entries);
            if methods.is_empty() {
                continue;
            }
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            warnings.push(format!(
                "`{}` asks for more than `{}`, which takes other methods of the same paths ({}): list them in the first one's \
                 `Match.Methods`, or leave that out",
                strict.id,
                weak.id,
                names.join(", "),
            ));
        }
    }
    warnings
}

/// Methods of the paths of `strict` that only `weak` takes, and no other route that asks for more.
fn open_methods(
    strict: &RouteEntry<Arc<RouteSettings>>,
    weak: &RouteEntry<Arc<RouteSettings>>,
    all: &[&RouteEntry<Arc<RouteSettings>>],
) -> Vec<Method> {
    if !asks_more(configured_policy(&strict.value), configured_policy(&weak.value))
        || !weak.matches.covers(&strict.matches)
    {
        return Vec::new();
    }
    let answers = |method: &Method| match weak.value.handler {
        HandlerSettings::Object(_) | HandlerSettings::Track(_) => matches!(*method, Method::GET | Method::HEAD),
        HandlerSettings::Cluster(_) => true,
    };
    let is_guarded = |method: &Method| {
        let mut others =
            all.iter().filter(|other| asks_more(configured_policy(&other.value), configured_policy(&weak.value)));
        others.any(|other| other.matches.takes(method) && other.matches.covers(&strict.matches))
    };
    let any = METHODS;
    let listed = if weak.matches.methods.is_empty() { &any[..] } else { weak.matches.methods.as_slice() };
    listed.iter().filter(|method| answers(method) && !is_guarded(method)).cloned().collect()
}
