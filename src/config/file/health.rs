//! `ReverseProxy.Clusters.<id>.HealthCheck`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, TimeSpan};

/// How a destination is found to be unusable. A breaker is there without it: five requests in a row that fail.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct HealthCheck {
    /// By asking it.
    #[serde(default)]
    pub active: ActiveCheck,
    /// By the requests that fail.
    #[serde(default)]
    pub passive: PassiveCheck,
    /// What happens when no destination may be used. Default: `HealthyAndUnknown`.
    #[serde(default)]
    pub available_destinations_policy: AvailableDestinationsPolicy,
}

/// By asking it: a GET that must be answered with 2xx.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ActiveCheck {
    /// Whether it is done. Default: `false`.
    pub enabled: Option<ConfigFlag>,
    /// From one probe to the next; at most a second while a destination is out. Default: `15s`.
    pub interval: Option<TimeSpan>,
    /// For a probe as a whole. Default: `10s`.
    pub timeout: Option<TimeSpan>,
    /// When a destination is out. Default: `ConsecutiveFailures`.
    #[serde(default, rename = "Policy")]
    pub _policy: ActivePolicy,
    /// The path to ask for, behind that of the address. Default: `/minio/health/live` where object routes use the cluster,
    /// else `/`.
    pub path: Option<String>,
    /// The query to ask with, such as `?full=1`. Default: none.
    pub query: Option<String>,
}

/// When probes take a destination out.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum ActivePolicy {
    /// After two failed probes in a row, or as many as `Metadata` says under `ConsecutiveFailuresHealthPolicy.Threshold`.
    #[default]
    ConsecutiveFailures,
}

/// By the requests that fail: no connection, no answer, a broken one, or a store's 5xx.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct PassiveCheck {
    /// Whether it is done. Default: `false`.
    pub enabled: Option<ConfigFlag>,
    /// When a destination is out. Default: `TransportFailureRate`.
    #[serde(default, rename = "Policy")]
    pub _policy: PassivePolicy,
    /// After so long it is used again. Default: `60s`.
    pub reactivation_period: Option<TimeSpan>,
}

/// When failed requests take a destination out.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum PassivePolicy {
    /// When 30 % of the last minute's requests failed, of at least ten, or the part that `Metadata` says under
    /// `TransportFailureRateHealthPolicy.RateLimit`.
    #[default]
    TransportFailureRate,
}

/// What happens when no destination may be used.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum AvailableDestinationsPolicy {
    /// The answer is 503 at once.
    #[default]
    HealthyAndUnknown,
    /// All are used as if they were healthy.
    HealthyOrPanic,
}
