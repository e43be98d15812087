//! Section `Policies.RateLimiter`, and the policy of a route.

use std::sync::Arc;
use std::time::Duration;

use super::ConfigLocation;
use super::route::RouteScope;
use crate::config::file::{self, RateLimiterPolicy};
use crate::config::report::ConfigProblem;
use crate::config::value::{ByteSize, TimeSpan};
use server_kit::limit::settings::{BandwidthLimit, EgressQuota, LimitPartition, RateLimitPolicy, RequestLimit};

/// Policy of a route without `RateLimiterPolicy`, if there is one of that name (YARP's `Default`).
const DEFAULT: &str = "Default";
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Upper bound in bytes, more than any machine has.
const MOST_BYTES: u64 = 1 << 50;

/// Resolves one policy.
pub fn policy(at: &ConfigLocation<'_>, name: &str, raw: &RateLimiterPolicy) -> Option<RateLimitPolicy> {
    if name == "Disable" {
        at.report(ConfigProblem::new("`Disable` has a meaning of its own").help("give the policy another name"));
    }
    let requests = requests(at, raw);
    let streams = raw.concurrency.as_ref().map(|raw| permits(&at.key("Concurrency"), "PermitLimit", raw.permit_limit));
    let bandwidth = raw.bandwidth.as_ref().map(|raw| bandwidth(&at.key("Bandwidth"), raw));
    let egress = raw.egress_quota.as_ref().map(|raw| egress(&at.key("EgressQuota"), raw));
    let partition = partition(at, raw.partition_by.as_deref());
    let policy = RateLimitPolicy {
        name: name.into(),
        requests: requests?,
        streams: streams.map_or(Some(None), |streams| streams.map(Some))?,
        bandwidth: bandwidth.map_or(Some(None), |bandwidth| bandwidth.map(Some))?,
        egress: egress.map_or(Some(None), |egress| egress.map(Some))?,
        partition: partition?,
    };
    let limits = policy.streams.is_some() || policy.bandwidth.is_some() || policy.egress.is_some();
    if policy.requests.is_none() && !limits {
        let expected = "at least one of `SlidingWindow`, `FixedWindow`, `TokenBucket`, `Concurrency`, `Bandwidth` and `EgressQuota`";
        at.report(ConfigProblem::new("nothing is limited").expected(expected));
        return None;
    }
    Some(policy)
}

fn requests(at: &ConfigLocation<'_>, raw: &RateLimiterPolicy) -> Option<Option<RequestLimit>> {
    let rules: Vec<(&str, Option<RequestLimit>)> = [
        raw.sliding_window.as_ref().map(|raw| ("SlidingWindow", sliding(&at.key("SlidingWindow"), raw))),
        raw.fixed_window.as_ref().map(|raw| ("FixedWindow", fixed(&at.key("FixedWindow"), raw))),
        raw.token_bucket.as_ref().map(|raw| ("TokenBucket", bucket(&at.key("TokenBucket"), raw))),
    ]
    .into_iter()
    .flatten()
    .collect();
    // .NET would chain such limiters; here a policy has one count of requests.
    if let [(first, _), (second, _), ..] = rules.as_slice() {
        let problem = ConfigProblem::new(format!("`{first}` counts the same requests"));
        at.key(second).report(problem.help("keep one of them"));
        return None;
    }
    rules.into_iter().next().map_or(Some(None), |(_, rule)| rule.map(Some))
}

fn sliding(at: &ConfigLocation<'_>, raw: &file::SlidingWindow) -> Option<RequestLimit> {
    let permits = permits(at, "PermitLimit", raw.permit_limit);
    let window = window(at, raw.window);
    let segments = raw.segments_per_window;
    if !(1..=60).contains(&segments) {
        at.key("SegmentsPerWindow")
            .report(ConfigProblem::new(format!("{segments} is out of range")).expected("1 to 60"));
        return None;
    }
    Some(RequestLimit::Window { permits: permits?, segment: window? / segments, segments })
}

