//! Section `Playback`.

use std::time::Duration;

use super::{ConfigLocation, events};
use crate::config::file;
use crate::config::report::ConfigProblem;
use playback::player::settings::Settings;

const DAY: Duration = Duration::from_secs(86_400);

/// Sections that players use.
#[derive(Clone, Copy, Debug)]
pub struct PlaybackSections {
    /// True if there is a database.
    pub database: bool,
    /// True if there are events.
    pub events: bool,
}

/// Resolves players; `Some(None)` if there are none.
pub fn playback(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Playback>,
    sections: PlaybackSections,
) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let default = Settings::default();
    let second = Duration::from_secs(1);
    let interval = at.key("ReportInterval").span(raw.report_interval, default.report_interval, second, 600 * second);
    let paused = at.key("PausedTimeout").span(raw.paused_timeout, default.paused_timeout, second, DAY);
    let listeners = number(at, "MaxListeners", raw.max_listeners, default.max_listeners as u32, (1, 1_000_000));
    let per_user = default.max_listeners_per_user as u32;
    let per_user = number(at, "MaxListenersPerUser", raw.max_listeners_per_user, per_user, (1, 1000));
    let channels = default.max_channels_per_user;
    let channels = number(at, "MaxChannelsPerUser", raw.max_channels_per_user, channels, (2, 1000));
    let speeds = default.max_track_speeds_per_user;
    let speeds = number(at, "MaxTrackSpeedsPerUser", raw.max_track_speeds_per_user, speeds, (1, 100_000));
    let publish_events = raw.publish_events.is_some_and(|flag| flag.0);
    if !sections.database {
        let problem = ConfigProblem::new("there is no database to keep settings in");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
    }
    if publish_events && !sections.events {
        events::report_missing(&at.key("PublishEvents"));
    }
    if !sections.database || (publish_events && !sections.events) {
        return None;
    }
    Some(Some(Settings {
        report_interval: interval?,
        paused_timeout: paused?,
        max_listeners: listeners? as usize,
        max_listeners_per_user: per_user? as usize,
        max_channels_per_user: channels?,
        max_track_speeds_per_user: speeds?,
        publish_events,
    }))
}

fn number(
    at: &ConfigLocation<'_>,
    key: &str,
    raw: Option<u32>,
    default: u32,
    (least, most): (u32, u32),
) -> Option<u32> {
    let value = raw.unwrap_or(default);
    if !(least..=most).contains(&value) {
        let problem = ConfigProblem::new(format!("{value} is out of range"));
        at.key(key).report(problem.expected(format!("{least} to {most}")));
        return None;
    }
    Some(value)
}
