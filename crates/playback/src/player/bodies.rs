//! Bodies of requests to players, and what is refused in them.

use std::borrow::Cow;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::channel::{ChannelId, MAX_CHANNEL_BYTES, PlayerKey};
use super::channel_store::SettingsChange;
use super::inputs::{ChannelInput, NumberOrText, SeekTarget};
use super::record::{PlayState, PlayerReport};
use super::sound::{BANDS, EqualizerBands, EqualizerPreset, MAX_SEMITONES, PlaybackSpeed};
use primitives::ids::TrackId;
use primitives::markup::has_markup;
use server_kit::api::error::Error;
use server_kit::api::id;
use server_kit::api::json_values::{Milliseconds, MillisecondsOrText, TimestampInput};
use server_kit::api::user::User;

/// Largest position: a hundred years in milliseconds.
const MAX_POSITION_MILLIS: i64 = 100 * 366 * 86_400_000;
/// Longest rewind, in seconds: a day.
const MAX_REWIND_SECONDS: i64 = 86_400;
/// Seconds of a rewind that names none (document 002).
const REWIND_SECONDS: i64 = 30;
/// Longest title, in bytes.
const MAX_TITLE_BYTES: usize = 512;
/// Longest id of a session, in bytes.
const MAX_SESSION_BYTES: usize = 64;

/// Channel that is meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct ChannelQuery {
    /// One of the user's channels. Default: `main`.
    pub channel_id: Option<String>,
}

/// Channel and track that are meant.
#[derive(Debug, Deserialize, IntoParams)]
pub struct SettingsQuery {
    /// One of the user's channels. Default: `main`.
    pub channel_id: Option<String>,
    /// A track whose remembered speed is asked for.
    pub track_id: Option<String>,
}

/// Speed of a channel, or of one track.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "speed": 1.25 }))]
pub struct SpeedRequest {
    /// 0.5 to 2, to two decimals. Null, with `track_id`: the track has no speed of its own any more.
    #[schema(minimum = 0.5, maximum = 2.0)]
    speed: Option<f64>,
    /// Track whose speed is remembered, in place of the channel's.
    track_id: Option<String>,
    /// One of the user's channels. Default: `main`.
    #[schema(value_type = Option<NumberOrText>)]
    pub channel_id: Option<ChannelInput>,
}

/// Change of pitch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "semitones": -2 }))]
pub struct PitchRequest {
    /// Whole semitones, −12 to 12.
    #[schema(minimum = -12, maximum = 12)]
    semitones: f64,
    /// One of the user's channels. Default: `main`.
    #[schema(value_type = Option<NumberOrText>)]
    pub channel_id: Option<ChannelInput>,
}

/// Setting of the equalizer: a preset, or the user's own bands.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "preset": "rock" }))]
pub struct EqualizerRequest {
    /// `flat`, `rock`, `jazz`, `pop`, `hiphop`, `dance`, `metal`, `electronic`, `acoustic`, `classical`, `lofi`, or
    /// `custom`: the bands that were set last.
    preset: Option<String>,
    /// Ten gains in dB, −12 to 12, to a tenth; they make the preset `custom`.
    bands: Option<Vec<f64>>,
    /// One of the user's channels. Default: `main`.
    #[schema(value_type = Option<NumberOrText>)]
    pub channel_id: Option<ChannelInput>,
}

/// Position to go to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "position_ms": 93500 }))]
pub struct SeekRequest {
    /// Milliseconds from the beginning, or `"MM:SS"` or `"H:MM:SS"`. May be called `position` too.
    #[serde(alias = "position")]
    #[schema(value_type = MillisecondsOrText)]
    position_ms: SeekTarget,
    /// One of the user's channels. Default: `main`.
    #[schema(value_type = Option<NumberOrText>)]
    pub channel_id: Option<ChannelInput>,
}

/// Seconds to go back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "seconds": 30 }))]
pub struct RewindRequest {
    /// Seconds, 1 to 86400. Default: 30.
    #[schema(minimum = 1, maximum = 86400)]
    seconds: Option<f64>,
    /// One of the user's channels. Default: `main`.
    #[schema(value_type = Option<NumberOrText>)]
    pub channel_id: Option<ChannelInput>,
}

