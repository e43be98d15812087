//! Tables `lyrics_cache` and `lyrics_edits`.

use std::time::Duration;

use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;
use tokio::time::timeout;

use super::Error;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of a query over the whole table, for which nobody waits.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that a row counts for beside its body and its subject.
const ROW_BYTES: usize = 256;
/// Time for which lyrics are kept beyond theirs, to be served while their source is down.
const STALE_TIME: Duration = Duration::from_secs(30 * 86_400);

const GET: &str =
    "SELECT body, cached_at, expires_at FROM lyrics_cache WHERE kind = $1 AND subject = $2 AND version = $3";
const PUT: &str = "INSERT INTO lyrics_cache (kind, subject, version, body, size_bytes, cached_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, subject) DO UPDATE SET version = excluded.version,
        body = excluded.body, size_bytes = excluded.size_bytes, cached_at = excluded.cached_at,
        expires_at = excluded.expires_at";
const POSTPONE: &str = "UPDATE lyrics_cache SET expires_at = $4
    WHERE kind = $1 AND subject = $2 AND version = $3 AND expires_at < $4";
const STATUS: &str = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN expires_at > $1 THEN 1 ELSE 0 END), 0),
        COALESCE(SUM(CASE WHEN body IS NULL THEN 1 ELSE 0 END), 0), (SELECT COUNT(*) FROM lyrics_edits)
    FROM lyrics_cache";
const DROP_OLD: &str = "DELETE FROM lyrics_cache WHERE expires_at < $1 OR (body IS NULL AND expires_at < $2)";
/// Drops the oldest rows beyond the bytes: those that with all newer ones are more.
const DROP_BEYOND: &str = "DELETE FROM lyrics_cache WHERE (kind, subject) IN (SELECT kind, subject FROM (
        SELECT kind, subject, SUM(size_bytes) OVER (ORDER BY cached_at DESC, kind, subject) AS total FROM lyrics_cache
    ) AS sized WHERE total > $1)";
const GET_EDIT: &str = "SELECT body, updated_at FROM lyrics_edits WHERE track_id = $1 AND track_created_at = $2";
const PUT_EDIT: &str = "INSERT INTO lyrics_edits (track_id, track_created_at, body, edited_by, updated_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (track_id) DO UPDATE SET track_created_at = excluded.track_created_at,
        body = excluded.body, edited_by = excluded.edited_by, updated_at = excluded.updated_at";
const DROP_EDIT: &str = "DELETE FROM lyrics_edits WHERE track_id = $1";

/// Kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Lyrics of a track.
    Track,
    /// Results of a search.
    Search,
}

impl CacheKind {
    fn name(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Search => "search",
        }
    }
}

/// Place of a row.
#[derive(Clone, Copy, Debug)]
pub struct CacheKey<'a> {
    /// Its kind.
    pub kind: CacheKind,
    /// The track's id, or the words of the search.
    pub subject: &'a str,
    /// Version of what it is about; rows of other versions do not count.
    pub version: &'a str,
}

/// Row of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRow {
    /// The answer as JSON; `None`: there was none.
    pub body: Option<String>,
    /// Time of the answer.
    pub cached_at: UnixMillis,
    /// Time from which the sources are asked again.
    pub expires_at: UnixMillis,
}

/// Numbers of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// All rows.
    pub total: i64,
    /// Rows that have not expired.
    pub active: i64,
    /// Rows that say that there are no lyrics.
    pub misses: i64,
    /// Tracks whose lyrics were set.
    pub edited: i64,
}

/// The tables.
pub struct LyricsStore {
    database: Database,
    failures: FailureLog,
}

