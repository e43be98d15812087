//! Positions in the database with Redis before it. The database is the truth; Redis is told after each commit, and
//! answers reads for as long as what it says is fresh, or when the database does not answer at all.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::records::Records;
use super::shared::Shared;
use super::{Away, Listing, Store};
use crate::clock::Clock;
use crate::positions::metrics::Numbers;
use crate::positions::{Entry, Key, Page};

/// For telling Redis of a commit: the players wait meanwhile.
const TELL_BUDGET: Duration = Duration::from_millis(50);
/// For asking Redis before the database.
const ASK_BUDGET: Duration = Duration::from_millis(20);
/// For asking Redis where the database does not answer.
const LAST_BUDGET: Duration = Duration::from_millis(500);
/// For how long Redis is believed without asking the database: a node that ends between its commit and telling Redis
/// leaves an old position there, and for no longer than this.
const FRESH: i64 = 60_000;
/// Entries that Redis could not be told of and that are told again; others become stale by themselves.
const OWED: usize = 2_000;

/// Both.
pub struct Fronted {
    records: Records,
    shared: Shared,
    clock: Clock,
    numbers: Numbers,
    owed: Mutex<BTreeMap<Key, Entry>>,
}

impl Fronted {
    /// `records` behind `shared`.
    pub fn new(records: Records, shared: Shared, clock: Clock, numbers: Numbers) -> Self {
        Self { records, shared, clock, numbers, owed: Mutex::default() }
    }
}

#[async_trait]
impl Store for Fronted {
    async fn save(&self, entries: &[Entry]) -> Result<(), Away> {
        self.records.save(entries).await
    }

    /// Tells Redis of `entries` and of what it is owed. They stay owed until Redis has them: whoever reads meanwhile asks the
    /// database.
    async fn tell(&self, entries: &[Entry]) {
        let mut all: Vec<Entry> = self.owed.lock().values().cloned().collect();
        all.extend_from_slice(entries);
        let told = self.shared.put(&all, TELL_BUDGET).await;
        let mut owed = self.owed.lock();
        if told.is_ok() {
            // What another call owes since then is not among them.
            for entry in &all {
                if owed.get(&entry.key).is_some_and(|owing| owing.at <= entry.at) {
                    owed.remove(&entry.key);
                }
            }
            return;
        }
        self.numbers.front_failed.inc();
        for entry in entries {
            let newer = owed.get(&entry.key).is_none_or(|owing| owing.at <= entry.at);
            if newer && owed.len() < OWED {
                owed.insert(entry.key.clone(), entry.clone());
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Away> {
        let fresh = self.clock.unix_millis() - FRESH;
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
}
