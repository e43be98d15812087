//! Where positions are kept: a port with three ways to fill it, by what is configured.

mod cached;
mod database;
mod redis;

use std::sync::Arc;

use async_trait::async_trait;

use super::metrics::PositionMetrics;
use super::settings::Settings;
use super::{ItemKind, PositionKey, PositionRecord, ProgressPage};
use cached::CachedPositionStore;
use database::DatabasePositionStore;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use redis::RedisPositionStore;
use server_kit::database::Database;
use server_kit::redis::Redis;

/// The store did not do it, or did not say so in time. Its text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum PositionStoreError {
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// Redis.
    #[error("Redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// Time ran out.
    #[error("no answer in time")]
    Timeout,
}

impl PositionStoreError {
    /// Time ran out.
    pub fn timeout() -> Self {
        Self::Timeout
    }
}

/// Where a list goes on: behind the entry with these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressCursor {
    at: i64,
    kind: ItemKind,
    item: TrackId,
}

impl ProgressCursor {
    /// Behind `entry`.
    pub fn after(entry: &PositionRecord) -> Self {
        Self { at: entry.updated_at, kind: entry.key.kind, item: entry.key.item.clone() }
    }

    /// As a cursor holds it.
    pub fn to_text(&self) -> String {
        format!("{} {} {}", self.at, self.kind.name(), self.item.as_str())
    }

    /// What [`ProgressCursor::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (at, kind, item) = (words.next()?, words.next()?, words.next()?);
        Some(Self { at: at.parse().ok()?, kind: ItemKind::from_name(kind)?, item: TrackId::parse(item)? })
    }
}

/// What a list asks for.
pub struct PositionListQuery<'a> {
    /// Whose.
    pub user: &'a UserId,
    /// Of this kind only.
    pub kind: Option<ItemKind>,
    /// Behind this.
    pub after: Option<&'a ProgressCursor>,
    /// Reported since then.
    pub reported_since: i64,
    /// So many at most.
    pub limit: usize,
}

/// The port.
#[async_trait]
pub trait PositionStore: Send + Sync {
    /// Keeps each entry unless a newer one is there; of two of one time the later call's is kept. A length that an entry
    /// does not know stays as it was. All are kept when this returns, but for those of the keys that it returns.
    async fn save(&self, entries: &[PositionRecord]) -> Result<Vec<PositionKey>, PositionStoreError>;

    /// Tells of `entries`, which are kept, whoever answers for the store; whoever reports them waits for it, the next commit
    /// does not.
    async fn update_cache(&self, _entries: &[PositionRecord]) {}

    /// The entry of `key`, cleared ones too.
    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError>;

    /// Entries with a position by time, the newest first, those of one time in an order of the store's own that does not
    /// change; `next` unless that was all.
    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError>;

    /// Removes entries that were reported before `before`.
    async fn remove_expired(&self, before: i64) -> Result<(), PositionStoreError>;

    /// Makes good, for as long as it runs, what whoever answers for the store has missed.
    async fn reconcile(&self) {
        std::future::pending().await
    }
}

/// The store for what there is.
pub fn open(
    database: Option<Database>,
    redis: Option<Redis>,
    settings: &Settings,
    clock: &Clock,
    numbers: &PositionMetrics,
) -> Option<Arc<dyn PositionStore>> {
    let shared = |redis| RedisPositionStore::new(redis, settings.ttl, clock.clone());
    Some(
        match (
            database.map(|database| DatabasePositionStore::new(database, settings.ttl, clock.clone())),
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
        let mark = ProgressCursor { at: 17, kind: ItemKind::Film, item: TrackId::parse("a b/ü").expect("an id") };
        assert_eq!(ProgressCursor::parse(&mark.to_text()), Some(mark));
        for text in ["", "17", "17 song a", "x film a"] {
            assert_eq!(ProgressCursor::parse(text), None, "{text}");
        }
    }
}
