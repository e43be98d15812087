//! `ReverseProxy.Clusters`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::health::HealthCheck;
use super::{NamedEntries, SessionAffinity};
use crate::config::value::{ConfigFlag, ConfigText, ScalarText, TimeSpan};

/// A set of servers that give the same answers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Cluster {
    /// The servers, by id. Without any the answer is 503.
    #[serde(default)]
    pub destinations: NamedEntries<Destination>,
    /// How one is chosen. Default: `PowerOfTwoChoices`.
    #[serde(default)]
    pub load_balancing_policy: LoadBalancingPolicy,
    /// How the requests of a session go to one server. Default: each request is for itself.
    pub session_affinity: Option<SessionAffinity>,
    /// How Tidegate connects.
    #[serde(default, rename = "HttpClient")]
    pub _http_client: HttpClient,
    /// How requests go out.
    #[serde(default)]
    pub http_request: HttpRequest,
    /// How a destination is found to be unusable.
    #[serde(default)]
    pub health_check: HealthCheck,
    /// Free texts; Tidegate reads `ConsecutiveFailuresHealthPolicy.Threshold` and
    /// `TransportFailureRateHealthPolicy.RateLimit` of them.
    #[serde(default)]
    pub metadata: NamedEntries<String>,
}

/// One server of a cluster.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Destination {
    /// Scheme, host and port, with an optional path in front of every request's. May be `env:NAME`.
    pub address: ConfigText,
    /// Scheme, host, port and path that the probes of `HealthCheck.Active` go to. May be `env:NAME`. Default: `Address`.
    pub health: Option<ConfigText>,
    /// The `Host` to send in place of the address's.
    pub host: Option<String>,
    /// Free texts; Tidegate does not read them.
    #[serde(default, rename = "Metadata")]
    pub _metadata: NamedEntries<String>,
}

/// How a destination is chosen.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum LoadBalancingPolicy {
    /// Two at random, then the one with fewer requests under way.
    #[default]
    PowerOfTwoChoices,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastRequests,
    /// Any.
    Random,
    /// The first by its id.
    FirstAlphabetical,
}

/// How Tidegate connects.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct HttpClient {
    /// Accepted and without effect: header bytes go through unchanged.
    #[serde(rename = "RequestHeaderEncoding")]
    pub _request_header_encoding: Option<HeaderEncoding>,
    /// Accepted and without effect: header bytes go through unchanged.
    #[serde(rename = "ResponseHeaderEncoding")]
    pub _response_header_encoding: Option<HeaderEncoding>,
    /// Accepted and without effect: each thread has an HTTP/2 connection of its own.
    #[serde(rename = "EnableMultipleHttp2Connections")]
    pub _enable_multiple_http2_connections: Option<ConfigFlag>,
}

/// Encodings that pass header bytes through.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum HeaderEncoding {
    /// ISO 8859-1.
    Latin1,
    /// UTF-8.
    #[serde(rename = "utf-8")]
    Utf8,
}

/// How requests go out.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct HttpRequest {
    /// Between two signs of life of the upstream; for routes without a timeout of their own. Default: the route's.
    pub activity_timeout: Option<TimeSpan>,
    /// HTTP version of requests of plain routes: `1.1`, `2`, or `3` with `RequestVersionOrLower`. Default: `1.1`; with another
    /// `VersionPolicy` `2`, as in YARP.
    pub version: Option<ScalarText>,
    /// What may be used in place of `Version`. HTTP/2 is agreed on in the TLS handshake; without TLS it is used where nothing
    /// lower may be. Default: `RequestVersionOrLower`.
    #[serde(default)]
    pub version_policy: VersionPolicy,
    /// Only `false`: answers are never buffered.
    pub allow_response_buffering: Option<ConfigFlag>,
}

/// What may be used in place of the HTTP version asked for.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "YARP's names")]
pub enum VersionPolicy {
    /// That or a lower one.
    #[default]
    RequestVersionOrLower,
    /// That or a higher one.
    RequestVersionOrHigher,
    /// That only.
    RequestVersionExact,
}
