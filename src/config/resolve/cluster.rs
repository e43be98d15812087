//! Section `ReverseProxy.Clusters`.

use http::HeaderValue;

use super::{ConfigLocation, health, http_url};
use crate::config::file::{self, LoadBalancingPolicy, VersionPolicy};
use crate::config::report::ConfigProblem;
use routing::load_balancing::LoadBalancing;
use upstream::settings::{ClusterSettings, DestinationSettings};

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
    http_request(&at.key("HttpRequest"), &raw.http_request);
    let load_balancing = match raw.load_balancing_policy {
        LoadBalancingPolicy::PowerOfTwoChoices => LoadBalancing::PowerOfTwoChoices,
        LoadBalancingPolicy::RoundRobin => LoadBalancing::RoundRobin,
        LoadBalancingPolicy::LeastRequests => LoadBalancing::LeastRequests,
        LoadBalancingPolicy::Random => LoadBalancing::Random,
        LoadBalancingPolicy::FirstAlphabetical => LoadBalancing::FirstAlphabetical,
    };
    let health = health::health_check(at, raw, is_store);
    let destinations = resolved.into_iter().collect::<Option<_>>()?;
    Some(ClusterSettings { id: id.into(), load_balancing, destinations, health: health? })
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

/// Checks that the requested version is the one that is used: HTTP/1.1, unbuffered.
fn http_request(at: &ConfigLocation<'_>, raw: &file::HttpRequest) {
    let version = raw.version.as_ref().map(|version| version.0.trim_end_matches(".0"));
    let orlower = raw.version_policy == VersionPolicy::RequestVersionOrLower;
    match version {
        None | Some("1.1") => {}
        // YARP's default asks for HTTP/2 or lower, which HTTP/1.1 satisfies.
        Some("2" | "3") if orlower => {}
        Some(_) => at.key("Version").report(
            ConfigProblem::new("requests go out as HTTP/1.1")
                .expected("`1.1`, or `2` or `3` with `VersionPolicy: RequestVersionOrLower`"),
        ),
    }
    if raw.allow_response_buffering.is_some_and(|flag| flag.0) {
        at.key("AllowResponseBuffering")
            .report(ConfigProblem::new("answers are never buffered").expected("`false`").help("remove it"));
    }
}