impl LyricsStore {
    /// Creates the store over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: FailureLog::default() }
    }

    /// Returns a row, also one that has expired.
    pub async fn get(&self, key: CacheKey<'_>) -> Result<Option<CacheRow>, Error> {
        let read = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, (Option<String>, i64, i64)>(GET).bind(key.kind.name());
                query.bind(key.subject).bind(key.version).fetch_optional(pool).await
            })
        };
        let row = |(body, cached_at, expires_at)| CacheRow {
            body,
            cached_at: UnixMillis::new(cached_at),
            expires_at: UnixMillis::new(expires_at),
        };
        Ok(self.run(QUERY_TIMEOUT, read).await?.map(row))
    }

    /// Stores a row in place of any other one of its subject.
    pub async fn put(&self, key: CacheKey<'_>, row: &CacheRow) -> Result<(), Error> {
        let size = ROW_BYTES + key.subject.len() + row.body.as_ref().map_or(0, String::len);
        let write = async {
            on!(&self.database, pool => {
                let query = sqlx::query(PUT).bind(key.kind.name()).bind(key.subject).bind(key.version).bind(&row.body);
                let query = query.bind(i64::try_from(size).unwrap_or(i64::MAX)).bind(row.cached_at.as_millis());
                query.bind(row.expires_at.as_millis()).execute(pool).await.map(drop)
            })
        };
        self.run(QUERY_TIMEOUT, write).await
    }

    /// Has the sources not asked again before `expires_at`.
    pub async fn postpone(&self, key: CacheKey<'_>, expires_at: UnixMillis) -> Result<(), Error> {
        let write = async {
            on!(&self.database, pool => {
                let query = sqlx::query(POSTPONE).bind(key.kind.name()).bind(key.subject).bind(key.version);
                query.bind(expires_at.as_millis()).execute(pool).await.map(drop)
            })
        };
        self.run(QUERY_TIMEOUT, write).await
    }

    /// Returns the numbers of rows.
    pub async fn count(&self, now: UnixMillis) -> Result<CacheCounts, Error> {
        let read = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, (i64, i64, i64, i64)>(STATUS);
                query.bind(now.as_millis()).fetch_one(pool).await
            })
        };
        let (total, active, misses, edited) = self.run(QUERY_TIMEOUT, read).await?;
        Ok(CacheCounts { total, active, misses, edited })
    }

    /// Drops what is too old to be served, and the oldest rows beyond `max_bytes`.
    pub async fn sweep(&self, now: UnixMillis, max_bytes: u64) -> Result<(), Error> {
        let (stale, now) =
            (now.as_millis() - i64::try_from(STALE_TIME.as_millis()).unwrap_or(i64::MAX), now.as_millis());
        let most = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let sweep = async {
            on!(&self.database, pool => {
                sqlx::query(DROP_OLD).bind(stale).bind(now).execute(pool).await?;
                sqlx::query(DROP_BEYOND).bind(most).execute(pool).await.map(drop)
            })
        };
        self.run(SWEEP_TIMEOUT, sweep).await
    }

    /// Returns the lyrics that were set for a track that was added at `created_at`, and the time.
    pub async fn edit(
        &self,
        subject: &str,
        created_at: Option<UnixMillis>,
    ) -> Result<Option<(String, UnixMillis)>, Error> {
        let read = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, (String, i64)>(GET_EDIT).bind(subject);
                query.bind(millis(created_at)).fetch_optional(pool).await
            })
        };
        Ok(self.run(QUERY_TIMEOUT, read).await?.map(|(body, at)| (body, UnixMillis::new(at))))
    }

    /// Sets the lyrics of a track that was added at `created_at`.
    pub async fn put_edit(
        &self,
        (subject, created_at): (&str, Option<UnixMillis>),
        body: &str,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let write = async {
            on!(&self.database, pool => {
                let query = sqlx::query(PUT_EDIT).bind(subject).bind(millis(created_at)).bind(body);
                query.bind(user.as_str()).bind(now.as_millis()).execute(pool).await.map(drop)
            })
        };
        self.run(QUERY_TIMEOUT, write).await
    }

    /// Drops the lyrics that were set for a track; returns true where there were some.
    pub async fn drop_edit(&self, subject: &str) -> Result<bool, Error> {
        let write = async {
            on!(&self.database, pool => {
                sqlx::query(DROP_EDIT).bind(subject).execute(pool).await.map(|done| done.rows_affected() > 0)
            })
        };
        self.run(QUERY_TIMEOUT, write).await
    }

    /// Runs a query within its timeout; a failure is logged.
    async fn run<T>(&self, limit: Duration, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(limit, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("lyrics can be kept and read again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            tracing::warn!(error = reason, "lyrics cannot be kept or read: the database does not answer");
        }
        Err(Error::Unavailable)
    }
}

