//! Metrics of players.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use server_kit::telemetry::registration;

/// Metrics of players. Clones share them.
#[derive(Clone, Debug)]
pub struct PlayerMetrics {
    /// Reports that changed the player, or said that it goes on.
    pub reports_applied: IntCounter,
    /// Late reports, and those of one track too many.
    pub reports_ignored: IntCounter,
    /// Reports that were answered by 503.
    pub reports_failed: IntCounter,
    changes: IntCounterVec,
    /// Players that were closed since they did not report.
    pub closed: IntCounter,
    /// Open streams of events.
    pub listeners: IntGauge,
    ended: IntCounterVec,
    /// Events of this node's players.
    pub published: IntCounter,
    /// Events of other nodes.
    pub received: IntCounter,
    /// Events of which other nodes could not be told.
    pub publish_failures: IntCounter,
}

/// Kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Speed of a channel.
    Speed,
    /// Speed of a track.
    TrackSpeed,
    /// Pitch.
    Pitch,
    /// Equalizer.
    Equalizer,
    /// Another position.
    Seek,
    /// So many seconds back.
    Rewind,
}

impl ChangeKind {
    const ALL: [Self; 6] = [Self::Speed, Self::TrackSpeed, Self::Pitch, Self::Equalizer, Self::Seek, Self::Rewind];

    fn name(self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::TrackSpeed => "track_speed",
            Self::Pitch => "pitch",
            Self::Equalizer => "equalizer",
            Self::Seek => "seek",
            Self::Rewind => "rewind",
        }
    }
}

/// Reasons for which a stream of events ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The listener left.
    Left,
    /// It did not take what was sent.
    Slow,
    /// Its user logged out.
    LoggedOut,
    /// Its token is not valid any more.
    TokenExpired,
    /// The node stops.
    Shutdown,
    /// What it missed cannot be read at the moment.
    Unavailable,
}

impl StreamEnd {
    const ALL: [Self; 6] =
        [Self::Left, Self::Slow, Self::LoggedOut, Self::TokenExpired, Self::Shutdown, Self::Unavailable];

    /// Returns the name as metrics and the last event have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Slow => "slow",
            Self::LoggedOut => "logged_out",
            Self::TokenExpired => "token_expired",
            Self::Shutdown => "shutdown",
            Self::Unavailable => "unavailable",
        }
    }
}

impl PlayerMetrics {
    /// Registers the metrics, each with all its labels; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vector = |name: &str, help: &str, label: &str| registration::counters(registry, name, help, label);
        let counter = |name: &str, help: &str| registration::counter(registry, name, help);
        let reports = vector("tidegate_players_reports_total", "Reports of players, by their effect", "outcome")?;
        let changes = vector("tidegate_players_changes_total", "Changes of settings and positions, by kind", "kind")?;
        let ended =
            vector("tidegate_players_streams_ended_total", "Streams of events that ended, by reason", "reason")?;
        ChangeKind::ALL.iter().for_each(|kind| drop(changes.with_label_values(&[kind.name()])));
        StreamEnd::ALL.iter().for_each(|end| drop(ended.with_label_values(&[end.name()])));
        let events = vector("tidegate_players_events_total", "Events of players, by where they came from", "origin")?;
        let failed = "tidegate_players_publish_failures_total";
        Ok(Self {
            reports_applied: reports.with_label_values(&["applied"]),
            reports_ignored: reports.with_label_values(&["ignored"]),
            reports_failed: reports.with_label_values(&["failed"]),
            changes,
            closed: counter("tidegate_players_closed_total", "Players closed since they did not report")?,
            listeners: registration::gauge(registry, "tidegate_players_streams_open", "Open streams of events")?,
            ended,
            published: events.with_label_values(&["local"]),
            received: events.with_label_values(&["remote"]),
            publish_failures: counter(failed, "Events of which other nodes could not be told")?,
        })
    }

    /// Counts a change.
    pub fn count_change(&self, kind: ChangeKind) {
        self.changes.with_label_values(&[kind.name()]).inc();
    }

    /// Counts a stream that has ended.
    pub fn count_end(&self, end: StreamEnd) {
        self.ended.with_label_values(&[end.name()]).inc();
    }
}
