//! Backups in the database: the claim of the one that is under way, signs of life, and what became of them.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Error;
use crate::component::BackupComponent;
use crate::record::{BackupCause, BackupRecord, BackupState, Cleanup, PendingUpload};
use crate::retention::expired;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

const COLUMNS: &str =
    "id, state, cause, components, node, active, beat, uploads, stored_bytes, detail, manifest, cleanup,
    created_at, finished_at";
/// The index of `active` lets one be under way; `$6` is the newest backup that was known when it was found to be time.
const INSERT: &str =
    "INSERT INTO backups (id, state, cause, components, node, active, beat, uploads, stored_bytes, cleanup, created_at)
    SELECT $1, 'queued', $2, $3, $4, 1, 0, '[]', 0, 0, $5
    WHERE $6 = '' OR NOT EXISTS (SELECT 1 FROM backups WHERE id > $6)
    ON CONFLICT DO NOTHING RETURNING id";
const BEAT: &str = "UPDATE backups SET beat = beat + 1 WHERE id = $1 AND node = $2 AND active = 1 RETURNING id";
const SET_STATE: &str = "UPDATE backups SET state = $3 WHERE id = $1 AND node = $2 AND active = 1 RETURNING id";
const SET_UPLOADS: &str = "UPDATE backups SET uploads = $3 WHERE id = $1 AND node = $2 AND active = 1 RETURNING id";
const END: &str =
    "UPDATE backups SET state = $3, active = NULL, stored_bytes = $4, detail = $5, manifest = $6, cleanup = $7,
        finished_at = $8
    WHERE id = $1 AND node = $2 AND active = 1 AND (beat = $9 OR $9 < 0) RETURNING id";
const CLEANED: &str = "UPDATE backups SET cleanup = 0, uploads = '[]' WHERE id = $1 AND cleanup = 1";
const REMOVE: &str = "DELETE FROM backups WHERE id = $1 AND cleanup = 2";
const PRUNE: &str = "DELETE FROM backups WHERE state IN ('failed', 'expired') AND cleanup = 0 AND created_at < $1";
const COUNT_REMOVAL: &str = "UPDATE backup_removals SET transactions = transactions + 1 WHERE id = 1";
const VERIFIED: &str = "SELECT id, created_at FROM backups WHERE state = 'ok' ORDER BY id DESC";
const EXPIRE: &str = "UPDATE backups SET state = 'expired', detail = $2, cleanup = $3 WHERE id = $1";
const OF_REMOVAL: &str = "SELECT state, active FROM backups WHERE id = $1 AND cleanup <> 2";

/// Row of the table, in the order of [`COLUMNS`].
#[derive(sqlx::FromRow)]
struct BackupRow {
    id: String,
    state: String,
    cause: String,
    components: String,
    node: String,
    active: Option<i64>,
    beat: i64,
    uploads: String,
    stored_bytes: i64,
    detail: Option<String>,
    manifest: Option<String>,
    cleanup: i64,
    created_at: i64,
    finished_at: Option<i64>,
}

/// How a backup has ended.
pub struct BackupEnd<'a> {
    /// Its state.
    pub state: BackupState,
    /// Bytes in the store.
    pub stored_bytes: u64,
    /// Reason for a failure.
    pub detail: Option<&'a str>,
    /// Manifest of a verified one.
    pub manifest: Option<&'a str>,
    /// Sign of life that it still must have; `None`: it is this process's own.
    pub beat: Option<i64>,
}

/// Store over the table `backups`.
pub struct BackupStore {
    database: Database,
    failures: FailureLog,
}

