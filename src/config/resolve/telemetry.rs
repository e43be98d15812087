//! Section `Telemetry`.

use std::path::{Path, PathBuf};

use super::ConfigLocation;
use crate::config::file::{AccessLog, AccessLogFormat, Telemetry};
use crate::config::report::ConfigProblem;
use server_kit::telemetry::settings::{AccessFields, AccessLogMode, LogLevel, TelemetrySettings};

/// Resolves the logs.
pub fn telemetry(at: &ConfigLocation<'_>, raw: &Telemetry) -> Option<TelemetrySettings> {
    let levels = "`error`, `warn`, `info` or `debug`";
    let level = at.key("LogLevel");
    let log_level = match &raw.log_level {
        None => level.variable("LOG_LEVEL", levels, log_level)?.unwrap_or_default(),
        Some(text) => level.parse(text, levels, log_level)?,
    };
    let access_log = match raw.access_log.format {
        AccessLogFormat::Json => AccessLogMode::Json,
        AccessLogFormat::Text => AccessLogMode::Text,
        AccessLogFormat::Off => AccessLogMode::Off,
    };
    let fields = raw.access_log.fields.as_deref();
    let access_fields = fields.map_or_else(AccessFields::default, AccessFields::only);
    let access_file = access_file(&at.key("AccessLog"), &raw.access_log)?;
    Some(TelemetrySettings { log_level, access_log, access_file, access_fields })
}

/// Parses a level in any case: the environment says `INFO` as often as `info`.
fn log_level(text: &str) -> Option<LogLevel> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Some(LogLevel::Error),
        "warn" => Some(LogLevel::Warn),
        "info" => Some(LogLevel::Info),
        "debug" => Some(LogLevel::Debug),
        _ => None,
    }
}

/// Resolves `Telemetry.AccessLog.File`; `Some(None)` where there is none.
fn access_file(at: &ConfigLocation<'_>, raw: &AccessLog) -> Option<Option<PathBuf>> {
    let Some(text) = &raw.file else { return Some(None) };
    let at = at.key("File");
    if matches!(raw.format, AccessLogFormat::Off) {
        let problem = ConfigProblem::new("there are no lines for the file: `Format` is `off`");
        at.report(problem.help("remove `File`, or give another `Format`"));
    }
    let path = PathBuf::from(at.text(text)?);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = if path.is_dir() {
        ConfigProblem::new(format!("`{}` is a folder", path.display()))
    } else if !folder.is_dir() {
        ConfigProblem::new(format!("there is no folder `{}`", folder.display()))
            .help("a relative path starts at the folder that Tidegate is started in")
    } else {
        return Some(Some(path));
    };
    at.report(problem.expected("the path of a file in a folder that exists"));
    None
}
