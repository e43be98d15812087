//! Section `Telemetry`.

use std::path::{Path, PathBuf};

use super::{ConfigLocation, otlp};
use crate::config::file::{self, AccessLog, Telemetry};
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use server_kit::telemetry::settings::{
    AccessFields, AccessLines, AccessLogFormat, AccessLogOutput, LineTemplate, LineTemplateError, LogLevel,
    SampledShare, SyslogAddress, TelemetrySettings,
};

/// Resolves the logs, and the traces.
pub fn telemetry(
    at: &ConfigLocation<'_>,
    raw: &Telemetry,
) -> (Option<TelemetrySettings>, Option<Option<request_traces::settings::Settings>>) {
    (logs(at, raw), otlp::traces(&at.key("Otlp"), raw.otlp.as_ref()))
}

fn logs(at: &ConfigLocation<'_>, raw: &Telemetry) -> Option<TelemetrySettings> {
    let levels = "`error`, `warn`, `info` or `debug`";
    let level = at.key("LogLevel");
    let log_level = match &raw.log_level {
        None => level.variable("LOG_LEVEL", levels, log_level)?.unwrap_or_default(),
        Some(text) => level.parse(text, levels, log_level)?,
    };
    let (at, raw) = (at.key("AccessLog"), &raw.access_log);
    let (format, output, lines) = (access_format(&at, raw), access_output(&at, raw), access_lines(&at, raw));
    let (access_format, access_output) = (format?, output?);
    check_used(&at, raw, &access_format);
    Some(TelemetrySettings { log_level, access_format, access_output, access_lines: lines? })
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

fn access_format(at: &ConfigLocation<'_>, raw: &AccessLog) -> Option<AccessLogFormat> {
    if let Some(text) = &raw.template {
        if raw.format.is_some() {
            let problem = ConfigProblem::new("`Format` and `Template` both say how a line is written");
            at.key("Template").report(problem.help("remove one of them"));
        }
        return template(&at.key("Template"), text).map(AccessLogFormat::Template);
    }
    Some(match raw.format.unwrap_or_default() {
        file::AccessLogFormat::Json => AccessLogFormat::Json,
        file::AccessLogFormat::Text => AccessLogFormat::Text,
        file::AccessLogFormat::Combined => AccessLogFormat::Template(LineTemplate::combined()),
        file::AccessLogFormat::Off => AccessLogFormat::Off,
    })
}

fn template(at: &ConfigLocation<'_>, text: &ConfigText) -> Option<LineTemplate> {
    let error = match LineTemplate::parse(&at.text(text)?) {
        Ok(template) => return Some(template),
        Err(error) => error,
    };
    let mut problem = ConfigProblem::new(error.to_string());
    if let LineTemplateError::UnknownValue(name) = &error {
        problem = problem.suggest(name, LineTemplate::names());
    }
    let names: Vec<_> = LineTemplate::names().map(|name| format!("`{{{name}}}`")).collect();
    at.report(problem.expected(format!("a text with values: {}", names.join(", "))));
    None
}

/// Reports what a format makes meaningless.
fn check_used(at: &ConfigLocation<'_>, raw: &AccessLog, format: &AccessLogFormat) {
    match format {
        AccessLogFormat::Off => {
            let outputs =
                [("File", raw.file.is_some()), ("Syslog", raw.syslog.is_some()), ("Output", raw.output.is_some())];
            for (key, _) in outputs.into_iter().filter(|(_, is_given)| *is_given) {
                let problem = ConfigProblem::new(format!("there are no lines for `{key}`: `Format` is `off`"));
                at.key(key).report(problem.help(format!("remove `{key}`, or give another `Format`")));
            }
        }
        AccessLogFormat::Template(_) if raw.fields.is_some() => {
            let problem = ConfigProblem::new("`Fields` are of lines of `json` or `text`, and these lines are others");
            at.key("Fields").report(problem.help("remove `Fields`; a `Template` has the values that it names"));
        }
        AccessLogFormat::Json | AccessLogFormat::Text | AccessLogFormat::Template(_) => {}
    }
}

fn access_lines(at: &ConfigLocation<'_>, raw: &AccessLog) -> Option<AccessLines> {
    let fields = raw.fields.as_deref().map_or_else(AccessFields::default, AccessFields::only);
    let successes = match raw.sample_successes {
        None => SampledShare::default(),
        Some(share) => {
            let sampled = SampledShare::new(share);
            if sampled.is_none() {
                let problem = ConfigProblem::new(format!("{share} is no share"));
                at.key("SampleSuccesses").report(problem.expected("a number above 0 and at most 1, such as 0.01"));
            }
            sampled?
        }
    };
    Some(AccessLines { fields, successes })
}

fn access_output(at: &ConfigLocation<'_>, raw: &AccessLog) -> Option<AccessLogOutput> {
    let given = [raw.output.is_some(), raw.file.is_some(), raw.syslog.is_some()];
    if given.into_iter().filter(|is_given| *is_given).count() > 1 {
        let problem = ConfigProblem::new("`Output`, `File` and `Syslog` each say where lines go");
        at.report(problem.help("keep one of them"));
        return None;
    }
    if let Some(text) = &raw.syslog {
        let expected = "`unix:/dev/log`, or `udp:HOST:PORT`";
        return at.key("Syslog").parse(text, expected, syslog_address).map(AccessLogOutput::Syslog);
    }
    match (&raw.file, raw.output) {
        (Some(path), _) => access_file(&at.key("File"), path).map(AccessLogOutput::File),
        (None, Some(file::AccessLogOutput::Stdout)) => Some(AccessLogOutput::Stdout),
        (None, Some(file::AccessLogOutput::Stderr) | None) => Some(AccessLogOutput::Stderr),
    }
}

fn syslog_address(text: &str) -> Option<SyslogAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/').then(|| SyslogAddress::Unix(PathBuf::from(path)));
    }
    let to = text.strip_prefix("udp:")?;
    let (host, port) = to.rsplit_once(':')?;
    let is_good = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_good.then(|| SyslogAddress::Udp(to.to_owned()))
}

fn access_file(at: &ConfigLocation<'_>, text: &ConfigText) -> Option<PathBuf> {
    let path = PathBuf::from(at.text(text)?);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = if path.is_dir() {
        ConfigProblem::new(format!("`{}` is a folder", path.display()))
    } else if !folder.is_dir() {
        ConfigProblem::new(format!("there is no folder `{}`", folder.display()))
            .help("a relative path starts at the folder that Tidegate is started in")
    } else {
        return Some(path);
    };
    at.report(problem.expected("the path of a file in a folder that exists"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_syslog_is_a_socket_or_a_host_with_its_port() {
        for (text, expected) in [
            ("unix:/dev/log", Some(SyslogAddress::Unix("/dev/log".into()))),
            ("udp:127.0.0.1:514", Some(SyslogAddress::Udp("127.0.0.1:514".to_owned()))),
            ("udp:[::1]:514", Some(SyslogAddress::Udp("[::1]:514".to_owned()))),
            ("udp:logs.example:514", Some(SyslogAddress::Udp("logs.example:514".to_owned()))),
            ("udp:logs.example", None),
            ("udp::514", None),
            ("udp:host:0", None),
            ("unix:dev/log", None),
            ("tcp:host:514", None),
            ("/dev/log", None),
        ] {
            assert_eq!(syslog_address(text), expected, "{text}");
        }
    }
}
