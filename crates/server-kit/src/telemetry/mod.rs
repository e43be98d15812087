//! Telemetry: metrics by the documents' names, and the log. Labels come from closed sets, never from paths, keys or
//! users.

pub mod access_log;
pub mod cache_metrics;
pub mod listener_metrics;
pub mod log;
pub mod metrics;
pub mod recent_failures;
pub mod registration;
pub mod settings;
pub mod upstream_metrics;
