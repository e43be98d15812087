//! Forms in which settings and players are shown, in answers and events alike.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::channel::ChannelId;
use super::channel_store::ChannelSettings;
use super::record::{PlayState, PlayerRecord};
use super::sound::{EqualizerPreset, PlaybackSpeed};
use primitives::unix_time::UnixMillis;

/// Settings of a channel.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "channel_id": "main", "speed": 1.25, "semitones": -2,
    "equalizer": { "preset": "flat", "bands": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] },
    "track_id": null, "track_speed": null, "revision": 1769882400250_i64, "updated_at": "2026-01-31T18:00:00.25Z" }))]
pub struct SettingsView {
    /// The channel.
    pub channel_id: String,
    /// Speed, 0.5 to 2, of tracks that have none of their own.
    pub speed: f64,
    /// Change of pitch in semitones, −12 to 12.
    pub semitones: i64,
    /// The equalizer.
    pub equalizer: EqualizerView,
    /// The track that was asked for.
    pub track_id: Option<String>,
    /// The speed that is remembered for that track.
    pub track_speed: Option<f64>,
    /// Number of this version: of two, the one with the larger number is newer.
    pub revision: u64,
    /// Time of the last change (RFC 3339); null if nothing was ever set.
    pub updated_at: Option<String>,
}

/// The equalizer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EqualizerView {
    /// Name of the preset.
    pub preset: EqualizerPreset,
    /// Gains in dB at 31.25, 62.5, 125, 250, 500, 1,000, 2,000, 4,000, 8,000 and 16,000 Hz.
    pub bands: [f64; 10],
}

/// Player of a channel.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "channel_id": "main", "session_id": "b7", "track_id": "track-7", "title": "Prelude",
    "position_ms": 93500, "duration_ms": 240000, "speed": 1.25, "state": "playing", "revision": 1769882400250_i64,
    "updated_at": "2026-01-31T18:00:00.25Z" }))]
pub struct PlayerView {
    /// The channel.
    pub channel_id: String,
    /// The id that the player gave to its run.
    pub session_id: Option<String>,
    /// The track; null if nothing was played.
    pub track_id: Option<String>,
    /// Its title, as the player says it: plain text.
    pub title: Option<String>,
    /// Milliseconds from the beginning, as of now.
    pub position_ms: Option<i64>,
    /// Length in milliseconds; null if unknown.
    pub duration_ms: Option<i64>,
    /// Speed at which the position moves while `state` is `playing`.
    pub speed: f64,
    /// State of the player.
    pub state: PlayState,
    /// Number of this version: of two, the one with the larger number is newer. 0 if nothing was played.
    pub revision: u64,
    /// Time of the last report (RFC 3339).
    pub updated_at: Option<String>,
}

/// Command to a player.
#[derive(Clone, Debug, Serialize)]
pub struct SeekView {
    /// The channel.
    pub channel_id: String,
    /// The track that is meant.
    pub track_id: String,
    /// Milliseconds from the beginning.
    pub position_ms: i64,
    /// The version of the player that this made.
    pub revision: u64,
}

impl SettingsView {
    /// Shows `settings`, with the speed of a track if one was asked for.
    pub fn new(settings: &ChannelSettings, track: Option<(&str, Option<PlaybackSpeed>)>) -> Self {
        let ChannelSettings { channel, speed, semitones, preset, custom_bands, revision, updated_at } = settings;
        Self {
            channel_id: channel.as_str().to_owned(),
            speed: speed.factor(),
            semitones: *semitones,
            equalizer: EqualizerView { preset: *preset, bands: preset.bands(*custom_bands).gains() },
            track_id: track.map(|(track, _)| track.to_owned()),
            track_speed: track.and_then(|(_, speed)| speed).map(PlaybackSpeed::factor),
            revision: *revision,
            updated_at: updated_at.and_then(rfc3339),
        }
    }
}

impl PlayerView {
    /// Shows the player of a channel as it is at `now`.
    pub fn new(channel: &ChannelId, record: &PlayerRecord, now: UnixMillis) -> Self {
        Self {
            channel_id: channel.as_str().to_owned(),
            session_id: record.session.clone(),
            track_id: Some(record.track.clone()),
            title: record.title.clone(),
            position_ms: Some(record.position_at(now)),
            duration_ms: record.duration,
            speed: record.speed.factor(),
            state: record.state,
            revision: record.revision,
            updated_at: rfc3339(record.reported_at),
        }
    }

    /// Shows a channel in which nothing was played.
    pub fn idle(settings: &ChannelSettings) -> Self {
        Self {
            channel_id: settings.channel.as_str().to_owned(),
            session_id: None,
            track_id: None,
            title: None,
            position_ms: None,
            duration_ms: None,
            speed: settings.speed.factor(),
            state: PlayState::Stopped,
            revision: 0,
            updated_at: None,
        }
    }
}

fn rfc3339(at: UnixMillis) -> Option<String> {
    Timestamp::from_millisecond(at.as_millis()).ok().map(|time| time.to_string())
}
