//! `Telemetry.Otlp`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::NamedEntries;
use crate::config::value::{ConfigFlag, ConfigText, SecretRef, TimeSpan};

/// Traces of requests, sent to a collector of OpenTelemetry.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Otlp {
    /// URL of the collector, such as `http://collector:4318`, or `http://collector:4317` for `grpc`. May be `env:NAME`. `/v1/traces` is
    /// added to it for `http`, unless it ends so.
    pub endpoint: ConfigText,
    /// `http` (binary protobuf) or `grpc`. Default: `http`.
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// Headers that the collector gets, by name; each value is `env:NAME` or `file:PATH`. Default: none.
    #[serde(default)]
    pub headers: NamedEntries<SecretRef>,
    /// Share of the requests that are traced, 0 to 1. Default: `0.01`.
    pub sample_rate: Option<f64>,
    /// Whether every request that ends in 5xx is traced, beside that share. Default: `true`.
    pub sample_errors: Option<ConfigFlag>,
    /// Name under which the traces are found. May be `env:NAME`. Default: `tidegate`.
    pub service_name: Option<ConfigText>,
    /// Longest time of a request to the collector, `100ms` to `1min`. Default: `10s`.
    pub timeout: Option<TimeSpan>,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// OTLP/HTTP with binary protobuf.
    #[default]
    Http,
    /// OTLP/gRPC.
    Grpc,
}
