//! Section `ReverseProxy.Routes`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::policy::ResolvedPolicies;
use super::route_match::matches;
use super::{ConfigLocation, cache, limit, listener, object_route, transform};
use crate::config::file::{self, ConfigFile, NamedEntries};
use crate::config::report::ConfigProblem;
use crate::config::value::ByteSize;
use crate::proxy::settings::{
    AuthorizationSettings, ClusterRouteSettings, HandlerSettings, RouteSettings, UpstreamTimeouts,
};
use http_semantics::cors;
use routing::pattern::PathPattern;
use routing::table::{RouteEntry, RouteTable};
use s3::settings::StoreSettings;
use server_kit::auth::claims_policy::ClaimsPolicy;
use server_kit::limit::settings::RateLimitPolicy;
use upstream::settings::ClusterSettings;

/// Default limit of a request body in bytes: that of Kestrel, the host of YARP.
pub const MOST_BODY: u64 = 30_000_000;
/// Timeout of `TimeoutPolicy: Disable`: longer than anybody waits, and short enough to add to any clock.
const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// Resolved entries of the file that a route may name; those that failed are missing, and are reported already.
pub struct RouteScope<'a> {
    pub file: &'a ConfigFile,
    pub policies: &'a ResolvedPolicies,
    pub stores: &'a BTreeMap<Arc<str>, Arc<StoreSettings>>,
    pub clusters: &'a BTreeMap<Arc<str>, Arc<ClusterSettings>>,
    pub rate_limiters: &'a BTreeMap<Arc<str>, Arc<RateLimitPolicy>>,
}

impl RouteScope<'_> {
    /// Returns true where every store, cluster and rate limit policy of the file is there: maps leave out entries that
    /// failed, so a shorter one means a reported problem.
    pub fn is_complete(&self) -> bool {
        self.stores.len() == self.file.object_stores.len()
            && self.rate_limiters.len() == self.file.policies.rate_limiter.len()
            && self.clusters.len() == self.file.reverse_proxy.clusters.len()
    }
}

/// Returns the table of the enabled routes; disabled ones are checked all the same.
pub fn routes(at: &ConfigLocation<'_>, scope: &RouteScope<'_>) -> Option<RouteTable<Arc<RouteSettings>>> {
    let raw = &scope.file.reverse_proxy.routes;
    if let Some(name) = &scope.file.reverse_proxy.default_authorization_policy {
        // Once here, and not for each route that it holds for.
        is_usable_policy(&at.root("ReverseProxy").key("DefaultAuthorizationPolicy"), name, scope);
    }
    let entries = at.all(raw, |at, id, raw| route(at, id, raw, scope));
    let shares = scope.file.share.as_ref().is_some_and(|share| share.enabled.is_none_or(|flag| flag.0));
    let has_films = scope.file.vod.as_ref().is_some_and(|vod| vod.enabled.is_none_or(|flag| flag.0));
    // A relay needs no routes, and films have their own.
    if at.names().is_empty() && !shares && !has_films {
        at.report(
            ConfigProblem::new("there is no route").expected("at least one, or every request is answered by 404"),
        );
    }
    let enabled = |entry: &RouteEntry<_>| raw.get(&*entry.id).is_none_or(|raw| raw.enabled != Some(false));
    let table = RouteTable::build(entries?.into_iter().filter(enabled).collect());
    // All pairs are reported, not only the first.
    let ambiguities = match table {
        Ok(table) => return Some(table),
        Err(ambiguities) => ambiguities,
    };
    for ambiguity in ambiguities {
        let message =
            format!("this route and `{}` match the same requests, and neither is more specific", ambiguity.first);
        let help = "make one of them narrower, or give the one to be tried first a lower `Order`";
        at.key(&ambiguity.second).key("Match").report(ConfigProblem::new(message).help(help));
    }
    None
}

