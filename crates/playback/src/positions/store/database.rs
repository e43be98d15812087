//! Positions in the database.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::timeout;

use super::{DroppedPosition, PositionListQuery, PositionStore, PositionStoreError, ProgressCursor, SaveOutcome};
use crate::positions::settings::Settings;
use crate::positions::{ItemKind, PositionKey, PositionRecord, ProgressPage};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
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
        OR (positions.kind <> 'film' AND positions.updated_at < $2
            AND (positions.reported_at IS NULL OR positions.reported_at < $2))";
const SAVE_POSTGRES: &str =
    "INSERT INTO positions (user_id, kind, item_id, position_ms, duration_ms, updated_at, reported_at)
    SELECT u, k, i, p, d, t, r
    FROM json_to_recordset($1::json) AS reports(u text, k text, i text, p bigint, d bigint, t bigint, r bigint)
    ON CONFLICT (user_id, kind, item_id) DO UPDATE SET position_ms = excluded.position_ms,
        duration_ms = COALESCE(excluded.duration_ms, positions.duration_ms), updated_at = excluded.updated_at,
        reported_at = excluded.reported_at
    WHERE excluded.updated_at >= positions.updated_at
        OR (positions.kind <> 'film' AND positions.updated_at < $2
            AND (positions.reported_at IS NULL OR positions.reported_at < $2))";
/// Users with items that are not in the table yet: only those can come to have too many. Of the reports' text.
const FIND_NEW_SQLITE: &str = "SELECT DISTINCT report.value ->> 'u' FROM json_each($1) AS report
    WHERE NOT EXISTS (SELECT 1 FROM positions WHERE user_id = report.value ->> 'u' AND kind = report.value ->> 'k'
        AND item_id = report.value ->> 'i')";
const FIND_NEW_POSTGRES: &str = "SELECT DISTINCT u FROM json_to_recordset($1::json) AS reports(u text, k text, i text)
    WHERE NOT EXISTS (SELECT 1 FROM positions WHERE user_id = u AND kind = k AND item_id = i)";
/// Removal of the oldest items of these users, a JSON array, beyond the most.
const DROP_OLDEST_SQLITE: &str = "DELETE FROM positions WHERE (user_id, kind, item_id) IN (
        SELECT user_id, kind, item_id FROM (
            SELECT user_id, kind, item_id,
                ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY updated_at DESC, kind, item_id) AS place
            FROM positions WHERE user_id IN (SELECT value FROM json_each($1))) AS ranked
        WHERE place > $2)
    RETURNING user_id, kind, item_id, updated_at";
/// A row that another node writes just now is not the oldest any more: it is passed over, and so no two nodes wait for
/// each other's rows.
const DROP_OLDEST_POSTGRES: &str = "DELETE FROM positions WHERE (user_id, kind, item_id) IN (
        SELECT oldest.user_id, oldest.kind, oldest.item_id FROM positions AS oldest JOIN (
            SELECT user_id, kind, item_id, updated_at,
                ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY updated_at DESC, kind, item_id) AS place
            FROM positions WHERE user_id IN (SELECT json_array_elements_text($1::json))) AS ranked
            USING (user_id, kind, item_id, updated_at)
        WHERE ranked.place > $2 FOR UPDATE OF oldest SKIP LOCKED)
    RETURNING user_id, kind, item_id, updated_at";
const GET: &str = "SELECT position_ms, duration_ms, updated_at, reported_at FROM positions
    WHERE user_id = $1 AND kind = $2 AND item_id = $3";
const LIST: &str = "SELECT kind, item_id, position_ms, duration_ms, updated_at, reported_at FROM positions
    WHERE user_id = $1 AND position_ms IS NOT NULL AND (updated_at >= $2 OR reported_at >= $2 OR kind = 'film')
        AND ($3 = '' OR kind = $3)
        AND (updated_at < $4 OR (updated_at = $4 AND (kind, item_id) > ($5, $6)))
    ORDER BY updated_at DESC, kind, item_id LIMIT $7";
/// Users with expired rows. They are found first and removed by key then: the search reads the whole table, but blocks
/// no writer.
const FIND_OLD: &str = "SELECT DISTINCT user_id FROM positions
    WHERE kind <> 'film' AND updated_at < $1 AND (reported_at IS NULL OR reported_at < $1) LIMIT $2";
const REMOVE_OLD: &str = "DELETE FROM positions
    WHERE user_id = $1 AND kind <> 'film' AND updated_at < $2 AND (reported_at IS NULL OR reported_at < $2)";

/// Store over the table.
pub struct DatabasePositionStore {
    database: Database,
    ttl: Duration,
    max_items: i64,
    clock: Clock,
}

impl DatabasePositionStore {
    /// Creates the store over `database`.
    pub fn new(database: Database, settings: &Settings, clock: Clock) -> Self {
        Self { database, ttl: settings.ttl, max_items: settings.max_items_per_user.into(), clock }
    }

    /// Writes the reports of `rows`, a JSON array. Returns the items that were removed because their users have too many.
    async fn write(&self, rows: String) -> Result<Vec<DroppedPosition>, sqlx::Error> {
        let (find_new, save, drop_oldest) = match &self.database {
            Database::Sqlite(_) => (FIND_NEW_SQLITE, SAVE_SQLITE, DROP_OLDEST_SQLITE),
            Database::Postgres(_) => (FIND_NEW_POSTGRES, SAVE_POSTGRES, DROP_OLDEST_POSTGRES),
        };
        let oldest = (self.clock.unix_millis() - self.ttl).as_millis();
        let removed: Vec<(String, String, String, i64)> = on!(&self.database, pool => {
            let users: Vec<String> = sqlx::query_scalar(find_new).bind(&rows).fetch_all(pool).await?;
            // Most commits bring only new positions of known items: one statement is enough for them.
            if users.is_empty() {
                sqlx::query(save).bind(rows).bind(oldest).execute(pool).await?;
                return Ok(Vec::new());
            }
            // Together, so that a process that ends between the two leaves no more than the most.
            let mut transaction = pool.begin().await?;
            sqlx::query(save).bind(rows).bind(oldest).execute(&mut *transaction).await?;
            let users = serde_json::Value::from(users).to_string();
            let removed =
                sqlx::query_as(drop_oldest).bind(users).bind(self.max_items).fetch_all(&mut *transaction).await?;
            transaction.commit().await?;
            removed
        });
        let dropped = |(user, kind, item, updated_at): (String, String, String, i64)| {
            let (user, kind, item) = (UserId::parse(user)?, ItemKind::from_name(&kind)?, TrackId::parse(item)?);
            Some(DroppedPosition { key: PositionKey { user, kind, item }, updated_at: UnixMillis::new(updated_at) })
        };
        Ok(removed.into_iter().filter_map(dropped).collect())
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
    async fn save(&self, entries: &[PositionRecord]) -> Result<SaveOutcome, PositionStoreError> {
        let row = |entry: &PositionRecord| {
            let PositionRecord { key, position, duration, updated_at: at, reported_at: reported } = entry;
            let (user, kind, item) = (&key.user, key.kind.name(), &key.item);
            json!({ "u": user, "k": kind, "i": item, "p": position, "d": duration, "t": at, "r": reported })
        };
        let rows = serde_json::Value::Array(entries.iter().map(row).collect()).to_string();
        // All or none are written, so no key is refused.
        Ok(SaveOutcome { refused: Vec::new(), dropped: self.write(rows).await? })
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