/// Report of a player.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "session_id": "b7", "seq": 4, "track_id": "track-7", "state": "playing", "position_ms": 93500,
    "duration_ms": 240000 }))]
pub struct ReportRequest {
    /// The track.
    track_id: String,
    /// State of the player.
    state: PlayState,
    /// Milliseconds from the beginning.
    #[schema(minimum = 0, value_type = f64)]
    position_ms: Milliseconds,
    /// The track's length in milliseconds, where the player knows it.
    #[schema(minimum = 1, value_type = Option<f64>)]
    duration_ms: Option<Milliseconds>,
    /// The track's title: plain text of at most 512 bytes.
    title: Option<String>,
    /// Speed of the player, 0.5 to 2. Left out where an item begins, the answer tells the one to play it at.
    #[schema(minimum = 0.5, maximum = 2.0)]
    speed: Option<f64>,
    /// An id of the player's own, of at most 64 bytes, for one run of its queue.
    session_id: Option<String>,
    /// Number of the report in its session: a smaller or equal one is late.
    seq: Option<u64>,
    /// Time by the player's clock: an earlier one is late.
    #[schema(value_type = Option<MillisecondsOrText>)]
    timestamp: Option<TimestampInput>,
    /// One of the user's channels; another one is opened by its first report. Default: `main`.
    #[schema(value_type = Option<NumberOrText>)]
    pub channel_id: Option<ChannelInput>,
}

/// Change of speed.
#[derive(Debug, PartialEq, Eq)]
pub enum SpeedChange {
    /// Of the channel.
    Channel(PlaybackSpeed),
    /// Of a track.
    Track(TrackId, Option<PlaybackSpeed>),
}

/// Returns the key of the user's player that the query and the body name.
pub fn player_key(user: &User, query: Option<&str>, body: Option<&ChannelInput>) -> Result<PlayerKey, Error> {
    let named = match (query, body.map(|ChannelInput(text)| text.as_str())) {
        (Some(query), Some(body)) if query != body => {
            return Err(Error::bad_request("the query and the body name different channels"));
        }
        (query, body) => body.or(query),
    };
    let channel = named.map_or_else(|| Ok(ChannelId::main()), channel_id)?;
    Ok(PlayerKey { user: user.id().clone(), channel })
}

/// Parses a channel's id.
pub fn channel_id(text: &str) -> Result<ChannelId, Error> {
    ChannelId::parse(text).ok_or_else(|| {
        Error::bad_request(format!(
            "`channel_id` must have 1 to {MAX_CHANNEL_BYTES} bytes, no control characters, and not be `.` or `..`"
        ))
    })
}

fn speed(factor: f64) -> Result<PlaybackSpeed, Error> {
    let speed = PlaybackSpeed::from_factor(factor);
    speed.ok_or_else(|| Error::unprocessable(format!("speed is {factor}; expected 0.5 to 2.0")))
}

fn whole(name: &str, number: f64, least: i64, most: i64) -> Result<i64, Error> {
    let good = number.fract() == 0.0 && (least as f64..=most as f64).contains(&number);
    let refused = || Error::unprocessable(format!("{name} is {number}; expected a whole number, {least} to {most}"));
    if good { Ok(number as i64) } else { Err(refused()) }
}

fn position(millis: i64) -> Result<i64, Error> {
    let good = (0..=MAX_POSITION_MILLIS).contains(&millis);
    if good { Ok(millis) } else { Err(Error::unprocessable(format!("position_ms is {millis}; expected 0 or more"))) }
}

impl SpeedRequest {
    /// Returns the change.
    pub fn change(&self) -> Result<SpeedChange, Error> {
        let speed = self.speed.map(speed).transpose()?;
        match (self.track_id.as_deref(), speed) {
            (Some(track), speed) => Ok(SpeedChange::Track(id::parse_track("track_id", track)?, speed)),
            (None, Some(speed)) => Ok(SpeedChange::Channel(speed)),
            (None, None) => Err(Error::bad_request("missing `speed`, a number of 0.5 to 2.0")),
        }
    }
}

impl PitchRequest {
    /// Returns the change.
    pub fn change(&self) -> Result<SettingsChange, Error> {
        let semitones = Some(whole("semitones", self.semitones, -MAX_SEMITONES, MAX_SEMITONES)?);
        Ok(SettingsChange { semitones, ..SettingsChange::default() })
    }
}

