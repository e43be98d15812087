//! Settings of telemetry (`TelemetrySettings`).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Logs and their form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// One line per request.
    pub access_log: AccessLogMode,
    /// File of the lines of requests; `None`: standard error, as for all others.
    pub access_file: Option<PathBuf>,
    /// The fields that an access line has.
    pub access_fields: AccessFields,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogMode {
    /// A JSON object per line.
    #[default]
    Json,
    /// Words for people.
    Text,
    /// None.
    Off,
}

/// A field of an access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessField {
    /// The request's id.
    RequestId,
    /// The route, or the module that answered.
    Route,
    /// The method.
    Method,
    /// The path, without the query and without a token.
    Path,
    /// The host that was asked for.
    Host,
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
