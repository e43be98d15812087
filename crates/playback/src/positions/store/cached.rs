//! Positions in the database with Redis before it. The database is the truth; Redis is told after each commit, and
//! answers reads for as long as what it says is fresh, or when the database does not answer at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::database::DatabasePositionStore;
use super::redis::RedisPositionStore;
use super::{PositionListQuery, PositionStore, PositionStoreError};
use crate::positions::metrics::PositionMetrics;
use crate::positions::{PositionKey, PositionRecord, ProgressPage};
use primitives::clock::Clock;

/// For telling Redis of a commit: the players wait meanwhile.
const UPDATE_TIMEOUT: Duration = Duration::from_millis(50);
/// For asking Redis before the database.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(20);
/// For asking Redis where the database does not answer.
const FALLBACK_TIMEOUT: Duration = Duration::from_millis(500);
/// For telling Redis what it missed, which nobody waits for.
const RETRY_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries of that.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// For how long Redis is believed without asking the database: a node that ends between its commit and telling Redis
/// leaves an old position there, and for no longer than this.
const CACHE_TTL_MILLIS: i64 = 60_000;
/// Entries that Redis could not be told of and that are told again, under 1 KB each; others become stale by themselves.
const MAX_PENDING: usize = 20_000;
/// Of those, told at once.
const PENDING_BATCH: usize = 1_000;

/// Both.
pub struct CachedPositionStore {
    database: DatabasePositionStore,
    redis: RedisPositionStore,
    clock: Clock,
    metrics: PositionMetrics,
    pending: Mutex<BTreeMap<PositionKey, PositionRecord>>,
    /// There is something owed.
    pending_added: Notify,
    /// When Redis came back last: what was written before may be older than what was committed meanwhile, by whichever node.
    reconnected_at: AtomicI64,
}

impl CachedPositionStore {
    /// `records` behind `shared`.
    pub fn new(
        records: DatabasePositionStore,
        shared: RedisPositionStore,
        clock: Clock,
        numbers: PositionMetrics,
    ) -> Self {
        let (owed, owing, back_since) = (Mutex::default(), Notify::new(), AtomicI64::new(0));
        Self {
            database: records,
            redis: shared,
            clock,
            metrics: numbers,
            pending: owed,
            pending_added: owing,
            reconnected_at: back_since,
        }
    }

    /// Redis has `entries` or what is newer, or refuses them for good: nobody reads those there either.
    fn remove_pending<'a>(&self, entries: impl Iterator<Item = &'a PositionRecord>) {
        let mut owed = self.pending.lock();
        for entry in entries {
            // What came to be owed meanwhile is not among them.
            if owed.get(&entry.key).is_some_and(|owing| owing.updated_at <= entry.updated_at) {
                owed.remove(&entry.key);
            }
        }
    }

    fn add_pending(&self, entries: &[PositionRecord]) {
        add_owed(&mut self.pending.lock(), entries, MAX_PENDING);
        self.pending_added.notify_one();
    }

    /// Tells Redis what it is owed as soon as there is a connection, and not only with the next report.
    async fn write_pending(&self) {
        loop {
            self.pending_added.notified().await;
            loop {
                let some: Vec<PositionRecord> = self.pending.lock().values().take(PENDING_BATCH).cloned().collect();
                if some.is_empty() {
                    break;
                }
                self.redis.wait_connected(RETRY_TIMEOUT).await;
                match self.redis.put(&some, RETRY_TIMEOUT).await {
                    Ok(_) => self.remove_pending(some.iter()),
                    Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
                }
            }
        }
    }

    async fn watch_reconnections(&self) {
        let mut reconnections = self.redis.reconnections();
        loop {
            match reconnections.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    self.reconnected_at.store(self.clock.unix_millis(), Ordering::Relaxed)
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}

#[async_trait]
impl PositionStore for CachedPositionStore {
    async fn save(&self, entries: &[PositionRecord]) -> Result<Vec<PositionKey>, PositionStoreError> {
        self.database.save(entries).await
    }

    /// Tells Redis of `entries`. They are owed until Redis has them: whoever reads meanwhile asks the database.
    async fn update_cache(&self, entries: &[PositionRecord]) {
        if self.redis.put(entries, UPDATE_TIMEOUT).await.is_ok() {
            return self.remove_pending(entries.iter());
        }
        self.metrics.cache_failures.inc();
        self.add_pending(entries);
    }

    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        let fresh = (self.clock.unix_millis() - CACHE_TTL_MILLIS).max(self.reconnected_at.load(Ordering::Relaxed));
        let front = self.redis.read(key, LOOKUP_TIMEOUT).await.ok().flatten();
        if let Some((entry, _)) =
            front.as_ref().filter(|(_, written)| *written >= fresh && self.pending.lock().is_empty())
        {
            return Ok(Some(entry.clone()));
        }
        match self.database.get(key).await {
            Ok(Some(entry)) => {
                // Failing that, the next read asks the database again.
                let _ = self.redis.put(std::slice::from_ref(&entry), LOOKUP_TIMEOUT).await;
                Ok(Some(entry))
            }
            Ok(None) => Ok(None),
            // What is stale is better than nothing, and so is waiting for it.
            Err(away) => match self.redis.read(key, FALLBACK_TIMEOUT).await {
                Ok(Some((entry, _))) => Ok(Some(entry)),
                Ok(None) | Err(_) => Err(away),
            },
        }
    }

    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError> {
        self.database.list(listing).await
    }

    async fn remove_expired(&self, before: i64) -> Result<(), PositionStoreError> {
        self.database.remove_expired(before).await
    }

    async fn reconcile(&self) {
        tokio::join!(self.write_pending(), self.watch_reconnections());
    }
}

/// Adds `entries` to what is owed, `most` at most.
fn add_owed(owed: &mut BTreeMap<PositionKey, PositionRecord>, entries: &[PositionRecord], most: usize) {
    for entry in entries {
        let has_room = owed.len() < most;
        match owed.get_mut(&entry.key) {
            // What is owed already is told as it is now, full or not: Redis would be told what is old.
            Some(owing) if owing.updated_at <= entry.updated_at => *owing = entry.clone(),
            None if has_room => drop(owed.insert(entry.key.clone(), entry.clone())),
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::ItemKind;

    #[test]
    fn what_is_owed_already_is_kept_up_to_date_where_there_is_room_for_no_more() {
        let entry = |item: &str, at| {
            let user = primitives::ids::UserId::parse("u").expect("an id");
            let item = primitives::ids::TrackId::parse(item).expect("an id");
            let key = PositionKey { user, kind: ItemKind::Audio, item };
            PositionRecord { key, position: Some(at), duration: None, updated_at: at, reported_at: at }
        };
        let mut owed = BTreeMap::new();
        add_owed(&mut owed, &[entry("a", 5), entry("b", 5), entry("c", 5), entry("a", 6), entry("b", 4)], 2);
        assert_eq!(owed.into_values().collect::<Vec<_>>(), [entry("a", 6), entry("b", 5)]);
    }
}
