//! Positions in the database with Redis before it. The database is the truth; Redis is told after each commit, and
//! answers reads for as long as what it says is fresh, or when the database does not answer at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::records::Records;
use super::shared::Shared;
use super::{Away, Listing, Store};
use crate::positions::metrics::Numbers;
use crate::positions::{Entry, Key, Page};
use primitives::clock::Clock;

/// For telling Redis of a commit: the players wait meanwhile.
const TELL_BUDGET: Duration = Duration::from_millis(50);
/// For asking Redis before the database.
const ASK_BUDGET: Duration = Duration::from_millis(20);
/// For asking Redis where the database does not answer.
const LAST_BUDGET: Duration = Duration::from_millis(500);
/// For telling Redis what it missed, which nobody waits for.
const OWED_BUDGET: Duration = Duration::from_secs(1);
/// Between two tries of that.
const OWED_PAUSE: Duration = Duration::from_millis(200);
/// For how long Redis is believed without asking the database: a node that ends between its commit and telling Redis
/// leaves an old position there, and for no longer than this.
const FRESH: i64 = 60_000;
/// Entries that Redis could not be told of and that are told again, under 1 KB each; others become stale by themselves.
const OWED: usize = 20_000;
/// Of those, told at once.
const OWED_AT_ONCE: usize = 1_000;

/// Both.
pub struct Fronted {
    records: Records,
    shared: Shared,
    clock: Clock,
    numbers: Numbers,
    owed: Mutex<BTreeMap<Key, Entry>>,
    /// There is something owed.
    owing: Notify,
    /// When Redis came back last: what was written before may be older than what was committed meanwhile, by whichever node.
    back_since: AtomicI64,
}

impl Fronted {
    /// `records` behind `shared`.
    pub fn new(records: Records, shared: Shared, clock: Clock, numbers: Numbers) -> Self {
        let (owed, owing, back_since) = (Mutex::default(), Notify::new(), AtomicI64::new(0));
        Self { records, shared, clock, numbers, owed, owing, back_since }
    }

    /// Redis has `entries`, or what is newer.
    fn told<'a>(&self, entries: impl Iterator<Item = &'a Entry>) {
        let mut owed = self.owed.lock();
        for entry in entries {
            // What came to be owed meanwhile is not among them.
            if owed.get(&entry.key).is_some_and(|owing| owing.at <= entry.at) {
                owed.remove(&entry.key);
            }
        }
    }

    fn owe(&self, entries: &[Entry]) {
        let mut owed = self.owed.lock();
        for entry in entries {
            let newer = owed.get(&entry.key).is_none_or(|owing| owing.at <= entry.at);
            if newer && owed.len() < OWED {
                owed.insert(entry.key.clone(), entry.clone());
            }
        }
        self.owing.notify_one();
    }

    /// Tells Redis what it is owed as soon as there is a connection, and not only with the next report.
    async fn pay(&self) {
        loop {
            self.owing.notified().await;
            loop {
                let some: Vec<Entry> = self.owed.lock().values().take(OWED_AT_ONCE).cloned().collect();
                if some.is_empty() {
                    break;
                }
                self.shared.connected(OWED_BUDGET).await;
                match self.shared.put(&some, OWED_BUDGET).await {
                    Ok(()) => self.told(some.iter()),
                    Err(_) => tokio::time::sleep(OWED_PAUSE).await,
                }
            }
        }
    }

    async fn watch(&self) {
        let mut reconnections = self.shared.reconnections();
        loop {
            match reconnections.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => self.back_since.store(self.clock.unix_millis(), Ordering::Relaxed),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

#[async_trait]
impl Store for Fronted {
    async fn save(&self, entries: &[Entry]) -> Result<(), Away> {
        self.records.save(entries).await
    }

    /// Tells Redis of `entries`. They are owed until Redis has them: whoever reads meanwhile asks the database.
    async fn tell(&self, entries: &[Entry]) {
        if self.shared.put(entries, TELL_BUDGET).await.is_ok() {
            return self.told(entries.iter());
        }
        self.numbers.front_failed.inc();
        self.owe(entries);
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Away> {
        let fresh = (self.clock.unix_millis() - FRESH).max(self.back_since.load(Ordering::Relaxed));
        let front = self.shared.read(key, ASK_BUDGET).await.ok().flatten();
        if let Some((entry, _)) = front.as_ref().filter(|(_, written)| *written >= fresh && self.owed.lock().is_empty())
        {
            return Ok(Some(entry.clone()));
        }
        match self.records.get(key).await {
            Ok(Some(entry)) => {
                // Failing that, the next read asks the database again.
                let _ = self.shared.put(std::slice::from_ref(&entry), ASK_BUDGET).await;
                Ok(Some(entry))
            }
            Ok(None) => Ok(None),
            // What is stale is better than nothing, and so is waiting for it.
            Err(away) => match self.shared.read(key, LAST_BUDGET).await {
                Ok(Some((entry, _))) => Ok(Some(entry)),
                Ok(None) | Err(_) => Err(away),
            },
        }
    }

    async fn list(&self, listing: &Listing<'_>) -> Result<Page, Away> {
        self.records.list(listing).await
    }

    async fn sweep(&self, before: i64) -> Result<(), Away> {
        self.records.sweep(before).await
    }

    async fn reconcile(&self) {
        tokio::join!(self.pay(), self.watch());
    }
}
