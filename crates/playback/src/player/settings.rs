//! Settings of players.

use std::time::Duration;

/// Times and bounds of players, their settings and their listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Interval at which players repeat their report; one that misses three is closed.
    pub report_interval: Duration,
    /// Time after which a paused player that does not report is closed.
    pub paused_timeout: Duration,
    /// Most open streams of events on this node.
    pub max_listeners: usize,
    /// Most of them of one user.
    pub max_listeners_per_user: usize,
    /// Most channels of one user; the one that was not used for the longest time is dropped for a new one.
    pub max_channels_per_user: u32,
    /// Most tracks of one user whose speed is remembered; the oldest is dropped for a new one.
    pub max_track_speeds_per_user: u32,
    /// True where reports are published as playback events too.
    pub publish_events: bool,
}

impl Default for Settings {
    /// Ten seconds are what players of films report by; half an hour of pause is Navidrome's. The other numbers are more
    /// than a household uses.
    fn default() -> Self {
        Self {
            report_interval: Duration::from_secs(10),
            paused_timeout: Duration::from_secs(30 * 60),
            max_listeners: 10_000,
            max_listeners_per_user: 20,
            max_channels_per_user: 32,
            max_track_speeds_per_user: 1000,
            publish_events: false,
        }
    }
}
