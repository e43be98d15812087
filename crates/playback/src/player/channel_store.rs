//! Settings of channels and speeds of tracks in the database.

use std::time::Duration;

use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;
use tokio::time::timeout;

use super::Error;
use super::channel::{ChannelId, PlayerKey};
use super::settings::Settings;
use super::sound::{EqualizerBands, EqualizerPreset, PlaybackSpeed};
use primitives::clock::monotonic_now;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Columns of a channel's settings.
type SettingsRow = (String, i64, i64, String, Option<String>, i64, i64);

const GET: &str = "SELECT channel_id, speed_percent, semitones, preset, custom_bands, revision, updated_at
    FROM playback_settings WHERE user_id = $1 AND channel_id = $2";
const LIST: &str = "SELECT channel_id, speed_percent, semitones, preset, custom_bands, revision, updated_at
    FROM playback_settings WHERE user_id = $1 ORDER BY channel_id LIMIT $2";
/// Makes the channel, or changes it: what is NULL stays as it is.
const MAKE: &str = "INSERT INTO playback_settings
        (user_id, channel_id, speed_percent, semitones, preset, custom_bands, revision, created_at, updated_at)
    VALUES ($1, $2, COALESCE($3, 100), COALESCE($4, 0), COALESCE($5, 'flat'), $6, $7, $7, $7)
    ON CONFLICT (user_id, channel_id) DO UPDATE SET
        speed_percent = COALESCE($3, playback_settings.speed_percent),
        semitones = COALESCE($4, playback_settings.semitones),
        preset = COALESCE($5, playback_settings.preset),
        custom_bands = COALESCE($6, playback_settings.custom_bands),
        revision = CASE WHEN playback_settings.revision >= $7 THEN playback_settings.revision + 1 ELSE $7 END,
        updated_at = $7
    RETURNING channel_id, speed_percent, semitones, preset, custom_bands, revision, updated_at";
/// The same for a channel that must be there.
const CHANGE: &str = "UPDATE playback_settings SET
        speed_percent = COALESCE($3, speed_percent),
        semitones = COALESCE($4, semitones),
        preset = COALESCE($5, preset),
        custom_bands = COALESCE($6, custom_bands),
        revision = CASE WHEN revision >= $7 THEN revision + 1 ELSE $7 END,
        updated_at = $7
    WHERE user_id = $1 AND channel_id = $2
    RETURNING channel_id, speed_percent, semitones, preset, custom_bands, revision, updated_at";
/// Drops the channels that were not used for the longest time, beyond the most. The one that all users have stays.
const DROP_CHANNELS: &str = "DELETE FROM playback_settings WHERE user_id = $1 AND channel_id <> 'main'
    AND channel_id NOT IN (SELECT channel_id FROM playback_settings WHERE user_id = $1 AND channel_id <> 'main'
        ORDER BY updated_at DESC, channel_id LIMIT $2)
    RETURNING channel_id";
const TRACK_SPEED: &str = "SELECT speed_percent FROM playback_track_speeds WHERE user_id = $1 AND track_id = $2";
const SET_TRACK_SPEED: &str = "INSERT INTO playback_track_speeds (user_id, track_id, speed_percent, updated_at)
    VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, track_id)
    DO UPDATE SET speed_percent = excluded.speed_percent, updated_at = excluded.updated_at";
const FORGET_TRACK_SPEED: &str = "DELETE FROM playback_track_speeds WHERE user_id = $1 AND track_id = $2";
const DROP_TRACK_SPEEDS: &str = "DELETE FROM playback_track_speeds WHERE user_id = $1
    AND track_id NOT IN (SELECT track_id FROM playback_track_speeds WHERE user_id = $1
        ORDER BY updated_at DESC, track_id LIMIT $2)";

/// Settings of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    /// The channel.
    pub channel: ChannelId,
    /// Speed of items that have none of their own.
    pub speed: PlaybackSpeed,
    /// Change of pitch.
    pub semitones: i64,
    /// Preset of the equalizer.
    pub preset: EqualizerPreset,
    /// The user's own bands, if there are any.
    pub custom_bands: Option<EqualizerBands>,
    /// Number of this version; later ones are larger.
    pub revision: u64,
    /// Time of the last change; `None`: nothing was ever set.
    pub updated_at: Option<UnixMillis>,
}

impl ChannelSettings {
    /// Returns what holds where nothing was ever set.
    pub fn initial(channel: ChannelId) -> Self {
        Self {
            channel,
            speed: PlaybackSpeed::NORMAL,
            semitones: 0,
            preset: EqualizerPreset::Flat,
            custom_bands: None,
            revision: 0,
            updated_at: None,
        }
    }
}

/// Change of settings: what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// Speed of the channel.
    pub speed: Option<PlaybackSpeed>,
    /// Change of pitch.
    pub semitones: Option<i64>,
    /// Preset of the equalizer.
    pub preset: Option<EqualizerPreset>,
    /// The user's own bands.
    pub custom_bands: Option<EqualizerBands>,
}

/// Store over the tables `playback_settings` and `playback_track_speeds`.
pub struct ChannelStore {
    database: Database,
    max_channels: i64,
    max_track_speeds: i64,
    failures: FailureLog,
}

