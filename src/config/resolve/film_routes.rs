//! The routes of films, from section `Vod`: object routes in all but their path, which begins with a grant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, header};

use super::route::{self, RouteScope};
use super::{ConfigLocation, cache, limit, vod};
use crate::config::file::{self, NamedEntries};
use crate::proxy::settings::{
    AuthorizationSettings, FilmSettings, HandlerSettings, ObjectResponseSettings, ObjectSettings, RouteSettings,
    UpstreamTimeouts,
};
use ::vod::cmcd::CMCD_HEADERS;
use ::vod::grant::GRANT_HEADER;
use ::vod::settings::Settings;
use http_semantics::cors::{AllowList, CorsPolicy};
use routing::template::CaptureTemplate;
use server_kit::limit::settings::{LimitPartition, RateLimitPolicy, RequestLimit};

const FILMS: &str = "films";
/// Time for which a viewer waits for a store that is away: players without a buffer worth the name get over a restart, and those
/// that give up on a request before that send it again.
const STORE_ABSENCE: Duration = Duration::from_secs(15);
/// Name of the route of keys, and of its limit where none is named.
const KEYS: &str = "film-keys";
/// Name of the limit of films that a user starts, where no policy has it.
const STARTS: &str = ::vod::service::START_LIMIT;
/// Films that a user starts in an hour: far more than anybody watches, and few enough that one user's sessions are never
/// many among all that are remembered.
const STARTS_PER_HOUR: u32 = 120;
/// Keys that a viewer gets in a minute: a film whose key changes every ten seconds takes six, and as many at each seek.
const KEYS_PER_MINUTE: u32 = 60;

/// Resolves the routes of films; `Some(None)` where there are none. `settings` are those of the section, `None` where it could not
/// be resolved.
pub fn films(
    at: &ConfigLocation<'_>,
    settings: Option<&Option<Settings>>,
    scope: &RouteScope<'_>,
) -> Option<Option<Arc<FilmSettings>>> {
    let Some(raw) = scope.file.vod.as_ref() else { return Some(None) };
    let Some(settings) = settings?.as_ref() else { return Some(None) };
    let key_prefix = raw.keys.prefix.as_ref().map(|prefix| vod::prefix(&at.key("Keys").key("Prefix"), Some(prefix)));
    let films = film_route(at, FILMS, &file_route(raw), settings, scope);
    let raw_keys = file::Route {
        output_cache_policy: None,
        rate_limiter_policy: Some(raw.keys.rate_limiter_policy.clone().unwrap_or_else(|| "Disable".to_owned())),
        ..file_route(raw)
    };
    // What is wrong with the other policies was reported for the film's route.
    let keys =
        films.as_ref().and_then(|_| film_route(&at.key("Keys"), KEYS, &raw_keys, settings, scope)).map(|mut keys| {
            if raw.keys.rate_limiter_policy.is_none() {
                keys.rate_limiter = Some(Arc::new(default_key_limit()));
            }
            keys
        });
    Some(Some(Arc::new(FilmSettings {
        films: Arc::new(films?),
        keys: Arc::new(keys?),
        prefix: Arc::clone(&settings.prefix),
        key_prefix: key_prefix.map_or(Some(None), |prefix| prefix.map(|prefix| Some(prefix.into())))?,
        allowed_hosts: settings.allowed_hosts.clone(),
        manifests: settings.manifests.clone(),
    })))
}

/// Returns the rate limit policies of the file, and those of films that it does not name.
pub fn all_limits(
    films: &Option<Arc<FilmSettings>>,
    policies: &BTreeMap<Arc<str>, Arc<RateLimitPolicy>>,
) -> Vec<RateLimitPolicy> {
    let named = policies.values().map(|policy| RateLimitPolicy::clone(policy));
    named.chain(own_limits(films, policies)).collect()
}

/// Returns the limits of films that no section names: of keys, and of starts unless `policies` has one of that name.
fn own_limits(
    films: &Option<Arc<FilmSettings>>,
    policies: &BTreeMap<Arc<str>, Arc<RateLimitPolicy>>,
) -> Vec<RateLimitPolicy> {
    let Some(films) = films else { return Vec::new() };
    let of_keys = films.keys.rate_limiter.as_ref().filter(|limit| *limit.name == *KEYS);
    let of_starts = (!policies.contains_key(STARTS)).then(default_start_limit);
    of_keys.map(|limit| RateLimitPolicy::clone(limit)).into_iter().chain(of_starts).collect()
}

