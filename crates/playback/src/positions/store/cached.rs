//! Positions in the database with Redis in front of it. The database is the truth; Redis is updated after each commit,
//! and answers reads while its entry is fresh, or when the database does not answer at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::database::DatabasePositionStore;
use super::redis::RedisPositionStore;
use super::{DroppedPosition, PositionListQuery, PositionStore, PositionStoreError, SaveOutcome};
use crate::positions::metrics::PositionMetrics;
use crate::positions::{PositionKey, PositionRecord, ProgressPage};
use primitives::clock::Clock;
use primitives::unix_time::UnixMillis;

/// Timeout of the update after a commit: the players wait for it.
const UPDATE_TIMEOUT: Duration = Duration::from_millis(50);
/// Timeout of a read from Redis before the database.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(20);
/// Timeout of a read from Redis when the database does not answer.
const FALLBACK_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of a pending update, for which nobody waits.
const RETRY_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between two tries of a pending update.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Time for which an entry in Redis is used without asking the database: a node that ends between its commit and the
/// update leaves an old position there, and for no longer than this.
const CACHE_TTL: Duration = Duration::from_secs(60);
/// Most pending entries, of less than 1 KB each; others expire by themselves.
const MAX_PENDING: usize = 20_000;
/// Pending entries per update.
const PENDING_BATCH: usize = 1_000;

/// Database and Redis together.
pub struct CachedPositionStore {
    database: DatabasePositionStore,
    redis: RedisPositionStore,
    clock: Clock,
    metrics: PositionMetrics,
    pending: Mutex<BTreeMap<PositionKey, PositionRecord>>,
    /// Notifies the writer of new pending entries.
    pending_added: Notify,
    /// Time of the last reconnection to Redis: entries written before may be older than what any node committed
    /// meanwhile.
    reconnected_at: AtomicI64,
}

impl CachedPositionStore {
    /// Creates the store with `records` behind `shared`.
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

    /// Removes pending entries up to these times: Redis has them or newer ones, or refuses them for good, and then nobody
    /// reads them there; or they are dropped.
    fn remove_pending<'a>(&self, entries: impl Iterator<Item = (&'a PositionKey, UnixMillis)>) {
        let mut owed = self.pending.lock();
        for (key, updated_at) in entries {
            // An entry that was added meanwhile is newer, and stays.
            if owed.get(key).is_some_and(|owing| owing.updated_at <= updated_at) {
                owed.remove(key);
            }
        }
    }

    fn add_pending(&self, entries: &[PositionRecord]) {
        add_owed(&mut self.pending.lock(), entries, MAX_PENDING);
        self.pending_added.notify_one();
    }

    /// Writes pending entries as soon as there is a connection, and not only with the next report.
    async fn write_pending(&self) {
        loop {
            self.pending_added.notified().await;
            loop {
                // Copied out: the lock must not be held across an await.
                let some: Vec<PositionRecord> = self.pending.lock().values().take(PENDING_BATCH).cloned().collect();
                if some.is_empty() {
                    break;
                }
                self.redis.wait_connected(RETRY_TIMEOUT).await;
                match self.redis.put(&some, RETRY_TIMEOUT).await {
                    Ok(_) => self.remove_pending(some.iter().map(|entry| (&entry.key, entry.updated_at))),
                    Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
                }
            }
        }
    }

    async fn watch_reconnections(&self) {
        let mut reconnections = self.redis.reconnections();
        loop {
            match reconnections.recv().await {
                // A lagged receiver missed reconnections, so the time is now all the same.
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    // Relaxed: the number stands alone, and a read that misses it by a moment is as good as one made
                    // before.
                    self.reconnected_at.store(self.clock.unix_millis().as_millis(), Ordering::Relaxed)
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}

#[async_trait]
impl PositionStore for CachedPositionStore {
    async fn save(&self, entries: &[PositionRecord]) -> Result<SaveOutcome, PositionStoreError> {
        self.database.save(entries).await
    }

    /// Updates Redis. The entries are pending until Redis has them: reads meanwhile ask the database.
    async fn update_cache(&self, entries: &[PositionRecord], dropped: &[DroppedPosition]) {
        if self.redis.put(entries, UPDATE_TIMEOUT).await.is_ok() {
            self.remove_pending(entries.iter().map(|entry| (&entry.key, entry.updated_at)));
        } else {
            self.metrics.cache_failures.inc();
            self.add_pending(entries);
        }
        // Behind the entries, since some of them may be dropped too. If it fails they expire by themselves.
        if !dropped.is_empty() {
            self.remove_pending(dropped.iter().map(|item| (&item.key, item.updated_at)));
            let _ = self.redis.remove(dropped, UPDATE_TIMEOUT).await;
        }
    }

    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        let now = self.clock.unix_millis();
        let fresh = (now - CACHE_TTL).max(UnixMillis::new(self.reconnected_at.load(Ordering::Relaxed)));
        // An entry of the future was written by a clock that is ahead, or was until it was put back.
        let fresh = fresh..=now + CACHE_TTL;
        let front = self.redis.read(key, LOOKUP_TIMEOUT).await.ok().flatten();
        if let Some((entry, _)) =
            // Any pending entry rules out every read from Redis: that is simpler than looking for the key, and rare.
            front.as_ref().filter(|(_, written)| fresh.contains(written) && self.pending.lock().is_empty())
        {
            return Ok(Some(entry.clone()));
        }
        match self.database.get(key).await {
            Ok(Some(entry)) => {
                // If that fails, the next read asks the database again.
                let _ = self.redis.put(std::slice::from_ref(&entry), LOOKUP_TIMEOUT).await;
                Ok(Some(entry))
            }
            Ok(None) => Ok(None),
            // A stale position is better than none, and worth the longer wait.
            Err(away) => match self.redis.read(key, FALLBACK_TIMEOUT).await {
                Ok(Some((entry, _))) => Ok(Some(entry)),
                Ok(None) | Err(_) => Err(away),
            },
        }
    }

    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError> {
        self.database.list(listing).await
    }

    async fn remove_expired(&self, before: UnixMillis) -> Result<(), PositionStoreError> {
        self.database.remove_expired(before).await
    }

    async fn reconcile(&self) {
        tokio::join!(self.write_pending(), self.watch_reconnections());
    }
}

/// Adds `entries` to the pending ones, at most `most`.
fn add_owed(owed: &mut BTreeMap<PositionKey, PositionRecord>, entries: &[PositionRecord], most: usize) {
    for entry in entries {
        let has_room = owed.len() < most;
        match owed.get_mut(&entry.key) {
            // A pending entry is replaced even if the table is full: Redis would get the old position.
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
            PositionRecord {
                key,
                position: Some(at),
                duration: None,
                updated_at: UnixMillis::new(at),
                reported_at: UnixMillis::new(at),
            }
        };
        let mut owed = BTreeMap::new();
        add_owed(&mut owed, &[entry("a", 5), entry("b", 5), entry("c", 5), entry("a", 6), entry("b", 4)], 2);
        assert_eq!(owed.into_values().collect::<Vec<_>>(), [entry("a", 6), entry("b", 5)]);
    }
}
