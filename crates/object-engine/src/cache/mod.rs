//! The slice cache: objects in aligned slices, each tied to one version, in memory and on disk. A hit never asks the
//! store; a miss asks it once, however many players wait, and they get the bytes as they come. It must not know who may
//! have an object: whoever comes here has been let in already, on every request.

mod answer;
mod disk;
mod fill;
mod flights;
mod meta;
mod name;
mod purge;
mod question;
mod reader;
pub mod settings;
mod shelf;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use answer::answer;
pub use purge::Scope;
pub use reader::Reader;
pub use settings::{Policy, Settings};
pub use stats::{Counter, State, Stats};

use self::disk::Folder;
use self::fill::{AbandonedSlices, Fills};
use self::flights::Flights;
use self::name::ObjectId;
use self::purge::Purges;
use self::question::{How, Learnt, Questions, Topic};
use self::shelf::Shelf;
use super::{Failure, Origin, Tally};
use primitives::clock::Clock;

/// Fills from one store that may be under way at once.
const FILLS_AT_ONCE: usize = 256;
/// Between two tries of a store that is in trouble, while stale answers are given, in milliseconds.
const TRY_EVERY: u64 = 1000;

/// Runs a task beside the requests; shutdown waits for it.
pub type Spawner = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// The cache that all routes with a policy share.
pub struct Cache {
    slice_size: u32,
    shelf: Shelf,
    fills: Arc<Fills>,
    abandoned: AbandonedSlices,
    questions: Arc<Questions>,
    purges: Purges,
    stores: Mutex<HashMap<Arc<str>, Arc<StoreState>>>,
    stats: Arc<Stats>,
    clock: Clock,
    spawner: Spawner,
}

/// A route's use of the cache.
#[derive(Clone)]
pub struct Cached {
    /// The cache.
    pub cache: Arc<Cache>,
    /// How long what it has is believed.
    pub policy: Policy,
}

/// A store, as the cache sees it.
struct StoreState {
    places: Arc<Semaphore>,
    /// The last question failed for the store's own reasons.
    in_trouble: AtomicBool,
    /// When it is to be tried again, in milliseconds since the Unix epoch.
    next_try: AtomicU64,
}

/// What came of a conditional refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Nothing is known of the object.
    Unknown,
    /// The store has the same version.
    Same,
    /// The store has another version, which is known from now on.
    Changed,
    /// The store has it no more.
    Gone,
}

impl Cache {
    /// Opens the cache; a disk that cannot be used is said in the log and done without.
    pub async fn open(settings: &Settings, clock: Clock, spawner: Spawner) -> Result<Arc<Self>, CacheError> {
        let stats = Arc::new(Stats::default());
        let folder = settings.disk.as_ref().and_then(|disk| match Folder::open(disk) {
            Ok(folder) => Some(folder),
            Err(error) => {
                stats.disk_errors.up();
                tracing::error!(%error, "the folder of the disk cache cannot be used: caching in memory only");
                None
            }
        });
        let purges = Purges::open(folder.as_ref().map(Folder::purges), clock.unix_millis().cast_unsigned());
        let shelf = Shelf::open(settings, folder, Arc::clone(&stats)).await.map_err(CacheError)?;
        Ok(Arc::new(Self {
            slice_size: settings.slice_size,
            shelf,
            fills: Flights::new(),
            abandoned: AbandonedSlices::default(),
            questions: Flights::new(),
            purges,
            stores: Mutex::new(HashMap::new()),
            stats,
            clock,
            spawner,
        }))
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Bytes of slices in memory.
    pub fn memory_used(&self) -> usize {
        self.shelf.usage()
    }

    /// Drops what `scope` covers: it is never served again. An error says that the purge is in force but would not
    /// survive a restart.
    pub fn purge(&self, scope: Scope) -> io::Result<()> {
        self.stats.purges.up();
        let everything = scope == Scope::All;
        let written = self.purges.add(scope, self.now());
        if everything {
            self.shelf.clear_memory();
        }
        written
    }

    /// Asks the store whether what is known of the object `key` of `origin` still holds.
    pub async fn refresh(self: &Arc<Self>, origin: &Arc<Origin>, key: &str) -> Result<Refreshed, Failure> {
        let Some(cached) = &origin.cache else { return Ok(Refreshed::Unknown) };
        let topic = self.topic(origin, key);
        let Some(before) = self.shelf.meta(&topic.object).await.filter(|meta| meta.version.epoch >= topic.epoch) else {
            return Ok(Refreshed::Unknown);
        };
        let mut tally = Tally::default();
        match question::put(self, origin, &cached.policy, topic, How::Head, &mut tally).await {
            Ok(Learnt::Object(now, _)) if now.version == before.version => Ok(Refreshed::Same),
            Ok(Learnt::Object(..) | Learnt::Unfit) => Ok(Refreshed::Changed),
            Err(Failure::NotFound | Failure::Gone) => Ok(Refreshed::Gone),
            Err(failure) => Err(failure),
        }
    }

    /// Lets the disk finish what it was given.
    pub async fn close(&self) {
        self.shelf.close().await;
    }

    fn topic(&self, origin: &Origin, key: &str) -> Topic {
        let object = ObjectId { store: Arc::clone(&origin.store), bucket: Arc::clone(&origin.bucket), key: key.into() };
        let epoch = self.purges.epoch(&object);
        Topic::new(object, epoch, origin)
    }

    fn now(&self) -> u64 {
        self.clock.unix_millis().cast_unsigned()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.spawner)(Box::pin(task));
    }

    fn store(&self, name: &Arc<str>) -> Arc<StoreState> {
        let mut stores = self.stores.lock();
        let state = stores.entry(Arc::clone(name)).or_insert_with(|| {
            let places = Arc::new(Semaphore::new(FILLS_AT_ONCE));
            Arc::new(StoreState { places, in_trouble: AtomicBool::new(false), next_try: AtomicU64::new(0) })
        });
        Arc::clone(state)
    }

    /// A place among the fills of the store.
    async fn place(&self, store: &Arc<str>) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.store(store).places);
        places.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Notes how the last question to the store went.
    fn trouble(&self, store: &Arc<str>, trouble: bool) {
        let state = self.store(store);
        state.in_trouble.store(trouble, Ordering::Relaxed);
        state.next_try.store(self.now().saturating_add(TRY_EVERY), Ordering::Relaxed);
    }

    /// Whether the store was in trouble when it was last asked, and whether it is time to ask again.
    fn is_in_trouble(&self, store: &Arc<str>) -> Option<bool> {
        let state = self.store(store);
        if !state.in_trouble.load(Ordering::Relaxed) {
            return None;
        }
        let (now, next) = (self.now(), state.next_try.load(Ordering::Relaxed));
        let later = now.saturating_add(TRY_EVERY);
        let due =
            now >= next && state.next_try.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some(due)
    }
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
#[error("the cache cannot be made: {0}")]
pub struct CacheError(#[source] foyer::Error);