/// The time of a track's addition in a column; 0 for one that no catalogue has.
fn millis(created_at: Option<UnixMillis>) -> i64 {
    created_at.map_or(0, UnixMillis::as_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use server_kit::database::settings::Settings;

    async fn store() -> (LyricsStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(&Settings::Sqlite(folder.path().join("lyrics.db"))).await.expect("a database");
        database.migrate().await.expect("tables");
        (LyricsStore::new(database), folder)
    }

    fn row(body: Option<&str>, cached_at: i64, expires_at: i64) -> CacheRow {
        CacheRow {
            body: body.map(str::to_owned),
            cached_at: UnixMillis::new(cached_at),
            expires_at: UnixMillis::new(expires_at),
        }
    }

    fn key(subject: &str) -> CacheKey<'_> {
        CacheKey { kind: CacheKind::Track, subject, version: "1" }
    }

    #[tokio::test]
    async fn a_row_counts_for_its_version_only() {
        let (store, _folder) = store().await;
        store.put(key("a"), &row(Some("{}"), 1, 10)).await.expect("stored");
        assert_eq!(store.get(key("a")).await, Ok(Some(row(Some("{}"), 1, 10))));
        assert_eq!(store.get(CacheKey { version: "2", ..key("a") }).await, Ok(None));
        assert_eq!(store.get(CacheKey { kind: CacheKind::Search, ..key("a") }).await, Ok(None));
        store.postpone(key("a"), UnixMillis::new(20)).await.expect("postponed");
        store.postpone(key("a"), UnixMillis::new(5)).await.expect("postponed");
        assert_eq!(store.get(key("a")).await, Ok(Some(row(Some("{}"), 1, 20))), "never sooner");
    }

    #[tokio::test]
    async fn old_rows_and_the_oldest_beyond_the_bytes_are_dropped() {
        let (store, _folder) = store().await;
        let day = 86_400_000;
        let now = 100 * day;
        store.put(key("miss"), &row(None, now - 2 * day, now - day)).await.expect("stored");
        store.put(key("stale"), &row(Some("{}"), now - 9 * day, now - 2 * day)).await.expect("stored");
        store.put(key("old"), &row(Some("{}"), now - 90 * day, now - 83 * day)).await.expect("stored");
        store.put(key("new"), &row(Some("{}"), now, now + day)).await.expect("stored");
        let counts = store.count(UnixMillis::new(now)).await;
        assert_eq!(counts, Ok(CacheCounts { total: 4, active: 1, misses: 1, edited: 0 }));
        store.sweep(UnixMillis::new(now), 1 << 20).await.expect("swept");
        assert_eq!(store.count(UnixMillis::new(now)).await.map(|counts| counts.total), Ok(2));
        store.sweep(UnixMillis::new(now), ROW_BYTES as u64 + 100).await.expect("swept");
        assert_eq!(store.get(key("stale")).await, Ok(None), "the oldest");
        assert!(store.get(key("new")).await.is_ok_and(|row| row.is_some()));
    }

    #[tokio::test]
    async fn what_was_set_belongs_to_the_track_that_had_the_id_then() {
        let (store, _folder) = store().await;
        let (user, at) = (UserId::parse("u").expect("an id"), UnixMillis::new);
        store.put_edit(("t", Some(at(1))), "{}", &user, at(2)).await.expect("stored");
        assert_eq!(store.edit("t", Some(at(1))).await, Ok(Some(("{}".to_owned(), at(2)))));
        assert_eq!(store.edit("t", Some(at(9))).await, Ok(None), "another track with the id");
        assert_eq!((store.drop_edit("t").await, store.drop_edit("t").await), (Ok(true), Ok(false)));
        assert_eq!(store.edit("t", Some(at(1))).await, Ok(None));
    }
}
