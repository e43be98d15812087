//! The list of stations in the database.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use super::Error;
use super::station::{Station, StationFilter};
use crate::source::audio_format::AudioCodec;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

const COLUMNS: &str =
    "id, name, url, resolved_url, genre, country, codec, bitrate_kbps, is_hls, icy_name, fallback_id, created_at";
const INSERT: &str = "INSERT INTO radio_streams (id, name, name_key, url, resolved_url, genre, genre_key, country,
        country_key, codec, bitrate_kbps, is_hls, icy_name, fallback_id, created_by, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
    ON CONFLICT DO NOTHING RETURNING id";
const UPDATE: &str = "UPDATE radio_streams SET name = $2, name_key = $3, url = $4, resolved_url = $5, genre = $6,
        genre_key = $7, country = $8, country_key = $9, codec = $10, bitrate_kbps = $11, is_hls = $12, icy_name = $13,
        fallback_id = $14
    WHERE id = $1 RETURNING id";
const IS_LISTED: &str = "SELECT id FROM radio_streams
    WHERE id <> $3 AND (url = $1 OR url = $2 OR resolved_url = $1 OR resolved_url = $2) LIMIT 1";
const DELETE: &str = "DELETE FROM radio_streams WHERE id = $1 RETURNING id";
const COUNT: &str = "SELECT COUNT(*) FROM radio_streams";

/// Row of the table, in the order of [`COLUMNS`].
type StationRow = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    String,
    Option<i64>,
    i64,
    Option<String>,
    Option<String>,
    i64,
);

/// Outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StationUpdate {
    /// It is kept.
    Updated,
    /// There is no such station.
    Missing,
    /// Another station has the address.
    Duplicate,
}

/// Store over the table `radio_streams`.
pub struct StationStore {
    database: Database,
    failures: FailureLog,
}

