//! `Positions`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, ConfigFlag, TimeSpan};

/// Where users stopped listening, and what they can continue. Kept in `Database`, with Redis (`State`) before it where
/// there is one, or in Redis alone.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Positions {
    /// Whether there are any. Default: `true` where there is a `Database` or Redis.
    pub enabled: Option<ConfigFlag>,
    /// How long a position is kept after it was reported last, `1h` to `10y`. Default: `30d`.
    pub ttl: Option<TimeSpan>,
    /// Of what less than this, in per cent, was heard is not in the list of what can be continued, 0 to 100. Default: 5.
    pub min_resume_percent: Option<u8>,
    /// Of what more than this, in per cent, was heard is not either, 0 to 100. Default: 90.
    pub max_resume_percent: Option<u8>,
    /// Nor what is shorter than this, up to `1d`; these three are not for audiobooks. Default: `5m`.
    pub min_duration: Option<TimeSpan>,
    /// Most items of a user, of all kinds, 10 to 100000; beyond it the oldest are dropped. Default: 2000.
    pub max_items_per_user: Option<u32>,
    /// Positions in films, where there are Redis and a `Database`.
    #[serde(default)]
    pub films: FilmPositions,
}

/// Positions in films: acknowledged once Redis has them, and written to the database many at a time.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct FilmPositions {
    /// Whether they are acknowledged before the database has them. Default: `true`.
    pub write_back: Option<ConfigFlag>,
    /// After which time the database has what was reported, `1s` to `1h`. Default: `1m`.
    pub flush_interval: Option<TimeSpan>,
    /// How long Redis keeps what the database has, `1m` to `30d`. Default: `REDIS_PROGRESS_TTL` of the environment, in
    /// seconds, else `24h`.
    pub cache_ttl: Option<TimeSpan>,
    /// Bytes in Redis that may wait for the database, `1MiB` to `1TiB`. Default: `1GiB`.
    pub max_backlog: Option<ByteSize>,
}
