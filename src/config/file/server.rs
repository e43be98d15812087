//! `Server` and `Telemetry`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Otlp;
use super::ServerLimits;
use super::listener::Listener;
use crate::config::value::{ConfigText, SecretRef, TimeSpan};
use server_kit::telemetry::settings::AccessField;

/// Where players connect, and how the process behaves.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Server {
    /// Where players connect. Default: `0.0.0.0` without TLS, on `PORT` of the environment, else on 8080.
    pub listeners: Option<Vec<Listener>>,
    /// The operator's side: metrics, liveness, readiness. Default: none.
    pub admin: Option<Admin>,
    /// Certificates by ACME, for the listeners that name theirs in `Tls.AcmeNames`. Default: none are ordered.
    pub acme: Option<Acme>,
    /// Networks (CIDR) whose `X-Forwarded-For` is believed, and `unix` for whatever connects to a Unix socket. Default: none.
    pub trusted_proxies: Option<Vec<ConfigText>>,
    /// What the URLs that Tidegate gives out begin with, such as `https://media.example`. May be `env:NAME`. Default: the
    /// scheme and host that the request came to, as far as `TrustedProxies` tell.
    pub public_url: Option<ConfigText>,
    /// How long a client may take to send a whole request header. Default: `10s`.
    pub header_timeout: Option<TimeSpan>,
    /// How long a client may take none of the bytes that it asked for before it is disconnected. Default: `30s`.
    pub write_timeout: Option<TimeSpan>,
    /// How long a client may send nothing of a request's body before it is disconnected. Default: `30s`.
    pub body_timeout: Option<TimeSpan>,
    /// How long a connection is kept on which nothing is asked. Longer than a balancer in front keeps its own. Default: `75s`.
    pub keep_alive_timeout: Option<TimeSpan>,
    /// How long connections are still accepted after SIGTERM, while `/readyz` is 503 already: as long as a balancer in front
    /// takes to see that. Default: `0s`, nothing is in front that would have to see it.
    pub shutdown_delay: Option<TimeSpan>,
    /// How long streams under way may go on after SIGTERM and `ShutdownDelay`. Default: `30s`.
    pub shutdown_grace: Option<TimeSpan>,
    /// Reload the configuration when the file changes, as SIGHUP does at any time. Default: `true`.
    pub reload_on_change: Option<bool>,
    /// File that holds the process's id while it runs, for `tidegate upgrade`. Default: none.
    pub pid_file: Option<ConfigText>,
    /// How long the new process of an upgrade may take to be ready; then it is killed. Default: `1min`.
    pub upgrade_timeout: Option<TimeSpan>,
    /// Connections accepted at once over all listeners. Default: `16384`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: Option<u32>,
    /// What one client may take of the server.
    #[serde(default)]
    pub limits: ServerLimits,
    /// Threads that serve players. Default: one per core.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
}

/// The operator's side: metrics, liveness, readiness.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Admin {
    /// IP address and port, never one of the listeners'. May be `env:NAME`.
    pub address: ConfigText,
    /// `FileDescriptorName=` of the socket that systemd passes in place of one opened on `Address`. Default: the passed
    /// socket that has this address.
    pub socket: Option<ConfigText>,
    /// What `Authorization: Bearer` must carry for everything but `/livez` and `/readyz`: 16 characters at least. Needed where
    /// the address is not of loopback.
    pub token: Option<SecretRef>,
}

/// Certificates by ACME (RFC 8555), from Let's Encrypt or another authority.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Acme {
    /// `true`: you accept the authority's terms of service.
    pub accept_terms: bool,
    /// Address that the authority writes to where something is wrong with a certificate. Default: none.
    pub email: Option<ConfigText>,
    /// URL of the authority's directory. Default: `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory: Option<ConfigText>,
    /// Folder of the account, the certificates and their keys, made where it is missing. Default: `./data/acme`.
    pub storage: Option<ConfigText>,
    /// How the authority verifies that a name leads here. Default: `Http`.
    #[serde(default)]
    pub challenge: AcmeChallenge,
    /// PEM file with the authorities that sign the directory's own certificate, for a private one. Default: those of the
    /// system.
    pub authorities: Option<ConfigText>,
}

/// How the authority verifies that a name leads here.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// HTTP-01: it asks port 80 of the name, so that a listener without TLS must be reachable there.
    #[default]
    Http,
    /// TLS-ALPN-01: it makes a handshake on port 443 of the name.
    TlsAlpn,
}

/// Logs and traces.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Telemetry {
    /// `error`, `warn`, `info` or `debug`. May be `env:NAME`. Default: `LOG_LEVEL` of the environment, else `info`.
    pub log_level: Option<ConfigText>,
    /// One line for each request.
    #[serde(default)]
    pub access_log: AccessLog,
    /// Traces of requests, sent to a collector of OpenTelemetry. Default: none.
    pub otlp: Option<Otlp>,
}

/// One line for each request.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct AccessLog {
    /// How a line is written. Default: `json`.
    pub format: Option<AccessLogFormat>,
    /// A line in place of `Format`: a text with values in braces, such as `{time} {client} {method} {path} {status}`. `{{` and `}}` are
    /// the braces themselves.
    pub template: Option<ConfigText>,
    /// The fields that a line of `json` or `text` has; what is not named is left out. Default: all.
    pub fields: Option<Vec<AccessField>>,
    /// `stderr`, where the rest of the log goes, or `stdout`. Default: `stderr`, where neither `File` nor `Syslog` is given.
    pub output: Option<AccessLogOutput>,
    /// File that lines are appended to, in a folder that exists.
    pub file: Option<ConfigText>,
    /// Service of syslog that each line is sent to: `unix:/dev/log`, or `udp:HOST:PORT`.
    pub syslog: Option<ConfigText>,
    /// Share of the requests that went well which have a line, above 0 and at most 1. Default: 1. Requests that failed always have one.
    pub sample_successes: Option<f64>,
}

/// Where the lines of the access log go.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogOutput {
    /// Standard error, as for the rest of the log.
    Stderr,
    /// Standard output.
    Stdout,
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// A line for people.
    Text,
    /// The Combined Log Format of Apache and nginx.
    Combined,
    /// No access log.
    Off,
}