fn fixed(at: &ConfigLocation<'_>, raw: &file::FixedWindow) -> Option<RequestLimit> {
    let permits = permits(at, "PermitLimit", raw.permit_limit);
    Some(RequestLimit::Window { segment: window(at, raw.window)?, permits: permits?, segments: 1 })
}

fn bucket(at: &ConfigLocation<'_>, raw: &file::TokenBucket) -> Option<RequestLimit> {
    let tokens = permits(at, "TokenLimit", raw.token_limit);
    let refill = permits(at, "TokensPerPeriod", raw.tokens_per_period);
    let period = at.key("ReplenishmentPeriod").span(Some(raw.replenishment_period), SECOND, SECOND, DAY);
    Some(RequestLimit::Bucket { tokens: tokens?, refill: refill?, period: period? })
}

fn window(at: &ConfigLocation<'_>, raw: TimeSpan) -> Option<Duration> {
    at.key("Window").span(Some(raw), SECOND, SECOND, 7 * DAY)
}

fn permits(at: &ConfigLocation<'_>, key: &str, number: u32) -> Option<u32> {
    let good = (1..=1_000_000).contains(&number);
    if !good {
        at.key(key).report(ConfigProblem::new(format!("{number} is out of range")).expected("1 to 1000000"));
    }
    good.then_some(number)
}

fn bandwidth(at: &ConfigLocation<'_>, raw: &file::Bandwidth) -> Option<BandwidthLimit> {
    let rate = bytes(&at.key("BytesPerSecond"), raw.bytes_per_second, 1024);
    let burst = raw.burst.map(|burst| bytes(&at.key("Burst"), burst, 0));
    let rate = rate?;
    // One second's worth by default: players fetch the beginning at once.
    Some(BandwidthLimit { rate, burst: burst.unwrap_or(Some(rate))? })
}

fn egress(at: &ConfigLocation<'_>, raw: &file::EgressQuota) -> Option<EgressQuota> {
    let bytes = bytes(&at.key("Bytes"), raw.bytes, 1);
    let period = at.key("Window").span(raw.window, 30 * DAY, 60 * SECOND, 366 * DAY);
    Some(EgressQuota { bytes: bytes?, period: period? })
}

fn bytes(at: &ConfigLocation<'_>, ByteSize(size): ByteSize, least: u64) -> Option<u64> {
    let good = size.filter(|size| (least..=MOST_BYTES).contains(size));
    if good.is_none() {
        at.report(
            ConfigProblem::new("this limits nothing, or everything").expected(format!("{least} bytes to 1024TiB")),
        );
    }
    good
}

fn partition(at: &ConfigLocation<'_>, text: Option<&str>) -> Option<LimitPartition> {
    match text {
        None | Some("User") => Some(LimitPartition::User),
        Some("Address") => Some(LimitPartition::Address),
        Some("Route") => Some(LimitPartition::Route),
        Some(text) => match text.strip_prefix("Claim:").filter(|claim| !claim.is_empty()) {
            Some(claim) => Some(LimitPartition::Claim(claim.into())),
            None => {
                let problem = ConfigProblem::new(format!("`{text}` cannot be read"));
                let problem = problem.suggest(text, ["User", "Address", "Route"]);
                at.key("PartitionBy").report(problem.expected("`User`, `Address`, `Route` or `Claim:NAME`"));
                None
            }
        },
    }
}

/// Resolves the policy of a route; `Some(None)` is no limit.
pub fn of_route(
    at: &ConfigLocation<'_>,
    raw: &file::Route,
    scope: &RouteScope<'_>,
) -> Option<Option<Arc<RateLimitPolicy>>> {
    let resolved = |name: &str| scope.rate_limiters.get(name).cloned().map(Some);
    match raw.rate_limiter_policy.as_deref() {
        Some("Disable") => Some(None),
        None | Some(DEFAULT) if !scope.file.policies.rate_limiter.contains_key(DEFAULT) => Some(None),
        None | Some(DEFAULT) => resolved(DEFAULT),
        Some(name) => {
            let defined = at.root("Policies").key("RateLimiter");
            at.key("RateLimiterPolicy").known(name, &defined, &[DEFAULT, "Disable"]).then(|| resolved(name)).flatten()
        }
    }
}