impl ChannelStore {
    /// Creates the store over `database`.
    pub fn new(database: Database, settings: &Settings) -> Self {
        let (max_channels, max_track_speeds) =
            (settings.max_channels_per_user.into(), settings.max_track_speeds_per_user.into());
        Self { database, max_channels, max_track_speeds, failures: FailureLog::default() }
    }

    /// Returns the settings of a channel; `None` if there are none.
    pub async fn get(&self, key: &PlayerKey) -> Result<Option<ChannelSettings>, Error> {
        let read = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, SettingsRow>(GET);
                query.bind(key.user.as_str()).bind(key.channel.as_str()).fetch_optional(pool).await
            })
        };
        Ok(self.run(read).await?.and_then(settings))
    }

    /// Returns the settings of all channels of a user.
    pub async fn list(&self, user: &UserId) -> Result<Vec<ChannelSettings>, Error> {
        let read = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, SettingsRow>(LIST).bind(user.as_str());
                query.bind(self.max_channels + 1).fetch_all(pool).await
            })
        };
        Ok(self.run(read).await?.into_iter().filter_map(settings).collect())
    }

    /// Changes the settings of a channel and returns them; `None` where the user has no such channel.
    pub async fn change(
        &self,
        key: &PlayerKey,
        change: SettingsChange,
        now: UnixMillis,
    ) -> Result<Option<ChannelSettings>, Error> {
        self.write(if key.channel.is_main() { MAKE } else { CHANGE }, key, change, now).await
    }

    /// Opens a channel, or marks it as used now. Of too many channels those that were not used for the longest time are
    /// dropped; returns them beside the settings, since their players must go with them.
    pub async fn open(&self, key: &PlayerKey, now: UnixMillis) -> Result<(ChannelSettings, Vec<PlayerKey>), Error> {
        let opened = self.write(MAKE, key, SettingsChange::default(), now).await?.ok_or(Error::Unavailable)?;
        if key.channel.is_main() {
            return Ok((opened, Vec::new()));
        }
        let most = self.max_channels - 1;
        let drop = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(DROP_CHANNELS).bind(key.user.as_str());
                query.bind(most).fetch_all(pool).await
            })
        };
        let dropped = self
            .run(drop)
            .await?
            .into_iter()
            .filter_map(|channel| Some(PlayerKey { user: key.user.clone(), channel: ChannelId::parse(&channel)? }));
        Ok((opened, dropped.collect()))
    }

    async fn write(
        &self,
        sql: &'static str,
        key: &PlayerKey,
        change: SettingsChange,
        now: UnixMillis,
    ) -> Result<Option<ChannelSettings>, Error> {
        let bands = change.custom_bands.and_then(|bands| serde_json::to_string(&bands).ok());
        let write = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, SettingsRow>(sql).bind(key.user.as_str()).bind(key.channel.as_str());
                let query = query.bind(change.speed.map(PlaybackSpeed::hundredths)).bind(change.semitones);
                let query = query.bind(change.preset.map(EqualizerPreset::name)).bind(bands);
                query.bind(now.as_millis()).fetch_optional(pool).await
            })
        };
        Ok(self.run(write).await?.and_then(settings))
    }

    /// Returns the speed that is remembered for a track.
    pub async fn track_speed(&self, user: &UserId, track: &str) -> Result<Option<PlaybackSpeed>, Error> {
        let read = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, i64>(TRACK_SPEED);
                query.bind(user.as_str()).bind(track).fetch_optional(pool).await
            })
        };
        Ok(self.run(read).await?.and_then(PlaybackSpeed::from_hundredths))
    }

    /// Remembers the speed of a track, or forgets it. Of too many tracks the oldest are forgotten.
    pub async fn set_track_speed(
        &self,
        user: &UserId,
        track: &TrackId,
        speed: Option<PlaybackSpeed>,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let (user, track) = (user.as_str(), track.as_str());
        let write = async {
            let Some(speed) = speed.map(PlaybackSpeed::hundredths) else {
                return on!(&self.database, pool => {
                    sqlx::query(FORGET_TRACK_SPEED).bind(user).bind(track).execute(pool).await.map(drop)
                });
            };
            on!(&self.database, pool => {
                let query = sqlx::query(SET_TRACK_SPEED).bind(user).bind(track).bind(speed);
                query.bind(now.as_millis()).execute(pool).await?;
                let drop_oldest = sqlx::query(DROP_TRACK_SPEEDS).bind(user).bind(self.max_track_speeds);
                drop_oldest.execute(pool).await.map(drop)
            })
        };
        self.run(write).await
    }

    /// Runs a query within its timeout; a failure is logged.
    async fn run<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("settings of players can be kept and read again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            tracing::warn!(error = reason, "settings of players cannot be kept or read: the database does not answer");
        }
        Err(Error::Unavailable)
    }
}

/// Returns the settings of a row; what another version wrote and this one cannot read has its initial value.
fn settings((channel, speed, semitones, preset, bands, revision, updated_at): SettingsRow) -> Option<ChannelSettings> {
    Some(ChannelSettings {
        channel: ChannelId::parse(&channel)?,
        speed: PlaybackSpeed::from_hundredths(speed).unwrap_or(PlaybackSpeed::NORMAL),
        semitones,
        preset: EqualizerPreset::from_name(&preset).unwrap_or_default(),
        custom_bands: bands.and_then(|bands| serde_json::from_str(&bands).ok()),
        revision: u64::try_from(revision).unwrap_or_default(),
        updated_at: Some(UnixMillis::new(updated_at)),
    })
}
