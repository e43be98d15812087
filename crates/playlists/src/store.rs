//! Playlists in the database.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Error;
use crate::playlist::{Playlist, PlaylistContent, PlaylistHead, items_from_json, items_to_json};
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

const COLUMNS: &str = "id, user_id, name, description, item_count, revision, created_at, updated_at";
/// The count is taken with the insertion; requests at the same moment may exceed it by their number.
const INSERT: &str = "INSERT INTO playlists
        (id, user_id, name, description, items, item_count, revision, created_at, updated_at)
    SELECT $1, $2, $3, $4, $5, $6, 1, $7, $7 WHERE (SELECT COUNT(*) FROM playlists WHERE user_id = $2) < $8
    RETURNING id";
const REPLACE: &str = "UPDATE playlists SET name = $3, description = $4, items = $5, item_count = $6, updated_at = $7,
        revision = revision + 1
    WHERE id = $1 AND revision = $2 RETURNING revision";
const DELETE: &str = "DELETE FROM playlists WHERE id = $1 AND revision = $2 RETURNING id";

/// Row without tracks, in the order of [`COLUMNS`].
type HeadRow = (String, String, String, Option<String>, i64, i64, i64, i64);

/// Store over the table `playlists`.
pub struct PlaylistStore {
    database: Database,
    failures: FailureLog,
}

impl PlaylistStore {
    /// Creates the store over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: FailureLog::default() }
    }

    /// Adds a playlist; returns false where its owner has `most` already.
    pub async fn add(&self, head: &PlaylistHead, content: &PlaylistContent, most: u32) -> Result<bool, Error> {
        let items = items_to_json(&content.items);
        let added = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(INSERT).bind(head.id.to_string()).bind(head.user.as_str());
                let query = query.bind(&content.name).bind(&content.description).bind(&items);
                let query = query.bind(i64::from(head.item_count)).bind(head.created_at.as_millis());
                query.bind(i64::from(most)).fetch_optional(pool).await
            })
        };
        Ok(self.run(added).await?.is_some())
    }

    /// Replaces the playlist that has this revision; returns the new one, `None` where it was changed meanwhile.
    pub async fn replace(
        &self,
        id: Uuid,
        revision: i64,
        content: &PlaylistContent,
        now: UnixMillis,
    ) -> Result<Option<i64>, Error> {
        let items = items_to_json(&content.items);
        let replaced = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, i64>(REPLACE).bind(id.to_string()).bind(revision);
                let query = query.bind(&content.name).bind(&content.description).bind(&items);
                let query = query.bind(i64::try_from(content.items.len()).unwrap_or(i64::MAX));
                query.bind(now.as_millis()).fetch_optional(pool).await
            })
        };
        self.run(replaced).await
    }

    /// Deletes the playlist that has this revision; returns false where it was changed meanwhile.
    pub async fn delete(&self, id: Uuid, revision: i64) -> Result<bool, Error> {
        let deleted = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(DELETE).bind(id.to_string()).bind(revision);
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(deleted).await?.is_some())
    }

    /// Returns a playlist without its tracks.
    pub async fn head(&self, id: Uuid) -> Result<Option<PlaylistHead>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM playlists WHERE id = $1");
        let found = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, HeadRow>(AssertSqlSafe(sql)).bind(id.to_string());
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(found).await?.and_then(head))
    }

    /// Returns the tracks of the playlist that has this revision; `None` where it was changed meanwhile.
    pub async fn items(&self, head: PlaylistHead) -> Result<Option<Playlist>, Error> {
        const ITEMS: &str = "SELECT items FROM playlists WHERE id = $1 AND revision = $2";
        let found = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(ITEMS).bind(head.id.to_string()).bind(head.revision);
                query.fetch_optional(pool).await
            })
        };
        let json = self.run(found).await?;
        Ok(json.and_then(|json| items_from_json(&json)).map(|items| Playlist { head, items }))
    }

    /// Lists at most `limit` playlists whose ids come after `after`, of one user or of all.
    pub async fn list(
        &self,
        user: Option<&UserId>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<PlaylistHead>, Error> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut after = after.map(|id| id.to_string()).unwrap_or_default();
        // Rows that cannot be read end no list early.
        loop {
            let rows = self.rows(user, &after, limit).await?;
            let is_last = rows.len() < wanted;
            after = rows.last().map(|row| row.0.clone()).unwrap_or_default();
            found.extend(rows.into_iter().filter_map(head));
            if is_last || found.len() >= wanted {
                found.truncate(wanted);
                return Ok(found);
            }
        }
    }

    async fn rows(&self, user: Option<&UserId>, after: &str, limit: u32) -> Result<Vec<HeadRow>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM playlists WHERE id > $1 AND ($2 IS NULL OR user_id = $2) ORDER BY id LIMIT $3"
        );
        let listed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, HeadRow>(AssertSqlSafe(sql)).bind(after);
                query.bind(user.map(UserId::as_str)).bind(i64::from(limit)).fetch_all(pool).await
            })
        };
        self.run(listed).await
    }

    /// Runs a query within its timeout; a failure is logged.
    async fn run<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("playlists can be kept and read again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            tracing::warn!(error = reason, "playlists cannot be kept or read: the database does not answer");
        }
        Err(Error::Unavailable)
    }
}

/// Returns the playlist of a row; `None` for one that another version wrote and this one cannot read.
fn head(row: HeadRow) -> Option<PlaylistHead> {
    let (id, user, name, description, item_count, revision, created_at, updated_at) = row;
    Some(PlaylistHead {
        id: Uuid::parse_str(&id).ok()?,
        user: UserId::parse(user)?,
        name,
        description,
        item_count: u32::try_from(item_count).ok()?,
        revision,
        created_at: UnixMillis::new(created_at),
        updated_at: UnixMillis::new(updated_at),
    })
}
