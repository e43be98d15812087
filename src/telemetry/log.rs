//! The log: JSON lines on standard error, Pingora's own lines among them.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::settings::{AccessLog, LogLevel, Telemetry};

/// The target of access lines, so that they can be told from the rest.
pub const ACCESS: &str = "access";

/// Starts logging for the whole process; a second call changes nothing.
pub fn start(settings: &Telemetry) {
    let level = match settings.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // Pingora prints whole upstream requests, signatures included, below info: never let those through.
    let mut directives = format!(
        "{level},pingora=warn,pingora_core=warn,pingora_proxy=off,rustls=warn,hyper=warn,s3s=off,foyer=error,foyer_storage=error,foyer_memory=error,foyer_common=error"
    );
    directives.push_str(match settings.access_log {
        AccessLog::Off => ",access=off",
        AccessLog::Json | AccessLog::Text => ",access=info",
    });
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(directives)).with_writer(std::io::stderr);
    let started = match settings.access_log {
        AccessLog::Text => builder.with_ansi(false).try_init(),
        AccessLog::Json | AccessLog::Off => builder.json().flatten_event(true).try_init(),
    };
    if let Err(already) = started {
        tracing::debug!(reason = %already, "logging is already started");
    }
}