fn default_key_limit() -> RateLimitPolicy {
    user_limit(KEYS, KEYS_PER_MINUTE, Duration::from_secs(60))
}

fn default_start_limit() -> RateLimitPolicy {
    user_limit(STARTS, STARTS_PER_HOUR, Duration::from_secs(3600))
}

fn user_limit(name: &str, permits: u32, window: Duration) -> RateLimitPolicy {
    RateLimitPolicy {
        name: name.into(),
        requests: Some(RequestLimit::Window { permits, segment: window / 6, segments: 6 }),
        streams: None,
        bandwidth: None,
        egress: None,
        partition: LimitPartition::User,
    }
}

/// The route of films as a file would have it, as far as it names policies.
fn file_route(raw: &file::Vod) -> file::Route {
    file::Route {
        enabled: None,
        cluster_id: None,
        order: None,
        r#match: file::Match {
            path: None,
            hosts: Vec::new(),
            methods: Vec::new(),
            headers: Vec::new(),
            query_parameters: Vec::new(),
        },
        authorization_policy: None,
        hide_existence: None,
        rate_limiter_policy: raw.rate_limiter_policy.clone(),
        cors_policy: raw.cors_policy.clone(),
        timeout_policy: raw.timeout_policy.clone(),
        timeout: None,
        output_cache_policy: Some(raw.output_cache_policy.clone().unwrap_or_else(|| "Default".to_owned())),
        max_request_body_size: None,
        transforms: Vec::new(),
        _metadata: NamedEntries::new(),
    }
}

/// Resolves the route `id` with the policies of `raw`.
fn film_route(
    at: &ConfigLocation<'_>,
    id: &str,
    raw: &file::Route,
    settings: &Settings,
    scope: &RouteScope<'_>,
) -> Option<RouteSettings> {
    let cache = cache::of_route(at, raw, true, &scope.policies.output_cache);
    let rate_limiter = limit::of_route(at, raw, scope);
    let cors = route::cors(at, raw.cors_policy.as_deref(), scope.policies);
    let timeouts = timeouts(at, raw, scope);
    let key = CaptureTemplate::parse(&format!("{}{{id}}/{{rest}}", settings.prefix));
    let object = ObjectSettings {
        store: scope.stores.get(&settings.store).cloned()?,
        bucket: Arc::clone(&settings.bucket),
        key: key.expect("the prefix is segments without braces"),
        index: None,
        lists_folders: false,
        cluster: None,
        response: ObjectResponseSettings { cache: cache?, ..ObjectResponseSettings::default() },
    };
    Some(RouteSettings {
        id: id.into(),
        hosts: Vec::new(),
        handler: HandlerSettings::Object(object),
        // The grant is looked at before the route.
        authorization: AuthorizationSettings::Anonymous,
        hide_existence: None,
        rate_limiter: rate_limiter?,
        cors: cors?.map(|policy| Arc::new(for_players(CorsPolicy::clone(&policy)))),
        timeouts: timeouts?,
        max_request_body: Some(route::MOST_BODY),
    })
}

/// Resolves the time limits of films: `Unavailable` is longer than on other routes unless the policy sets it.
fn timeouts(at: &ConfigLocation<'_>, raw: &file::Route, scope: &RouteScope<'_>) -> Option<UpstreamTimeouts> {
    let timeouts = route::timeouts(at, raw, scope.file, scope.policies, UpstreamTimeouts::default())?;
    let policy = raw.timeout_policy.as_ref().and_then(|name| scope.file.policies.timeout.get(name));
    let is_set = policy.is_some_and(|policy| policy.unavailable.is_some());
    Some(UpstreamTimeouts { unavailable: if is_set { timeouts.unavailable } else { STORE_ABSENCE }, ..timeouts })
}

/// Adds to a policy what every player needs: ranges, the header of a grant, and those by which it tells of its playback.
fn for_players(mut policy: CorsPolicy) -> CorsPolicy {
    let add = |list: &mut AllowList<HeaderName>, names: &[HeaderName]| {
        if let AllowList::Only(known) = list {
            let new: Vec<HeaderName> = names.iter().filter(|name| !known.contains(name)).cloned().collect();
            known.extend(new);
        }
    };
    add(&mut policy.headers, &[header::RANGE, header::IF_RANGE, HeaderName::from_static(GRANT_HEADER)]);
    add(&mut policy.headers, &CMCD_HEADERS);
    add(
        &mut policy.exposed_headers,
        &[header::CONTENT_RANGE, header::ACCEPT_RANGES, header::CONTENT_LENGTH, header::ETAG],
    );
    policy
}
