//! Metrics of radio.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use server_kit::telemetry::registration;

/// Metrics of radio. Clones share them.
#[derive(Clone, Debug)]
pub struct RadioMetrics {
    /// Listeners of sound.
    pub listeners: IntGauge,
    /// Listeners of titles.
    pub title_listeners: IntGauge,
    /// Stations that are connected to.
    pub upstreams: IntGauge,
    /// Connections to stations that brought sound.
    pub connected: IntCounter,
    /// Attempts that did not.
    pub connect_failures: IntCounter,
    /// Bytes of sound of stations.
    pub received_bytes: IntCounter,
    /// Bytes of sound that listeners took.
    pub sent_bytes: IntCounter,
    /// Titles that were told.
    pub titles: IntCounter,
    /// Times that a fallback station stood in.
    pub fallbacks: IntCounter,
    /// Searches that the directory answered.
    pub searches: IntCounter,
    /// Searches that it did not.
    pub search_failures: IntCounter,
    ended: IntCounterVec,
}

/// Reasons for which a listener's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The listener left.
    Left,
    /// It did not take what was sent.
    Slow,
    /// Its user logged out.
    LoggedOut,
    /// It was open for a day.
    Expired,
    /// The node stops.
    Shutdown,
    /// The station is away for long.
    Offline,
    /// The station sends another format than before.
    FormatChanged,
    /// The station was deleted.
    Deleted,
    /// The station was given another address.
    Moved,
}

impl StreamEnd {
    const ALL: [Self; 9] = [
        Self::Left,
        Self::Slow,
        Self::LoggedOut,
        Self::Expired,
        Self::Shutdown,
        Self::Offline,
        Self::FormatChanged,
        Self::Deleted,
        Self::Moved,
    ];

    /// Returns the name as metrics and the last event have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Slow => "slow",
            Self::LoggedOut => "logged_out",
            Self::Expired => "expired",
            Self::Shutdown => "shutdown",
            Self::Offline => "offline",
            Self::FormatChanged => "format_changed",
            Self::Deleted => "deleted",
            Self::Moved => "moved",
        }
    }
}

impl RadioMetrics {
    /// Registers the metrics, each with all its labels; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vector = |name: &str, help: &str, label: &str| registration::counters(registry, name, help, label);
        let counter = |name: &str, help: &str| registration::counter(registry, name, help);
        let gauge = |name: &str, help: &str| registration::gauge(registry, name, help);
        let ended = vector("tidegate_radio_streams_ended_total", "Listeners' streams that ended, by reason", "reason")?;
        StreamEnd::ALL.iter().for_each(|end| drop(ended.with_label_values(&[end.name()])));
        let connects = vector("tidegate_radio_connects_total", "Connections to stations, by outcome", "outcome")?;
        let searches = vector("tidegate_radio_searches_total", "Searches of the directory, by outcome", "outcome")?;
        Ok(Self {
            listeners: gauge("tidegate_radio_listeners", "Listeners of stations")?,
            title_listeners: gauge("tidegate_radio_title_listeners", "Open streams of titles")?,
            upstreams: gauge("tidegate_radio_upstreams", "Stations that are connected to")?,
            connected: connects.with_label_values(&["connected"]),
            connect_failures: connects.with_label_values(&["failed"]),
            received_bytes: counter("tidegate_radio_received_bytes_total", "Bytes of sound from stations")?,
            sent_bytes: counter("tidegate_radio_sent_bytes_total", "Bytes of sound to listeners")?,
            titles: counter("tidegate_radio_titles_total", "Titles that stations have told")?,
            fallbacks: counter("tidegate_radio_fallbacks_total", "Times that a fallback station stood in")?,
            searches: searches.with_label_values(&["answered"]),
            search_failures: searches.with_label_values(&["failed"]),
            ended,
        })
    }

    /// Counts a listener's stream that has ended.
    pub fn count_end(&self, end: StreamEnd) {
        self.ended.with_label_values(&[end.name()]).inc();
    }
}
