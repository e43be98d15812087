//! Metrics of channels.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use crate::player::station::{FailureCause, PlayOutcome};
use server_kit::telemetry::registration;

/// Outcome of a request to queue an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It waits.
    Added,
    /// Its track is in the queue already.
    Duplicate,
    /// The channel is full.
    ChannelFull,
    /// The user has too much in the queue.
    UserFull,
    /// The store does not answer.
    Unavailable,
}

impl RequestOutcome {
    const ALL: [Self; 5] = [Self::Added, Self::Duplicate, Self::ChannelFull, Self::UserFull, Self::Unavailable];

    fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Duplicate => "duplicate",
            Self::ChannelFull => "channel-full",
            Self::UserFull => "user-full",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Metrics of queues.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    requests: IntCounterVec,
    /// Items that users and admins took out.
    pub removed: IntCounter,
    /// Items that were claimed to be played.
    pub claimed: IntCounter,
    /// Items that wait again because whoever played them had vanished.
    pub returned: IntCounter,
    /// Items that were given up because whoever played them had vanished too often.
    pub dropped: IntCounter,
    /// Playlists that were started.
    pub playlists: IntCounter,
    /// Open streams of events.
    pub event_streams: IntGauge,
}

impl QueueMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help| registration::counter(registry, name, help);
        let (requests, help) = ("tidegate_queue_requests_total", "Requests to queue a track on a channel, by outcome");
        let metrics = Self {
            requests: registration::counters(registry, requests, help, "outcome")?,
            removed: counter("tidegate_queue_removed_items_total", "Items taken out of queues by users and admins")?,
            claimed: counter("tidegate_queue_claimed_items_total", "Items of queues and playlists taken to be played")?,
            returned: counter(
                "tidegate_queue_returned_items_total",
                "Items that wait again because their player vanished",
            )?,
            dropped: counter(
                "tidegate_queue_dropped_items_total",
                "Items given up because their player vanished too often",
            )?,
            playlists: counter("tidegate_queue_playlists_total", "Playlists started on channels")?,
            event_streams: registration::gauge(registry, "tidegate_queue_event_streams", "Open streams of queues")?,
        };
        for outcome in RequestOutcome::ALL {
            metrics.requests.with_label_values(&[outcome.name()]);
        }
        Ok(metrics)
    }

    /// Counts a request.
    pub fn count_request(&self, outcome: RequestOutcome) {
        self.requests.with_label_values(&[outcome.name()]).inc();
    }
}

/// Metrics of players.
#[derive(Clone, Debug)]
pub struct PlayerMetrics {
    played: IntCounterVec,
    /// Channels that this node plays.
    pub held_channels: IntGauge,
    /// Tenths of a second in which a track had not come in time, and silence was heard.
    pub underruns: IntCounter,
}

impl PlayerMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let (played, help) = ("tidegate_channel_tracks_total", "Tracks of channels that are over, by outcome");
        let metrics = Self {
            played: registration::counters(registry, played, help, "outcome")?,
            held_channels: registration::gauge(registry, "tidegate_channels", "Channels that this node plays")?,
            underruns: registration::counter(
                registry,
                "tidegate_channel_underruns_total",
                "Tenths of a second in which a track of a channel had not come in time",
            )?,
        };
        let failed = PlayOutcome::failed(FailureCause::Damaged, "");
        for outcome in [PlayOutcome::Played, PlayOutcome::Skipped, failed] {
            metrics.played.with_label_values(&[outcome.name()]);
        }
        Ok(metrics)
    }

    /// Counts a track that is over.
    pub fn count_played(&self, outcome: &PlayOutcome) {
        self.played.with_label_values(&[outcome.name()]).inc();
    }
}
