//! Section `Positions`.

use std::time::Duration;

use super::{ConfigLocation, cache, seconds_variable};
use crate::config::file;
use crate::config::report::ConfigProblem;
use playback::positions::settings::{Settings, WriteBackSettings};

const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(10 * 31_557_600);

/// Resolves positions; `Some(None)` if they are off. `kept` is true if there is a store for them.
pub fn positions(at: &ConfigLocation<'_>, raw: &file::Positions, kept: bool) -> Option<Option<Settings>> {
    let default = Settings::default();
    let ttl = at.key("Ttl").span(raw.ttl, default.ttl, Duration::from_secs(3600), TEN_YEARS);
    let least = percent(&at.key("MinResumePercent"), raw.min_resume_percent, default.min_resume_percent);
    let most = percent(&at.key("MaxResumePercent"), raw.max_resume_percent, default.max_resume_percent);
    let min_duration = at.key("MinDuration").span(raw.min_duration, default.min_duration, Duration::ZERO, DAY);
    let max_items = max_items(&at.key("MaxItemsPerUser"), raw.max_items_per_user, default.max_items_per_user);
    let write_back = write_back(&at.key("Films"), &raw.films);
    // Without a word in the file positions are on wherever there is a place for them.
    let enabled = match &raw.enabled {
        None => kept,
        Some(flag) => flag.0,
    };
    if enabled && !kept {
        let problem = ConfigProblem::new("there is nothing to keep positions in");
        at.report(
            problem
                .help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`, or the address of Redis as `State.Url`"),
        );
        return None;
    }
    let (min_resume_percent, max_resume_percent) = (least?, most?);
    let max_items_per_user = max_items?;
    if min_resume_percent > max_resume_percent {
        let problem = ConfigProblem::new("`MinResumePercent` is more than `MaxResumePercent`");
        at.report(problem.help("nothing could be continued"));
        return None;
    }
    let (ttl, min_duration) = (ttl?, min_duration?);
    let write_back = write_back?;
    let settings =
        Settings { ttl, min_resume_percent, max_resume_percent, min_duration, max_items_per_user, write_back };
    Some(enabled.then_some(settings))
}

fn percent(at: &ConfigLocation<'_>, raw: Option<u8>, default: u8) -> Option<u8> {
    let percent = raw.unwrap_or(default);
    if percent > 100 {
        at.report(ConfigProblem::new(format!("{percent} is out of range")).expected("0 to 100"));
        return None;
    }
    Some(percent)
}

fn max_items(at: &ConfigLocation<'_>, raw: Option<u32>, default: u32) -> Option<u32> {
    let most = raw.unwrap_or(default);
    if !(10..=100_000).contains(&most) {
        at.report(ConfigProblem::new(format!("{most} is out of range")).expected("10 to 100000"));
        return None;
    }
    Some(most)
}

fn write_back(at: &ConfigLocation<'_>, raw: &file::FilmPositions) -> Option<WriteBackSettings> {
    let default = WriteBackSettings::default();
    let hour = Duration::from_secs(3600);
    let flush_interval =
        at.key("FlushInterval").span(raw.flush_interval, default.flush_interval, Duration::from_secs(1), hour);
    let limits = (Duration::from_secs(60), 30 * DAY);
    let cache_ttl = match raw.cache_ttl {
        Some(_) => at.key("CacheTtl").span(raw.cache_ttl, default.cache_ttl, limits.0, limits.1),
        None => seconds_variable(&at.key("CacheTtl"), "REDIS_PROGRESS_TTL", default.cache_ttl, limits),
    };
    let max_bytes = cache::size(&at.key("MaxBacklog"), raw.max_backlog, default.max_bytes, 1 << 20, 1 << 40);
    Some(WriteBackSettings {
        is_enabled: raw.write_back.is_none_or(|flag| flag.0),
        flush_interval: flush_interval?,
        cache_ttl: cache_ttl?,
        max_bytes: max_bytes?,
    })
}
