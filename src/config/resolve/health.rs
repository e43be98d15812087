//! Section `ReverseProxy.Clusters.<id>.HealthCheck`, and YARP's health check keys of `Metadata`.

use std::time::Duration;

use super::ConfigLocation;
use crate::config::file::{self, ActiveCheck, AvailableDestinationsPolicy, NamedEntries, PassiveCheck};
use crate::config::report::ConfigProblem;
use upstream::settings::{ActiveHealthCheck, AvailabilityPolicy, HealthCheckSettings, PassiveHealthCheck};

/// Health path of MinIO; other stores need a `Path`.
const STORE_PATH: &str = "/minio/health/live";
const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(86_400);

/// Resolves the health checks; `at` is the cluster's location, `is_store` is true if object routes use it.
pub fn health_check(at: &ConfigLocation<'_>, raw: &file::Cluster, is_store: bool) -> Option<HealthCheckSettings> {
    let (here, metadata) = (at.key("HealthCheck"), at.key("Metadata"));
    let active = active(&here.key("Active"), &raw.health_check.active, is_store);
    let passive = passive(&here.key("Passive"), &raw.health_check.passive);
    let threshold = number(
        &metadata,
        &raw.metadata,
        "ConsecutiveFailuresHealthPolicy.Threshold",
        "a number of 1 or more",
        |text| text.parse().ok().filter(|threshold| *threshold > 0),
    );
    let rate = number(
        &metadata,
        &raw.metadata,
        "TransportFailureRateHealthPolicy.RateLimit",
        "a number above 0 and at most 1",
        |text| text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 1.0),
    );
    let (threshold, rate) = (threshold?, rate?);
    let available = match raw.health_check.available_destinations_policy {
        AvailableDestinationsPolicy::HealthyAndUnknown => AvailabilityPolicy::HealthyAndUnknown,
        AvailableDestinationsPolicy::HealthyOrPanic => AvailabilityPolicy::HealthyOrPanic,
    };
    Some(HealthCheckSettings {
        active: active?.map(|active| ActiveHealthCheck { threshold: threshold.unwrap_or(active.threshold), ..active }),
        passive: passive?
            .map(|passive| PassiveHealthCheck { failure_rate: rate.unwrap_or(passive.failure_rate), ..passive }),
        available,
    })
}

/// Resolves the active check; `Some(None)` if it is switched off, after its values were checked all the same.
fn active(at: &ConfigLocation<'_>, raw: &ActiveCheck, is_store: bool) -> Option<Option<ActiveHealthCheck>> {
    let default = ActiveHealthCheck::default();
    let interval = at.key("Interval").span(raw.interval, default.interval, LEAST, MOST);
    let timeout = at.key("Timeout").span(raw.timeout, default.timeout, LEAST, MOST);
    let path = part(&at.key("Path"), raw.path.as_deref(), "a path such as /healthz, without a query", "?#");
    let query = part(&at.key("Query"), raw.query.as_deref(), "a query such as ?full=1", "#");
    let path = match path? {
        // Without a path the probe would ask for the list of buckets, which a store does not give to an unsigned
        // request.
        "" if is_store => STORE_PATH,
        path => path,
    };
    let mut target = format!("/{}", path.trim_start_matches('/'));
    let query = query?.trim_start_matches('?');
    if !query.is_empty() {
        target.push('?');
        target.push_str(query);
    }
    let active = ActiveHealthCheck { interval: interval?, timeout: timeout?, target, threshold: default.threshold };
    Some(raw.enabled.is_some_and(|enabled| enabled.0).then_some(active))
}

fn passive(at: &ConfigLocation<'_>, raw: &PassiveCheck) -> Option<Option<PassiveHealthCheck>> {
    let default = PassiveHealthCheck::default();
    let reactivation = at.key("ReactivationPeriod").span(raw.reactivation_period, default.reactivation, LEAST, MOST)?;
    Some(raw.enabled.is_some_and(|enabled| enabled.0).then_some(PassiveHealthCheck { reactivation, ..default }))
}

/// Checks a part of a request line.
fn part<'a>(at: &ConfigLocation<'_>, text: Option<&'a str>, expected: &str, without: &str) -> Option<&'a str> {
    let text = text.unwrap_or_default();
    let good = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(|c| without.contains(c));
    if !good {
        at.report(ConfigProblem::new("this cannot be asked for").expected(expected));
    }
    good.then_some(text)
}

/// Parses a number of `Metadata`, which has strings only; `Some(None)` if it is absent.
fn number<T>(
    at: &ConfigLocation<'_>,
    metadata: &NamedEntries<String>,
    key: &str,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<Option<T>> {
    let Some(text) = metadata.get(key) else { return Some(None) };
    let parsed = parse(text);
    if parsed.is_none() {
        at.key(key).report(ConfigProblem::new("this cannot be read").expected(expected));
    }
    parsed.map(Some)
}