impl BackupStore {
    /// Creates the store over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: FailureLog::default() }
    }

    /// Adds a backup that is under way; returns false where there is one, or one that is newer than `newest_known`.
    pub async fn add(&self, new: &BackupRecord, newest_known: Option<Uuid>) -> Result<bool, Error> {
        let components = serde_json::to_string(&new.components).unwrap_or_default();
        let newest = newest_known.map_or_else(String::new, |id| id.to_string());
        let added = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(INSERT).bind(new.id.to_string()).bind(new.cause.name());
                let query = query.bind(&components).bind(&new.node).bind(new.created_at.as_millis()).bind(&newest);
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(added).await?.is_some())
    }

    /// Gives a sign of life; returns false where the backup is not this node's any more.
    pub async fn beat(&self, id: Uuid, node: &str) -> Result<bool, Error> {
        let beaten = async {
            on!(&self.database, pool => {
                sqlx::query_scalar::<_, String>(BEAT).bind(id.to_string()).bind(node).fetch_optional(pool).await
            })
        };
        Ok(self.run(beaten).await?.is_some())
    }

    /// Notes the state of a backup under way; returns false where it is not this node's any more.
    pub async fn set_state(&self, id: Uuid, node: &str, state: BackupState) -> Result<bool, Error> {
        self.set(SET_STATE, id, node, state.name()).await
    }

    /// Notes the uploads that are under way; returns false where the backup is not this node's any more.
    pub async fn set_uploads(&self, id: Uuid, node: &str, uploads: &[PendingUpload]) -> Result<bool, Error> {
        let uploads = serde_json::to_string(uploads).unwrap_or_default();
        self.set(SET_UPLOADS, id, node, &uploads).await
    }

    async fn set(&self, sql: &'static str, id: Uuid, node: &str, value: &str) -> Result<bool, Error> {
        let changed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(sql).bind(id.to_string()).bind(node).bind(value);
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(changed).await?.is_some())
    }

    /// Ends a backup; returns false where it is not `node`'s any more, or has given another sign of life.
    pub async fn end(&self, id: Uuid, node: &str, end: &BackupEnd<'_>, now: UnixMillis) -> Result<bool, Error> {
        let cleanup = if end.state == BackupState::Ok { Cleanup::Nothing } else { Cleanup::Objects };
        let stored = i64::try_from(end.stored_bytes).unwrap_or(i64::MAX);
        let ended = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(END).bind(id.to_string()).bind(node).bind(end.state.name());
                let query = query.bind(stored).bind(end.detail).bind(end.manifest).bind(cleanup.number());
                query.bind(now.as_millis()).bind(end.beat.unwrap_or(-1)).fetch_optional(pool).await
            })
        };
        Ok(self.run(ended).await?.is_some())
    }

    /// Returns the backup that is under way.
    pub async fn active(&self) -> Result<Option<BackupRecord>, Error> {
        Ok(self.select("active = 1 AND id > $1 LIMIT $2", "", 1).await?.pop())
    }

    /// Returns the newest backup of a state.
    pub async fn newest_of(&self, state: BackupState) -> Result<Option<BackupRecord>, Error> {
        Ok(self.select("state = $1 AND cleanup <> 2 ORDER BY id DESC LIMIT $2", state.name(), 1).await?.pop())
    }

    /// Lists at most `limit` backups before `before`, the newest first.
    pub async fn list(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<BackupRecord>, Error> {
        // Larger than every id.
        let before = before.map_or_else(|| "g".to_owned(), |id| id.to_string());
        self.select("id < $1 AND cleanup <> 2 ORDER BY id DESC LIMIT $2", &before, limit).await
    }

    /// Returns true where a backup is known, and not under way any more.
    pub async fn is_over(&self, id: Uuid) -> Result<bool, Error> {
        Ok(!self.select("active IS NULL AND id = $1 LIMIT $2", &id.to_string(), 1).await?.is_empty())
    }

    /// Lists backups of which something is to be removed.
    pub async fn to_clean(&self, limit: u32) -> Result<Vec<BackupRecord>, Error> {
        self.select("cleanup <> 0 AND active IS NULL AND id > $1 ORDER BY id LIMIT $2", "", limit).await
    }

    async fn select(&self, condition: &str, value: &str, limit: u32) -> Result<Vec<BackupRecord>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM backups WHERE {condition}");
        let found = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, BackupRow>(AssertSqlSafe(sql)).bind(value);
                query.bind(i64::from(limit)).fetch_all(pool).await
            })
        };
        Ok(self.run(found).await?.into_iter().filter_map(BackupRow::record).collect())
    }

    /// Notes that nothing of a backup stays to be removed.
    pub async fn cleaned(&self, record: &BackupRecord) -> Result<(), Error> {
        let sql = if record.cleanup == Cleanup::Row { REMOVE } else { CLEANED };
        let id = record.id.to_string();
        let cleaned = async { on!(&self.database, pool => sqlx::query(sql).bind(&id).execute(pool).await.map(drop)) };
        self.run(cleaned).await
    }

    /// Forgets failed and expired backups that began before `end`.
    pub async fn prune(&self, end: UnixMillis) -> Result<(), Error> {
        let pruned = async {
            on!(&self.database, pool => sqlx::query(PRUNE).bind(end.as_millis()).execute(pool).await.map(drop))
        };
        self.run(pruned).await
    }

    /// Has verified backups expire that are old enough; returns their number.
    pub async fn expire(&self, now: UnixMillis, keep_for: Duration, keep_at_least: u32) -> Result<usize, Error> {
        let done = async {
            on!(&self.database, pool => {
                let mut transaction = pool.begin().await?;
                sqlx::query(COUNT_REMOVAL).execute(&mut *transaction).await?;
                let verified = sqlx::query_as::<_, (String, i64)>(VERIFIED).fetch_all(&mut *transaction).await?;
                let parse = |(id, at): (String, i64)| Some((Uuid::parse_str(&id).ok()?, UnixMillis::new(at)));
                let verified: Vec<_> = verified.into_iter().filter_map(parse).collect();
                let old = expired(&verified, now, keep_for, keep_at_least);
                for id in &old {
                    let query = sqlx::query(EXPIRE).bind(id.to_string()).bind(None::<String>);
                    query.bind(Cleanup::Objects.number()).execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
                Ok(old.len())
            })
        };
        self.run(done).await
    }

    /// Notes that the objects of a verified backup are gone.
    pub async fn lose(&self, id: Uuid) -> Result<(), Error> {
        let detail = "its objects are not in the store any more";
        let done = async {
            on!(&self.database, pool => {
                let query = sqlx::query(EXPIRE).bind(id.to_string()).bind(detail);
                query.bind(Cleanup::Nothing.number()).execute(pool).await.map(drop)
            })
        };
        self.run(done).await
    }

    /// Lists verified backups, the newest first.
    pub async fn verified(&self) -> Result<Vec<Uuid>, Error> {
        let found =
            async { on!(&self.database, pool => sqlx::query_as::<_, (String, i64)>(VERIFIED).fetch_all(pool).await) };
        Ok(self.run(found).await?.iter().filter_map(|(id, _)| Uuid::parse_str(id).ok()).collect())
    }

    /// Has a backup removed, unless it is under way or the last verified one.
    pub async fn delete(&self, id: Uuid) -> Result<(), Error> {
        let key = id.to_string();
        let done = async {
            on!(&self.database, pool => {
                let mut transaction = pool.begin().await?;
                sqlx::query(COUNT_REMOVAL).execute(&mut *transaction).await?;
                let found = sqlx::query_as::<_, (String, Option<i64>)>(OF_REMOVAL).bind(&key);
                let Some((state, active)) = found.fetch_optional(&mut *transaction).await? else {
                    return Ok(Err(Error::NoSuchBackup));
                };
                if active.is_some() {
                    return Ok(Err(Error::StillUnderWay));
                }
                let verified = sqlx::query_as::<_, (String, i64)>(VERIFIED).fetch_all(&mut *transaction).await?;
                if state == BackupState::Ok.name() && verified.len() < 2 {
                    return Ok(Err(Error::LastVerified));
                }
                let query = sqlx::query(EXPIRE).bind(&key).bind(None::<String>);
                query.bind(Cleanup::Row.number()).execute(&mut *transaction).await?;
                transaction.commit().await?;
                Ok(Ok(()))
            })
        };
        self.run(done).await?
    }

    async fn run<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("backups can be listed again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            tracing::warn!(error = reason, "backups cannot be begun or listed: the database does not answer");
        }
        Err(Error::Unavailable)
    }
}

impl BackupRow {
    /// Returns the backup; `None` for one that another version wrote and this one cannot read.
    fn record(self) -> Option<BackupRecord> {
        let components: Vec<String> = serde_json::from_str(&self.components).ok()?;
        Some(BackupRecord {
            id: Uuid::parse_str(&self.id).ok()?,
            state: BackupState::from_name(&self.state)?,
            cause: BackupCause::from_name(&self.cause)?,
            components: components.iter().filter_map(|name| BackupComponent::from_name(name)).collect(),
            node: self.node,
            is_active: self.active.is_some(),
            beat: self.beat,
            uploads: serde_json::from_str(&self.uploads).unwrap_or_default(),
            stored_bytes: self.stored_bytes,
            detail: self.detail,
            manifest: self.manifest,
            cleanup: Cleanup::from_number(self.cleanup),
            created_at: UnixMillis::new(self.created_at),
            finished_at: self.finished_at.map(UnixMillis::new),
        })
    }
}
