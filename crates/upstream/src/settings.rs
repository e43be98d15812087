//! Settings of a cluster (`ReverseProxy.Clusters.<id>`) and of the time limits toward it.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::session_affinity::SessionAffinitySettings;
use routing::load_balancing::LoadBalancing;

/// Settings of a cluster: a named set of destinations.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// Id in the YAML.
    pub id: Arc<str>,
    /// Rule by which the destination of a request is chosen.
    pub load_balancing: LoadBalancing,
    /// Destinations in the order of the file. May be empty; then every request is answered with 503.
    pub destinations: Vec<DestinationSettings>,
    /// Checks that take a destination out of use.
    pub health: HealthCheckSettings,
    /// HTTP version of requests of plain routes.
    pub http_version: UpstreamHttpVersion,
    /// Affinity of sessions to destinations; `None`: each request is for itself.
    pub affinity: Option<SessionAffinitySettings>,
}

impl ClusterSettings {
    /// Returns the settings of a cluster of the one server at `address`, with default health checks. `id` names both.
    pub fn single(id: &Arc<str>, address: &Url) -> Self {
        let destination = DestinationSettings { id: Arc::clone(id), address: address.clone(), host: None, probe: None };
        Self {
            id: Arc::clone(id),
            load_balancing: LoadBalancing::FirstAlphabetical,
            destinations: vec![destination],
            health: HealthCheckSettings::default(),
            http_version: UpstreamHttpVersion::default(),
            affinity: None,
        }
    }
}

/// Settings of one server of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationSettings {
    /// Id in the YAML.
    pub id: Arc<str>,
    /// Scheme, host and port, with an optional path prefix.
    pub address: Url,
    /// Value of `Host` to send instead of the host and port of `address`.
    pub host: Option<String>,
    /// Address that probes go to instead of `address`.
    pub probe: Option<Url>,
}

/// HTTP version toward destinations (`HttpRequest.Version` and `VersionPolicy`). Objects are always fetched by HTTP/1.1, and so are
/// connections that become another protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamHttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 where the destination chooses it in the TLS handshake (ALPN), else HTTP/1.1.
    Negotiated,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without (RFC 9113 §3.3).
    Http2,
}

/// Health checks of a cluster (`HealthCheck`). The circuit breaker works beside them and cannot be switched off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthCheckSettings {
    /// Active check: probes over HTTP. `None`: the cluster has none.
    pub active: Option<ActiveHealthCheck>,
    /// Passive check: the failure rate of requests. `None`: the cluster has none.
    pub passive: Option<PassiveHealthCheck>,
    /// Behaviour of the cluster while no destination is available.
    pub available: AvailabilityPolicy,
}

/// Probes over HTTP (`HealthCheck.Active`).
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveHealthCheck {
    /// Time between two probes.
    pub interval: Duration,
    /// Time limit for a whole probe.
    pub timeout: Duration,
    /// Path and query of a probe, beginning with `/`.
    pub target: String,
    /// Number of consecutive failed probes that takes a destination out (`ConsecutiveFailuresHealthPolicy.Threshold`).
    pub threshold: u32,
}

impl Default for ActiveHealthCheck {
    /// Returns YARP's defaults.
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(15), Duration::from_secs(10));
        Self { interval, timeout, target: "/".to_owned(), threshold: 2 }
    }
}

/// Failure rate that takes a destination out (`HealthCheck.Passive`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassiveHealthCheck {
    /// Share of failed requests among all of the last minute, from 0 to 1
    /// (`TransportFailureRateHealthPolicy.RateLimit`).
    pub failure_rate: f64,
    /// Time after which a destination that was taken out is used again.
    pub reactivation: Duration,
}

impl Default for PassiveHealthCheck {
    /// Returns YARP's defaults.
    fn default() -> Self {
        Self { failure_rate: 0.3, reactivation: Duration::from_secs(60) }
    }
}

/// Behaviour of a cluster while no destination is available (`AvailableDestinationsPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AvailabilityPolicy {
    /// The request is answered with 503 at once.
    // Not YARP's default, which is `HealthyOrPanic`: an answer at once is better than waiting for a dead server.
    #[default]
    HealthyAndUnknown,
    /// All destinations are used as if they were healthy.
    HealthyOrPanic,
}

/// Time limits toward upstream servers (`Policies.Timeout.<name>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Time limit for making a connection, name resolution and TLS included.
    pub connect: Duration,
    /// Time limit from the start of an exchange, sending the request included, to the end of the response head.
    pub first_byte: Duration,
    /// Time limit between two reads of a body.
    pub idle: Duration,
    /// Time for which a request for an object is tried again while its store is away; zero: it is refused at once.
    pub unavailable: Duration,
}

impl UpstreamTimeouts {
    /// YARP's values, for plain routes: `ActivityTimeout`, and the connect timeout of its HTTP client.
    pub const YARP: Self = Self {
        connect: Duration::from_secs(15),
        first_byte: Duration::from_secs(100),
        idle: Duration::from_secs(100),
        unavailable: Duration::ZERO,
    };
}

impl Default for UpstreamTimeouts {
    /// Returns values within which a healthy store on the same continent answers, and a dead one is noticed before a
    /// player gives up.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            unavailable: Duration::ZERO,
        }
    }
}
