//! Section `Share`, and the relay's environment variables.

use std::time::Duration;

use super::store::{UploadTarget, upload_target};
use super::{ConfigLocation, cache};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::SecretRef;
use share::settings::{RecordingSettings, Settings};

/// Resolves the relay's settings; `Some(None)` if there is no sharing. `shared` is true if state is in Redis.
pub fn share(at: &ConfigLocation<'_>, raw: Option<&file::Share>, shared: bool) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    // The relay's document gives its token this name in the environment.
    let own = SecretRef::Env("BEARER_TOKEN".to_owned());
    let token = at.key("Token").credential(raw.token.as_ref().unwrap_or(&own));
    let number = |key: &str, given: Option<u32>, name: &str, default: usize, least: usize, most: usize| {
        let value = given.map(|given| Some(given as usize)).or_else(|| variable(&at.key(key), name));
        let value = value.unwrap_or(Some(default))?;
        in_range(&at.key(key), value, least, most)
    };
    let span = |key: &str, given, name: &str, unit: u64, default, least: u64, most: u64| {
        let given_there =
            at.key(key).span(given, default, Duration::from_millis(least), Duration::from_millis(most))?;
        // The file goes before the environment.
        let value = given.is_none().then(|| variable(&at.key(key), name)).flatten();
        let Some(value) = value else { return Some(given_there) };
        let millis =
            in_range(&at.key(key), value?, least.div_ceil(unit) as usize, (most / unit) as usize)? as u64 * unit;
        Some(Duration::from_millis(millis))
    };
    let defaults = Settings::new(token.clone().unwrap_or_default());
    let max_sessions = number("MaxSessions", raw.max_sessions, "MAX_SESSIONS", defaults.max_sessions, 1, 100_000);
    let max_listeners = number("MaxListeners", raw.max_listeners, "", defaults.max_listeners, 1, 1_000_000);
    let max_transcodes = number("MaxTranscodes", raw.max_transcodes, "", defaults.max_transcodes, 0, 1_000);
    let buffer = span("Buffer", raw.buffer, "AUDIO_BUFFER_SECONDS", 1_000, defaults.buffer, 1_000, 30_000);
    let day = 86_400_000;
    let timeout = span("Timeout", raw.timeout, "SESSION_TIMEOUT_MINUTES", 60_000, defaults.timeout, 10_000, day);
    let cadence = raw.cadence.map(|given| {
        at.key("Cadence").span(Some(given), Duration::ZERO, Duration::from_millis(20), Duration::from_secs(2))
    });
    let recording = raw.recording.as_ref().map(|raw| recording(&at.key("Recording"), raw));
    let compatibility = raw.compatibility.is_some_and(|flag| flag.0);
    if compatibility && !shared {
        let problem = ConfigProblem::new("there is no Redis to keep audio in");
        at.key("Compatibility").report(problem.help("name its address as `State.Url`"));
        return None;
    }
    token?;
    Some(Some(Settings {
        max_sessions: max_sessions?,
        max_listeners: max_listeners?,
        max_transcodes: max_transcodes?,
        buffer: buffer?,
        timeout: timeout?,
        cadence: cadence.map_or(Some(None), |cadence| cadence.map(Some))?,
        allow_localhost: raw.allow_localhost.is_some_and(|flag| flag.0),
        recording: recording.map_or(Some(None), |recording| recording.map(Some))?,
        compatibility,
        ..defaults
    }))
}

fn recording(at: &ConfigLocation<'_>, raw: &file::Recording) -> Option<RecordingSettings> {
    let target = upload_target(at, &raw.store, &raw.bucket, raw.prefix.as_ref(), "shared/");
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let max_duration = at.key("MaxDuration").span(raw.max_duration, hours(4), Duration::from_secs(60), hours(24));
    // A multipart upload has at most 10,000 parts (S3), and the parts of a recording are small.
    let max_size = cache::size(&at.key("MaxSize"), raw.max_size, 2 << 30, 1 << 20, 40 << 30);
    let UploadTarget { store, bucket, prefix } = target?;
    Some(RecordingSettings { store, bucket, prefix, max_duration: max_duration?, max_size: max_size? })
}

/// Parses a number of the environment; `None` if it is not set, `Some(None)` if it is invalid, which is reported.
fn variable(at: &ConfigLocation<'_>, name: &str) -> Option<Option<usize>> {
    let text = (at.context.environment)(name).filter(|text| !name.is_empty() && !text.is_empty())?;
    let number = text.trim().parse().ok();
    if number.is_none() {
        let problem = ConfigProblem::new(format!("the value of the environment variable `{name}` cannot be read"));
        at.report(problem.expected("a whole number"));
    }
    Some(number)
}

fn in_range(at: &ConfigLocation<'_>, value: usize, least: usize, most: usize) -> Option<usize> {
    let good = (least..=most).contains(&value);
    if !good {
        at.report(ConfigProblem::new(format!("{value} is out of range")).expected(format!("{least} to {most}")));
    }
    good.then_some(value)
}
