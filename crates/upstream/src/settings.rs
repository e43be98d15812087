//! What a cluster is told (`ReverseProxy.Clusters.<id>`).

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use routing::load_balancing::LoadBalancing;

/// A named set of destinations.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Its id in the YAML.
    pub id: Arc<str>,
    /// How one is chosen.
    pub load_balancing: LoadBalancing,
    /// The destinations in the order of the file; may be empty (then 503).
    pub destinations: Vec<DestinationSettings>,
    /// How a destination is found to be unusable.
    pub health: HealthCheckSettings,
}

/// One server of a cluster.
#[derive(Clone, Debug)]
pub struct DestinationSettings {
    /// Its id in the YAML.
    pub id: Arc<str>,
    /// Scheme, host and port, with an optional path prefix.
    pub address: Url,
    /// The `Host` to send instead of the address's.
    pub host: Option<String>,
    /// Where probes go in place of `address`.
    pub probe: Option<Url>,
}

/// How a destination is found to be unusable (`HealthCheckSettings`), beside the breaker, which is always there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthCheckSettings {
    /// By asking it; `None`: not.
    pub active: Option<ActiveHealthCheck>,
    /// By the requests that fail; `None`: not.
    pub passive: Option<PassiveHealthCheck>,
    /// What happens when no destination may be used.
    pub available: AvailabilityPolicy,
}

/// Probes over HTTP (`HealthCheckSettings.ActiveHealthCheck`).
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveHealthCheck {
    /// From one probe to the next.
    pub interval: Duration,
    /// For a probe as a whole.
    pub timeout: Duration,
    /// Path and query to ask for, beginning with `/`.
    pub target: String,
    /// Failed probes in a row that take a destination out.
    pub threshold: u32,
}

impl Default for ActiveHealthCheck {
    /// YARP's.
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(15), Duration::from_secs(10));
        Self { interval, timeout, target: "/".to_owned(), threshold: 2 }
    }
}

/// The failure rate that takes a destination out (`HealthCheckSettings.PassiveHealthCheck`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassiveHealthCheck {
    /// Failed requests among all of the last minute, from 0 to 1.
    pub failure_rate: f64,
    /// After so long it is used again.
    pub reactivation: Duration,
}

impl Default for PassiveHealthCheck {
    /// YARP's.
    fn default() -> Self {
        Self { failure_rate: 0.3, reactivation: Duration::from_secs(60) }
    }
}

/// What happens when no destination may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AvailabilityPolicy {
    /// The answer is 503 at once.
    #[default]
    HealthyAndUnknown,
    /// All are used as if they were healthy.
    HealthyOrPanic,
}

/// Time limits toward the upstream (`Policies.Timeout.<name>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// To be connected, TLS included.
    pub connect: Duration,
    /// From the request sent to the response header.
    pub first_byte: Duration,
    /// Between two reads of a body.
    pub idle: Duration,
}

impl UpstreamTimeouts {
    /// YARP's own, for routes to servers: `ActivityTimeout` and the connect timeout of its HTTP client.
    pub const YARP: Self =
        Self { connect: Duration::from_secs(15), first_byte: Duration::from_secs(100), idle: Duration::from_secs(100) };
}

impl Default for UpstreamTimeouts {
    /// Values that let a healthy store on the same continent answer and a dead one be noticed before a player gives up.
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), first_byte: Duration::from_secs(5), idle: Duration::from_secs(30) }
    }
}
