//! Positions in the database.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::timeout;

use super::{PositionListQuery, PositionStore, PositionStoreError, ProgressCursor};
use crate::positions::{ItemKind, PositionKey, PositionRecord, ProgressPage};
use primitives::clock::Clock;
use primitives::ids::TrackId;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

/// Timeout of a read: a pool without a server would wait longer.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// Users per round of the cleanup.
const CLEANUP_BATCH: i64 = 500;

/// Upsert of one commit. Rows come as one JSON text, so that a commit of any size is one prepared statement; only the
/// way to unfold it differs between the databases.
const SAVE_SQLITE: &str =
    "INSERT INTO positions (user_id, kind, item_id, position_ms, duration_ms, updated_at, reported_at)
    SELECT value ->> 'u', value ->> 'k', value ->> 'i', value ->> 'p', value ->> 'd', value ->> 't', value ->> 'r'
    FROM json_each($1) WHERE true
    ON CONFLICT (user_id, kind, item_id) DO UPDATE SET position_ms = excluded.position_ms,
        duration_ms = COALESCE(excluded.duration_ms, positions.duration_ms), updated_at = excluded.updated_at,
        reported_at = excluded.reported_at
    WHERE excluded.updated_at >= positions.updated_at
        OR (positions.updated_at < $2 AND (positions.reported_at IS NULL OR positions.reported_at < $2))";
const SAVE_POSTGRES: &str =
    "INSERT INTO positions (user_id, kind, item_id, position_ms, duration_ms, updated_at, reported_at)
    SELECT u, k, i, p, d, t, r
    FROM json_to_recordset($1::json) AS reports(u text, k text, i text, p bigint, d bigint, t bigint, r bigint)
    ON CONFLICT (user_id, kind, item_id) DO UPDATE SET position_ms = excluded.position_ms,
        duration_ms = COALESCE(excluded.duration_ms, positions.duration_ms), updated_at = excluded.updated_at,
        reported_at = excluded.reported_at
    WHERE excluded.updated_at >= positions.updated_at
        OR (positions.updated_at < $2 AND (positions.reported_at IS NULL OR positions.reported_at < $2))";
const GET: &str = "SELECT position_ms, duration_ms, updated_at, reported_at FROM positions
    WHERE user_id = $1 AND kind = $2 AND item_id = $3";
const LIST: &str = "SELECT kind, item_id, position_ms, duration_ms, updated_at, reported_at FROM positions
    WHERE user_id = $1 AND position_ms IS NOT NULL AND (updated_at >= $2 OR reported_at >= $2)
        AND ($3 = '' OR kind = $3)
        AND (updated_at < $4 OR (updated_at = $4 AND (kind, item_id) > ($5, $6)))
    ORDER BY updated_at DESC, kind, item_id LIMIT $7";
/// Users with expired rows. They are found first and removed by key then: the search reads the whole table, but blocks
/// no writer.
const FIND_OLD: &str = "SELECT DISTINCT user_id FROM positions
    WHERE updated_at < $1 AND (reported_at IS NULL OR reported_at < $1) LIMIT $2";
const REMOVE_OLD: &str = "DELETE FROM positions
    WHERE user_id = $1 AND updated_at < $2 AND (reported_at IS NULL OR reported_at < $2)";

/// Store over the table.
pub struct DatabasePositionStore {
    database: Database,
    ttl: Duration,
    clock: Clock,
}

impl DatabasePositionStore {
    /// Creates the store over `database`; an entry expires `ttl` after its report.
    pub fn new(database: Database, ttl: Duration, clock: Clock) -> Self {
        Self { database, ttl, clock }
    }

