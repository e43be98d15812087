//! `Playback`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, TimeSpan};

/// Settings of players (speed, pitch, equalizer), their live state, and the stream of events between them, at
/// `/api/v1/playback`. Settings are kept in `Database`; live state in Redis (`State`), or in memory for one node.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Playback {
    /// Whether there are any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// How often players repeat their report, `1s` to `10m`; one of which three are missing is closed. Default: `10s`.
    pub report_interval: Option<TimeSpan>,
    /// When a paused player is closed that does not report, `1s` to `1d`. Default: `30m`.
    pub paused_timeout: Option<TimeSpan>,
    /// Open streams of events on this node at most, 1 to 1000000; one beyond them is 503. Default: 10000.
    pub max_listeners: Option<u32>,
    /// Open streams of one user on this node at most, 1 to 1000; one beyond them is 429. Default: 20.
    pub max_listeners_per_user: Option<u32>,
    /// Channels of a user at most, 2 to 1000; beyond it the one that was not used for the longest time is dropped.
    /// Default: 32.
    pub max_channels_per_user: Option<u32>,
    /// Tracks of a user whose speed is remembered, 1 to 100000; beyond it the oldest are forgotten. Default: 1000.
    pub max_track_speeds_per_user: Option<u32>,
    /// Whether reports of players also become playback events, for players that do not send those themselves; needs
    /// `Events`. Default: `false`.
    pub publish_events: Option<ConfigFlag>,
}