impl EqualizerRequest {
    /// Returns the change.
    pub fn change(&self) -> Result<SettingsChange, Error> {
        let named = self.preset.as_deref().map(preset).transpose()?;
        let Some(gains) = &self.bands else {
            let preset = named.ok_or_else(|| Error::bad_request("expected `preset`, or `bands`"))?;
            return Ok(SettingsChange { preset: Some(preset), ..SettingsChange::default() });
        };
        if named.is_some_and(|preset| preset != EqualizerPreset::Custom) {
            return Err(Error::unprocessable("a preset with other bands is `custom`: leave out one of the two"));
        }
        let bands = EqualizerBands::from_gains(gains).ok_or_else(|| {
            Error::unprocessable(format!(
                "`bands` must be {BANDS} gains in dB, each -12 to 12: there are {}",
                gains.len()
            ))
        })?;
        let preset = Some(EqualizerPreset::Custom);
        Ok(SettingsChange { preset, custom_bands: Some(bands), ..SettingsChange::default() })
    }
}

fn preset(name: &str) -> Result<EqualizerPreset, Error> {
    EqualizerPreset::from_name(name).ok_or_else(|| {
        let names = EqualizerPreset::ALL.map(EqualizerPreset::name).join(", ");
        Error::unprocessable(format!("there is no such preset; expected one of {names}"))
    })
}

impl SeekRequest {
    /// Returns the position in milliseconds.
    pub fn position(&self) -> Result<i64, Error> {
        position(self.position_ms.0)
    }
}

impl RewindRequest {
    /// Returns the milliseconds to go back.
    pub fn millis(&self) -> Result<i64, Error> {
        let seconds = self.seconds.map(|seconds| whole("seconds", seconds, 1, MAX_REWIND_SECONDS)).transpose()?;
        Ok(seconds.unwrap_or(REWIND_SECONDS) * 1000)
    }
}

impl ReportRequest {
    /// Returns the report.
    pub fn report(&self) -> Result<PlayerReport, Error> {
        let track = id::parse_track("track_id", &self.track_id)?;
        let Milliseconds(millis) = self.position_ms;
        let duration = self.duration_ms.map(|Milliseconds(duration)| duration);
        if let Some(duration) = duration.filter(|duration| !(1..=MAX_POSITION_MILLIS).contains(duration)) {
            return Err(Error::unprocessable(format!("duration_ms is {duration}; expected 1 or more")));
        }
        Ok(PlayerReport {
            session: self.session_id.as_deref().map(session_id).transpose()?,
            track: track.as_str().to_owned(),
            title: self.title.as_deref().map(title).transpose()?,
            state: self.state,
            position: position(millis)?,
            duration,
            speed: self.speed.map(speed).transpose()?,
            seq: self.seq,
            at: self.timestamp.map(TimestampInput::since_1970).transpose()?,
        })
    }
}

fn session_id(text: &str) -> Result<String, Error> {
    let good = (1..=MAX_SESSION_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    let refused = || format!("`session_id` must have 1 to {MAX_SESSION_BYTES} bytes and no control characters");
    if good { Ok(text.to_owned()) } else { Err(Error::bad_request(refused())) }
}

/// Returns a title, which other windows show: plain text without line ends and without what a browser would take for
/// markup.
fn title(text: &str) -> Result<String, Error> {
    let refused = |detail: Cow<'static, str>| Err(Error::unprocessable(detail));
    if text.len() > MAX_TITLE_BYTES {
        return refused(format!("`title` has {} bytes; expected {MAX_TITLE_BYTES} at most", text.len()).into());
    }
    if text.chars().any(char::is_control) {
        return refused("`title` has control characters; expected one line of plain text".into());
    }
    if has_markup(text) {
        return refused("`title` has markup; expected plain text".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_plain_text() {
        for good in ["I <3 You", "a < b > c", "AC/DC & Ünïcode", "", "<"] {
            assert_eq!(title(good).as_deref(), Ok(good));
        }
        let long = "x".repeat(MAX_TITLE_BYTES + 1);
        for bad in ["<b>x", "x</b>", "<!-- x", "<script>alert(1)</script>", "a\nb", "a\u{0}", "<?x", &long] {
            assert!(title(bad).is_err(), "{bad:?}");
        }
    }
}