    async fn read(&self, listing: &PositionListQuery<'_>) -> Result<Vec<PositionRecord>, sqlx::Error> {
        type PositionRow = (String, String, Option<i64>, Option<i64>, i64, Option<i64>);
        let kind = listing.kind.map_or("", ItemKind::name);
        let (at, after_kind, after_item) = listing
            .after
            .map_or((i64::MAX, "", ""), |mark| (mark.at.as_millis(), mark.kind.name(), mark.item.as_str()));
        let count = i64::try_from(listing.limit).unwrap_or(i64::MAX);
        let rows: Vec<PositionRow> = on!(&self.database, pool => {
            sqlx::query_as(LIST).bind(listing.user.as_str()).bind(listing.reported_since.as_millis()).bind(kind).bind(at).bind(after_kind)
                .bind(after_item).bind(count).fetch_all(pool).await
        })?;
        let entry = |(kind, item, position, duration, at, reported): PositionRow| {
            // An entry with a kind or id that another version wrote and this one does not accept is not shown.
            let (kind, item) = (ItemKind::from_name(&kind)?, TrackId::parse(item)?);
            let key = PositionKey { user: listing.user.clone(), kind, item };
            Some(PositionRecord {
                key,
                position,
                duration,
                updated_at: UnixMillis::new(at),
                reported_at: reported_at(at, reported),
            })
        };
        Ok(rows.into_iter().filter_map(entry).collect())
    }
}

#[async_trait]
impl PositionStore for DatabasePositionStore {
    async fn save(&self, entries: &[PositionRecord]) -> Result<Vec<PositionKey>, PositionStoreError> {
        let row = |entry: &PositionRecord| {
            let PositionRecord { key, position, duration, updated_at: at, reported_at: reported } = entry;
            let (user, kind, item) = (&key.user, key.kind.name(), &key.item);
            json!({ "u": user, "k": kind, "i": item, "p": position, "d": duration, "t": at, "r": reported })
        };
        let rows = serde_json::Value::Array(entries.iter().map(row).collect()).to_string();
        let oldest = (self.clock.unix_millis() - self.ttl).as_millis();
        match &self.database {
            Database::Sqlite(pool) => {
                sqlx::query(SAVE_SQLITE).bind(rows).bind(oldest).execute(pool).await.map(|_| ())?
            }
            Database::Postgres(pool) => {
                sqlx::query(SAVE_POSTGRES).bind(rows).bind(oldest).execute(pool).await.map(|_| ())?
            }
        }
        // One statement writes all or none, so no key is refused.
        Ok(Vec::new())
    }

    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        let reading = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, (Option<i64>, Option<i64>, i64, Option<i64>)>(GET);
                query.bind(key.user.as_str()).bind(key.kind.name()).bind(key.item.as_str()).fetch_optional(pool).await
            })
        };
        let row = timeout(READ_TIMEOUT, reading).await.map_err(|_| PositionStoreError::Timeout)??;
        let entry = |(position, duration, at, reported)| PositionRecord {
            key: key.clone(),
            position,
            duration,
            updated_at: UnixMillis::new(at),
            reported_at: reported_at(at, reported),
        };
        Ok(row.map(entry))
    }

    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError> {
        let entries = timeout(READ_TIMEOUT, self.read(listing)).await.map_err(|_| PositionStoreError::Timeout)??;
        let next = (entries.len() == listing.limit).then(|| entries.last().map(ProgressCursor::after)).flatten();
        Ok(ProgressPage { entries, next })
    }

    async fn remove_expired(&self, before: UnixMillis) -> Result<(), PositionStoreError> {
        let before = before.as_millis();
        loop {
            let users: Vec<(String,)> = on!(&self.database, pool => {
                sqlx::query_as(FIND_OLD).bind(before).bind(CLEANUP_BATCH).fetch_all(pool).await
            })?;
            if users.is_empty() {
                return Ok(());
            }
            for (user,) in users {
                on!(&self.database, pool => {
                    sqlx::query(REMOVE_OLD).bind(user).bind(before).execute(pool).await.map(|_| ())
                })?;
            }
        }
    }
}

/// Returns the time of a row's report; rows of an older version have none, and count from their own time.
fn reported_at(at: i64, reported: Option<i64>) -> UnixMillis {
    UnixMillis::new(reported.unwrap_or(at).max(at))
}
