//! What telemetry is told (`Telemetry`).

/// Logs and their form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// One line per request.
    pub access_log: AccessLog,
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
pub enum AccessLog {
    /// A JSON object per line.
    #[default]
    Json,
    /// Words for people.
    Text,
    /// None.
    Off,
}
