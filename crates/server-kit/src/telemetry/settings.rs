//! Settings of telemetry (`TelemetrySettings`).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

pub use super::access_log::line_template::{LineTemplate, LineTemplateError};

/// Logs and their form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// The form of the line of each request.
    pub access_format: AccessLogFormat,
    /// Where the lines of requests go.
    pub access_output: AccessLogOutput,
    /// Which requests have a line, and what is in it.
    pub access_lines: AccessLines,
}

impl TelemetrySettings {
    /// Returns the file of the access log, where it has one.
    pub fn access_file(&self) -> Option<&Path> {
        match &self.access_output {
            AccessLogOutput::File(path) => Some(path),
            AccessLogOutput::Stderr | AccessLogOutput::Stdout | AccessLogOutput::Syslog(_) => None,
        }
    }
}

/// Severity from which on lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what needs looking at.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And what led to it.
    Debug,
}

/// The form of the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// A JSON object per line.
    #[default]
    Json,
    /// Words for people.
    Text,
    /// Values at their places in a text.
    Template(LineTemplate),
    /// None.
    Off,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogOutput {
    /// Standard error, as all other lines.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// This file.
    File(PathBuf),
    /// A service of syslog.
    Syslog(SyslogAddress),
}

/// Address of a service of syslog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A socket of this machine, such as `/dev/log`.
    Unix(PathBuf),
    /// Host and port, by UDP.
    Udp(String),
}

/// Which requests have an access line, and its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLines {
    /// Fields of a line.
    pub fields: AccessFields,
    /// Share of the requests that went well which have a line.
    pub successes: SampledShare,
}

/// Share of events that are told, from none to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledShare(u32);

impl Default for SampledShare {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl SampledShare {
    /// The share `share`; `None` unless it is above 0 and at most 1.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then(|| Self((share * f64::from(u32::MAX)) as u32))
    }

    /// Says whether an event is told for which `random` was drawn of all values alike.
    pub fn includes(self, random: u32) -> bool {
        random <= self.0
    }

    /// Says whether every event is told.
    pub fn is_all(self) -> bool {
        self.0 == u32::MAX
    }
}

/// A field of an access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessField {
    /// The request's id.
    RequestId,
    /// The id of the request's trace, where it has one.
    TraceId,
    /// The route, or the module that answered.
    Route,
    /// The method.
    Method,
    /// The path, without the query and without a token.
    Path,
    /// The host that was asked for.
    Host,
    /// The version of HTTP.
    Protocol,
    /// The status.
    Status,
    /// Bytes of the body that were sent.
    Sent,
    /// Time to the answer's head, in milliseconds.
    FirstByteMs,
    /// Time to the end, in milliseconds.
    DurationMs,
    /// The client's `User-Agent`.
    UserAgent,
    /// The client's address.
    Client,
    /// The subject of the token.
    User,
    /// The cluster that was asked.
    Cluster,
    /// The server that was asked last.
    Destination,
    /// Requests to servers.
    Attempts,
    /// Continuations of a body that broke.
    Resumes,
    /// How the cache took part.
    Cache,
    /// The store, the bucket and the key of a failed request.
    Object,
    /// The code, the cause and the error of a failure.
    Failure,
}

/// The fields that an access line has; all by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFields(u32);

impl Default for AccessFields {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl AccessFields {
    /// These fields and no others.
    pub fn only(fields: &[AccessField]) -> Self {
        Self(fields.iter().fold(0, |set, field| set | 1 << *field as u32))
    }

    /// `value`, where the field is among them.
    pub fn value_if_enabled<T>(self, field: AccessField, value: T) -> Option<T> {
        (self.0 & 1 << field as u32 != 0).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_above_none_and_at_most_all() {
        for wrong in [0.0, -0.5, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(SampledShare::new(wrong), None, "{wrong}");
        }
        let half = SampledShare::new(0.5).unwrap();
        assert!(half.includes(u32::MAX / 2 - 1) && !half.includes(u32::MAX / 2 + 2) && !half.is_all());
        let all = SampledShare::new(1.0).unwrap();
        assert!(all.is_all() && all.includes(u32::MAX) && all == SampledShare::default());
    }
}
