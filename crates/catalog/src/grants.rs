//! Grants in the database: a user and a track, or all tracks whose ids begin with a prefix.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Error;

use super::access::{AccessAuthority, AccessQuery};
use super::{DatabaseUnavailable, PLAYER_TIMEOUT, with_admin_timeout, with_timeout};
use primitives::failure_log::FailureLog;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

/// Owners may have their own tracks; the user `*` is anyone with a valid token.
const PERMITS_SQL: &str = "SELECT
    (SELECT COUNT(*) FROM track_grants WHERE user_id IN ($1, '*') AND (track_id = $2 AND is_prefix = 0
        OR is_prefix = 1 AND substr($2, 1, length(track_id)) = track_id))
    + (SELECT COUNT(*) FROM tracks WHERE id = $2 AND owner_id = $1)";

/// Right of one user to tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The user; `*` is anyone with a valid token.
    pub user: UserId,
    /// The track's id, or a prefix of ids.
    pub track: String,
    /// True if `track` is a prefix of ids.
    pub is_prefix: bool,
    /// Time of the grant.
    pub created_at: UnixMillis,
}

/// The grants in the database.
#[derive(Clone)]
pub struct GrantStore {
    database: Database,
    failures: Arc<FailureLog>,
}

impl GrantStore {
    /// Creates the store over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: Arc::default() }
    }

    /// Adds a grant; returns false if it existed already.
    pub async fn add(&self, grant: &Grant) -> Result<bool, DatabaseUnavailable> {
        let sql = "INSERT INTO track_grants (user_id, track_id, is_prefix, created_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (user_id, track_id, is_prefix) DO NOTHING";
        let adding = async {
            on!(&self.database, pool => sqlx::query(sql).bind(grant.user.as_str()).bind(&grant.track)
                .bind(i64::from(grant.is_prefix)).bind(grant.created_at.as_millis()).execute(pool).await.map(|it| it.rows_affected()))
        };
        Ok(with_admin_timeout(&self.failures, adding).await? > 0)
    }

    /// Removes a grant; returns false if there was none.
    pub async fn remove(&self, user: &UserId, track: &TrackId, prefix: bool) -> Result<bool, DatabaseUnavailable> {
        let sql = "DELETE FROM track_grants WHERE user_id = $1 AND track_id = $2 AND is_prefix = $3";
        let removing = async {
            on!(&self.database, pool => sqlx::query(sql).bind(user.as_str()).bind(track.as_str())
                .bind(i64::from(prefix)).execute(pool).await.map(|it| it.rows_affected()))
        };
        Ok(with_admin_timeout(&self.failures, removing).await? > 0)
    }

    /// Lists at most `limit` grants of the user, after the one for `after` (track or prefix, is a prefix).
    pub async fn list(
        &self,
        user: &UserId,
        after: (&str, bool),
        limit: u32,
    ) -> Result<Vec<Grant>, DatabaseUnavailable> {
        // Both columns are compared, since a track and a prefix may have the same text.
        let sql = "SELECT track_id, is_prefix, created_at FROM track_grants WHERE user_id = $1
            AND (track_id > $2 OR track_id = $2 AND is_prefix > $3) ORDER BY track_id, is_prefix LIMIT $4";
        let listing = async {
            on!(&self.database, pool => sqlx::query_as(sql).bind(user.as_str())
                .bind(after.0).bind(i64::from(after.1)).bind(i64::from(limit)).fetch_all(pool).await)
        };
        let rows: Vec<(String, i64, i64)> = with_admin_timeout(&self.failures, listing).await?;
        let grant = |(track, prefix, at)| Grant {
            user: user.clone(),
            track,
            is_prefix: prefix != 0,
            created_at: UnixMillis::new(at),
        };
        Ok(rows.into_iter().map(grant).collect())
    }

    async fn permits(&self, user: &str, track: &str) -> Result<bool, Error> {
        let (count,): (i64,) =
            on!(&self.database, pool => sqlx::query_as(PERMITS_SQL).bind(user).bind(track).fetch_one(pool).await)?;
        Ok(count > 0)
    }
}

#[async_trait]
impl AccessAuthority for GrantStore {
    async fn permits(&self, question: AccessQuery) -> Option<bool> {
        with_timeout(PLAYER_TIMEOUT, &self.failures, Self::permits(self, &question.user, &question.track)).await.ok()
    }
}