fn route(
    at: &ConfigLocation<'_>,
    id: &str,
    raw: &file::Route,
    scope: &RouteScope<'_>,
) -> Option<RouteEntry<Arc<RouteSettings>>> {
    let matches = matches(&at.key("Match"), &raw.r#match);
    let path = matches.as_ref().and_then(|matches| matches.path.as_ref());
    let names: Vec<&str> = path.into_iter().flat_map(PathPattern::names).collect();
    // Without a valid path the captures are unknown: only values that do not need them are checked.
    let captured = (matches.is_some()).then_some(names.as_slice());
    let signed = raw.transforms.iter().any(|transform| transform.presigned_url.is_some());
    let cluster = cluster(at, raw, scope);
    let cache = cache::of_route(at, raw, signed, &scope.policies.output_cache);
    let handler = match signed {
        true => object_route::handler(at, raw, captured, cluster, cache.flatten(), scope),
        false => cluster_handler(at, raw, captured, cluster).map(HandlerSettings::Cluster),
    };
    let authorization = authorization(at, raw, captured, scope);
    let rate_limiter = limit::of_route(at, raw, scope);
    let cors = cors(at, raw.cors_policy.as_deref(), scope.policies);
    // A plain route keeps YARP's timeouts, so that a configuration that is carried over behaves as before.
    let default = if signed { UpstreamTimeouts::default() } else { UpstreamTimeouts::YARP };
    let timeouts = timeouts(at, raw, scope.file, scope.policies, default);
    // Only now: a wrong policy must not hide the problems of the other keys.
    cache?;
    let route = RouteSettings {
        id: id.into(),
        hosts: raw.r#match.hosts.clone(),
        handler: handler?,
        authorization: authorization?,
        hide_existence: raw.hide_existence,
        rate_limiter: rate_limiter?,
        cors: cors?,
        timeouts: timeouts?,
        // Outer `None` is the default, inner `None` is `-1`, no limit.
        max_request_body: raw.max_request_body_size.map_or(Some(MOST_BODY), |ByteSize(size)| size),
    };
    Some(RouteEntry { id: id.into(), order: raw.order.unwrap_or(0), matches: matches?, value: Arc::new(route) })
}

/// Returns true if object routes use the cluster.
pub fn is_store(routes: &NamedEntries<file::Route>, cluster: &str) -> bool {
    let is_object = |route: &file::Route| route.transforms.iter().any(|transform| transform.presigned_url.is_some());
    routes.values().any(|route| route.cluster_id.as_deref() == Some(cluster) && is_object(route))
}

/// Resolves the cluster of a route: `Some(None)` if it names none, `None` if that is unknown.
fn cluster(at: &ConfigLocation<'_>, raw: &file::Route, scope: &RouteScope<'_>) -> Option<Option<Arc<ClusterSettings>>> {
    let Some(id) = &raw.cluster_id else { return Some(None) };
    let clusters = at.root("ReverseProxy").key("Clusters");
    at.key("ClusterId").known(id, &clusters, &[]).then(|| scope.clusters.get(id.as_str()).cloned()).flatten().map(Some)
}

/// Resolves the handler of a route without `PresignedUrl`.
fn cluster_handler(
    at: &ConfigLocation<'_>,
    raw: &file::Route,
    captured: Option<&[&str]>,
    cluster: Option<Option<Arc<ClusterSettings>>>,
) -> Option<ClusterRouteSettings> {
    let transforms = at.key("Transforms").each(&raw.transforms, |at, raw| transform::transform(at, raw, captured));
    if raw.cluster_id.is_none() {
        let problem = ConfigProblem::new("nothing says where requests go");
        at.report(problem.expected("`ClusterId`, or a transform `PresignedUrl` for an object of a store"));
    }
    Some(ClusterRouteSettings { cluster: cluster??, transforms: transforms? })
}

fn authorization(
    at: &ConfigLocation<'_>,
    raw: &file::Route,
    captured: Option<&[&str]>,
    scope: &RouteScope<'_>,
) -> Option<AuthorizationSettings> {
    let policies = scope.policies;
    let jwt = at.root("Auth").names().contains(&"Jwt");
    let own = at.key("AuthorizationPolicy");
    let common = scope.file.reverse_proxy.default_authorization_policy.as_deref();
    // Without issuers there is no safe default: open routes must be said to be so.
    let Some(name) = raw.authorization_policy.as_deref().or(common).or(jwt.then_some("Default")) else {
        let problem = ConfigProblem::new("nothing says who may use this route").expected("`AuthorizationPolicy`");
        at.report(problem.help(
            "write `AuthorizationPolicy: Anonymous` to open it to everybody, configure `Auth.Jwt`, or write what holds for all \
             such routes in `ReverseProxy.DefaultAuthorizationPolicy`: YARP's own default is `Anonymous`",
        ));
        return None;
    };
    if raw.authorization_policy.is_some() && !is_usable_policy(&own, name, scope) {
        return None;
    }
    if name == "Anonymous" {
        return Some(AuthorizationSettings::Anonymous);
    }
    if name == "Default" {
        let claims = Arc::new(ClaimsPolicy { name: name.into(), rules: Vec::new() });
        return Some(AuthorizationSettings::Policy { claims, track_access: None });
    }
    let policy = policies.authorization.get(name)?;
    let missing =
        policy.captures.iter().find(|capture| captured.is_some_and(|names| !names.contains(&capture.as_str())));
    if let Some(missing) = missing {
        let problem = ConfigProblem::new(format!(
            "`{name}` compares with `{{{missing}}}`, which this route's `Path` does not capture"
        ));
        own.report(problem.help(format!("put `{{{missing}}}` into `Match.Path`, or use another policy")));
        return None;
    }
    let (claims, track_access) = (Arc::clone(&policy.policy), policy.track_access.clone());
    Some(AuthorizationSettings::Policy { claims, track_access })
}

/// Returns true where the authorization policy `name` can be asked for; otherwise reports it at `at`.
fn is_usable_policy(at: &ConfigLocation<'_>, name: &str, scope: &RouteScope<'_>) -> bool {
    if name == "Anonymous" {
        return true;
    }
    let defined = at.root("Policies").key("Authorization");
    if name != "Default" && !at.known(name, &defined, &["Default", "Anonymous"]) {
        return false;
    }
    let has_issuer = at.root("Auth").names().contains(&"Jwt") || listener::authenticates(&scope.file.server);
    if !has_issuer {
        let problem = ConfigProblem::new(format!("`{name}` asks for a token, and no issuer of tokens is configured"));
        at.report(problem.help("configure `Auth.Jwt`, or write `Anonymous`"));
    }
    has_issuer
}

/// Resolves the CORS policy `name` at `at`; `Some(None)` is none.
pub fn cors(
    at: &ConfigLocation<'_>,
    name: Option<&str>,
    policies: &ResolvedPolicies,
) -> Option<Option<Arc<cors::CorsPolicy>>> {
    match name {
        None | Some("Disable") => Some(None),
        Some(name) => {
            let defined = at.root("Policies").key("Cors");
            at.key("CorsPolicy")
                .known(name, &defined, &["Disable"])
                .then(|| policies.cors.get(name).cloned())
                .flatten()
                .map(Some)
        }
    }
}

/// Resolves the time limits of a route, `default` where it names none.
pub fn timeouts(
    at: &ConfigLocation<'_>,
    raw: &file::Route,
    file: &ConfigFile,
    policies: &ResolvedPolicies,
    default: UpstreamTimeouts,
) -> Option<UpstreamTimeouts> {
    let both = |limit: Duration| UpstreamTimeouts {
        connect: default.connect.min(limit),
        first_byte: limit,
        idle: limit,
        ..default
    };
    let least = Duration::from_millis(1);
    match (raw.timeout_policy.as_deref(), raw.timeout) {
        (Some(_), Some(_)) => {
            at.key("Timeout").report(ConfigProblem::new("`TimeoutPolicy` is there too").help("remove one of the two"));
            None
        }
        (None, timeout @ Some(_)) => at.key("Timeout").span(timeout, least, least, NO_LIMIT).map(both),
        (Some("Disable"), None) => Some(UpstreamTimeouts { first_byte: NO_LIMIT, idle: NO_LIMIT, ..default }),
        (Some(name), None) => {
            let defined = at.root("Policies").key("Timeout");
            at.key("TimeoutPolicy")
                .known(name, &defined, &["Disable"])
                .then(|| policies.timeouts.get(name).copied())
                .flatten()
        }
        // YARP's `ActivityTimeout` of the cluster counts where the route has no timeout of its own.
        (None, None) => {
            let clusters = at.root("ReverseProxy").key("Clusters");
            let cluster = raw.cluster_id.as_ref().and_then(|id| Some((id, file.reverse_proxy.clusters.get(id)?)));
            let Some((id, cluster)) = cluster.filter(|(_, cluster)| cluster.http_request.activity_timeout.is_some())
            else {
                return Some(default);
            };
            let at = clusters.key(id).key("HttpRequest").key("ActivityTimeout");
            at.span(cluster.http_request.activity_timeout, least, least, NO_LIMIT).map(both)
        }
    }
}
