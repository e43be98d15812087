//! Store of positions: a port with three implementations, chosen by the configuration.

mod cached;
mod database;
mod redis;

use std::cmp::Reverse;
use std::sync::Arc;

use async_trait::async_trait;

use super::metrics::PositionMetrics;
use super::settings::Settings;
use super::{ItemKind, PositionKey, PositionRecord, ProgressPage};
use cached::CachedPositionStore;
pub use database::DatabasePositionStore;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use redis::RedisPositionStore;
use server_kit::database::Database;
use server_kit::redis::Redis;

/// Failure or timeout of the store. Its text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum PositionStoreError {
    /// Error of the database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// Error of Redis.
    #[error("Redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
}

impl PositionStoreError {
    /// No answer in time.
    pub fn timeout() -> Self {
        Self::Timeout
    }
}

/// Position of an entry in the list; the next page begins after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressCursor {
    at: UnixMillis,
    kind: ItemKind,
    item: TrackId,
}

impl ProgressCursor {
    /// Returns the cursor of `entry`.
    pub fn after(entry: &PositionRecord) -> Self {
        Self { at: entry.updated_at, kind: entry.key.kind, item: entry.key.item.clone() }
    }

    /// Returns what entries are listed by: the newest first, then kind and item.
    pub fn order(&self) -> (Reverse<i64>, &str, &str) {
        (Reverse(self.at.as_millis()), self.kind.name(), self.item.as_str())
    }

    /// Returns the text that [`ProgressCursor::parse`] reads.
    pub fn to_text(&self) -> String {
        format!("{} {} {}", self.at, self.kind.name(), self.item.as_str())
    }

    /// Parses the text of [`ProgressCursor::to_text`].
    pub fn parse(text: &str) -> Option<Self> {
        // Three parts at most: an id may contain blanks.
        let mut words = text.splitn(3, ' ');
        let (at, kind, item) = (words.next()?, words.next()?, words.next()?);
        Some(Self {
            at: UnixMillis::new(at.parse().ok()?),
            kind: ItemKind::from_name(kind)?,
            item: TrackId::parse(item)?,
        })
    }
}

/// Outcome of a save.
#[derive(Debug, Default)]
pub struct SaveOutcome {
    /// Keys that the store refused; all others are stored.
    pub refused: Vec<PositionKey>,
    /// Items that the save has removed: the oldest of users who have more than `MaxItemsPerUser`.
    pub dropped: Vec<DroppedPosition>,
}

/// Item that was removed because its user has too many.
#[derive(Clone, Debug)]
pub struct DroppedPosition {
    /// User, kind and item.
    pub key: PositionKey,
    /// Time of its position: a newer one is not meant.
    pub updated_at: UnixMillis,
}

/// Query of a list.
pub struct PositionListQuery<'a> {
    /// User whose entries are listed.
    pub user: &'a UserId,
    /// Only entries of this kind.
    pub kind: Option<ItemKind>,
    /// Only entries after this one.
    pub after: Option<&'a ProgressCursor>,
    /// Only entries reported since then.
    pub reported_since: UnixMillis,
    /// Most entries.
    pub limit: usize,
}

/// Store of positions.
#[async_trait]
pub trait PositionStore: Send + Sync {
    /// Saves each entry unless a newer one is stored; of two with the same time the later call wins. An unknown length
    /// leaves the stored one. Of a user who then has more items than the most, those with the oldest time are removed,
    /// whatever the time of their reports.
    async fn save(&self, entries: &[PositionRecord]) -> Result<SaveOutcome, PositionStoreError>;

    /// Updates the cache in front of the store with `entries`, which are stored, and `dropped`, which are not any more.
    /// Their reports wait for it, the next commit does not.
    async fn update_cache(&self, _entries: &[PositionRecord], _dropped: &[DroppedPosition]) {}

    /// Returns the entry of `key`, also a cleared one.
    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError>;

    /// Lists entries with a position by time, the newest first; those of one time in a stable order of the store's own.
    /// `next` is set unless that was all.
    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError>;

    /// Removes entries that were reported before `before`.
    async fn remove_expired(&self, before: UnixMillis) -> Result<(), PositionStoreError>;

    /// Brings the cache up to date with missed entries, for as long as it runs.
    async fn reconcile(&self) {
        // A store without a cache has nothing to do, and must not end the caller's `select!`.
        std::future::pending().await
    }
}

/// Creates the store for what is configured; `None` if there is neither.
pub fn open(
    database: Option<Database>,
    redis: Option<Redis>,
    settings: &Settings,
    clock: &Clock,
    numbers: &PositionMetrics,
) -> Option<Arc<dyn PositionStore>> {
    let shared = |redis| RedisPositionStore::new(redis, settings, clock.clone());
    Some(
        match (
            database.map(|database| DatabasePositionStore::new(database, settings, clock.clone())),
            redis.map(shared),
        ) {
            (Some(records), Some(shared)) => {
                Arc::new(CachedPositionStore::new(records, shared, clock.clone(), numbers.clone()))
            }
            (Some(records), None) => Arc::new(records),
            (None, Some(shared)) => Arc::new(shared),
            (None, None) => return None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was_and_anything_else_is_refused() {
        let mark = ProgressCursor {
            at: UnixMillis::new(17),
            kind: ItemKind::Film,
            item: TrackId::parse("a b/ü").expect("an id"),
        };
        assert_eq!(ProgressCursor::parse(&mark.to_text()), Some(mark));
        for text in ["", "17", "17 song a", "x film a"] {
            assert_eq!(ProgressCursor::parse(text), None, "{text}");
        }
    }
}
