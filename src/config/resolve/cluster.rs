//! Section `ReverseProxy.Clusters`.

use http::HeaderValue;

use super::{ConfigLocation, affinity, health, http_url};
use crate::config::file::{self, LoadBalancingPolicy, VersionPolicy};
use crate::config::report::ConfigProblem;
use routing::load_balancing::LoadBalancing;
use upstream::settings::{ClusterSettings, DestinationSettings, UpstreamHttpVersion};

/// Resolves a cluster; `is_store` is true if object routes use it.
pub fn cluster(at: &ConfigLocation<'_>, id: &str, raw: &file::Cluster, is_store: bool) -> Option<ClusterSettings> {
    let destinations = at.key("Destinations");
    // In the order of the file, which the map that serde reads into does not keep.
    let resolved: Vec<_> = destinations
        .names()
        .into_iter()
        .filter_map(|id| Some((id, raw.destinations.get(id)?)))
        .map(|(id, raw)| destination(&destinations.key(id), id, raw))
        .collect();
    let http_version = http_version(&at.key("HttpRequest"), &raw.http_request, is_store);
    if http_version == Some(UpstreamHttpVersion::Http2) && raw.health_check.active.enabled.is_some_and(|flag| flag.0) {
        let problem = ConfigProblem::new("probes go out as HTTP/1.1, which this cluster's servers need not speak");
        at.key("HealthCheck")
            .key("Active")
            .report(problem.help("use `Passive`, or `VersionPolicy: RequestVersionOrLower`"));
    }
    let load_balancing = match raw.load_balancing_policy {
        LoadBalancingPolicy::PowerOfTwoChoices => LoadBalancing::PowerOfTwoChoices,
        LoadBalancingPolicy::RoundRobin => LoadBalancing::RoundRobin,
        LoadBalancingPolicy::LeastRequests => LoadBalancing::LeastRequests,
        LoadBalancingPolicy::Random => LoadBalancing::Random,
        LoadBalancingPolicy::FirstAlphabetical => LoadBalancing::FirstAlphabetical,
    };
    let health = health::health_check(at, raw, is_store);
    let affinity = affinity::session_affinity(&at.key("SessionAffinity"), raw.session_affinity.as_ref(), is_store);
    let destinations = resolved.into_iter().collect::<Option<_>>()?;
    Some(ClusterSettings {
        id: id.into(),
        load_balancing,
        destinations,
        health: health?,
        http_version: http_version?,
        affinity: affinity?,
    })
}

fn destination(at: &ConfigLocation<'_>, id: &str, raw: &file::Destination) -> Option<DestinationSettings> {
    let expected = "scheme, host and port, without user or query, such as http://minio:9000";
    let url = |key, text| at.key(key).parse(text, expected, |text| http_url(text).filter(|url| url.query().is_none()));
    let address = url("Address", &raw.address);
    let probe = raw.health.as_ref().map(|text| url("Health", text));
    if raw.host.as_ref().is_some_and(|host| host.is_empty() || HeaderValue::from_str(host).is_err()) {
        at.key("Host")
            .report(ConfigProblem::new("this cannot be sent as `Host`").expected("a host name such as minio.internal"));
    }
    let probe = probe.map_or(Some(None), |url| url.map(Some));
    Some(DestinationSettings { id: id.into(), address: address?, host: raw.host.clone(), probe: probe? })
}

/// Resolves the HTTP version; `is_store` is true if object routes use the cluster.
fn http_version(at: &ConfigLocation<'_>, raw: &file::HttpRequest, is_store: bool) -> Option<UpstreamHttpVersion> {
    if raw.allow_response_buffering.is_some_and(|flag| flag.0) {
        at.key("AllowResponseBuffering")
            .report(ConfigProblem::new("answers are never buffered").expected("`false`").help("remove it"));
    }
    let said = raw.version.as_ref().map(|version| version.0.trim_end_matches(".0"));
    let version = match (said, raw.version_policy) {
        (None, VersionPolicy::RequestVersionOrLower)
        | (Some("1.1"), VersionPolicy::RequestVersionOrLower | VersionPolicy::RequestVersionExact) => {
            UpstreamHttpVersion::Http1
        }
        (Some("1.1"), VersionPolicy::RequestVersionOrHigher)
        // HTTP/2 is lower than HTTP/3.
        | (Some("2" | "3"), VersionPolicy::RequestVersionOrLower) => UpstreamHttpVersion::Negotiated,
        // YARP's own version is 2.
        (None | Some("2"), VersionPolicy::RequestVersionExact | VersionPolicy::RequestVersionOrHigher) => {
            UpstreamHttpVersion::Http2
        }
        (Some(_), _) => {
            let problem = ConfigProblem::new("requests go out as HTTP/1.1 or HTTP/2");
            at.key("Version").report(problem.expected("`1.1`, `2`, or `3` with `VersionPolicy: RequestVersionOrLower`"));
            return None;
        }
    };
    if is_store && version == UpstreamHttpVersion::Http2 {
        let problem = ConfigProblem::new("object routes use this cluster, and objects are fetched by HTTP/1.1");
        at.key("VersionPolicy").report(problem.help("remove it, or give plain routes a cluster of their own"));
    }
    Some(version)
}