impl StationStore {
    /// Creates the store over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: FailureLog::default() }
    }

    /// Adds a station; returns false where it is listed.
    pub async fn add(&self, new: &Station, by: &UserId) -> Result<bool, Error> {
        let added = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(INSERT).bind(new.id.to_string()).bind(&new.name);
                let query = query.bind(new.name.to_lowercase()).bind(new.url.as_str()).bind(&new.resolved_url);
                let query = query.bind(&new.genre).bind(new.genre.as_deref().map(str::to_lowercase));
                let query = query.bind(&new.country).bind(new.country.as_deref().map(str::to_lowercase));
                let query = query.bind(new.codec.name()).bind(new.bitrate_kbps.map(i64::from));
                let query = query.bind(i64::from(new.is_hls)).bind(&new.icy_name);
                let query = query.bind(new.fallback.map(|id| id.to_string())).bind(by.as_str());
                query.bind(new.created_at.as_millis()).fetch_optional(pool).await
            })
        };
        Ok(self.run(added).await?.is_some())
    }

    /// Changes a station to what is given, but for its id and when it was added.
    pub async fn update(&self, new: &Station) -> Result<StationUpdate, Error> {
        let updated = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(UPDATE).bind(new.id.to_string()).bind(&new.name);
                let query = query.bind(new.name.to_lowercase()).bind(new.url.as_str()).bind(&new.resolved_url);
                let query = query.bind(&new.genre).bind(new.genre.as_deref().map(str::to_lowercase));
                let query = query.bind(&new.country).bind(new.country.as_deref().map(str::to_lowercase));
                let query = query.bind(new.codec.name()).bind(new.bitrate_kbps.map(i64::from));
                let query = query.bind(i64::from(new.is_hls)).bind(&new.icy_name);
                query.bind(new.fallback.map(|id| id.to_string())).fetch_optional(pool).await
            })
        };
        let updated = async {
            match updated.await {
                Ok(Some(_)) => Ok(StationUpdate::Updated),
                Ok(None) => Ok(StationUpdate::Missing),
                // Another one was given the address at the same moment.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(StationUpdate::Duplicate),
                Err(error) => Err(error),
            }
        };
        self.run(updated).await
    }

    /// Returns true where a station is listed under one of these addresses; `but` is none of them.
    pub async fn is_listed(&self, url: &Url, resolved: &str, but: Option<Uuid>) -> Result<bool, Error> {
        let but = but.map(|id| id.to_string()).unwrap_or_default();
        let found = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(IS_LISTED).bind(url.as_str()).bind(resolved).bind(but);
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(found).await?.is_some())
    }

    /// Returns the number of stations.
    pub async fn count(&self) -> Result<u64, Error> {
        let counted = async { on!(&self.database, pool => sqlx::query_scalar::<_, i64>(COUNT).fetch_one(pool).await) };
        Ok(u64::try_from(self.run(counted).await?).unwrap_or_default())
    }

    /// Returns a station.
    pub async fn get(&self, id: Uuid) -> Result<Option<Station>, Error> {
        self.find("id", &id.to_string()).await
    }

    /// Returns the station of an address.
    pub async fn get_by_url(&self, url: &Url) -> Result<Option<Station>, Error> {
        self.find("url", url.as_str()).await
    }

    async fn find(&self, column: &'static str, value: &str) -> Result<Option<Station>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM radio_streams WHERE {column} = $1");
        let found = async {
            on!(&self.database, pool => {
                sqlx::query_as::<_, StationRow>(AssertSqlSafe(sql)).bind(value).fetch_optional(pool).await
            })
        };
        Ok(self.run(found).await?.and_then(station))
    }

    /// Lists at most `limit` stations whose ids come after `after`.
    pub async fn list(&self, filter: &StationFilter, after: Option<Uuid>, limit: u32) -> Result<Vec<Station>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM radio_streams WHERE id > $1 AND ($2 IS NULL OR genre_key = $2)
                AND ($3 IS NULL OR country_key = $3) AND ($4 IS NULL OR name_key LIKE $4 ESCAPE '!')
             ORDER BY id LIMIT $5"
        );
        let lower = |text: &Option<String>| text.as_deref().map(str::to_lowercase);
        let part = lower(&filter.name_part).map(|part| {
            let escaped = part.replace('!', "!!").replace('%', "!%").replace('_', "!_");
            format!("%{escaped}%")
        });
        let listed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, StationRow>(AssertSqlSafe(sql));
                let query = query.bind(after.map(|id| id.to_string()).unwrap_or_default()).bind(lower(&filter.genre));
                let query = query.bind(lower(&filter.country)).bind(part).bind(i64::from(limit));
                query.fetch_all(pool).await
            })
        };
        Ok(self.run(listed).await?.into_iter().filter_map(station).collect())
    }

    /// Deletes a station; returns false where there is none.
    pub async fn delete(&self, id: Uuid) -> Result<bool, Error> {
        let deleted = async {
            on!(&self.database, pool => {
                sqlx::query_scalar::<_, String>(DELETE).bind(id.to_string()).fetch_optional(pool).await
            })
        };
        Ok(self.run(deleted).await?.is_some())
    }

    /// Runs a query within its timeout; a failure is logged.
    async fn run<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("stations can be kept and read again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            tracing::warn!(error = reason, "stations cannot be kept or read: the database does not answer");
        }
        Err(Error::Unavailable)
    }
}

/// Returns the station of a row; `None` for one that another version wrote and this one cannot read.
fn station(row: StationRow) -> Option<Station> {
    let (id, name, url, resolved_url, genre, country, codec, bitrate, is_hls, icy_name, fallback, created_at) = row;
    Some(Station {
        id: Uuid::parse_str(&id).ok()?,
        name,
        url: Url::parse(&url).ok()?,
        resolved_url,
        genre,
        country,
        codec: AudioCodec::from_name(&codec)?,
        bitrate_kbps: bitrate.and_then(|kbps| u32::try_from(kbps).ok()),
        is_hls: is_hls != 0,
        icy_name,
        fallback: fallback.and_then(|id| Uuid::parse_str(&id).ok()),
        created_at: UnixMillis::new(created_at),
    })
}
