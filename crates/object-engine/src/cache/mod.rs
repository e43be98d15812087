//! The slice cache: objects in aligned slices, each tied to one version, in memory and on disk. A hit never asks the
//! store; a miss asks it once, however many players wait, and they get the bytes as they come. It must not know who may
//! have an object: whoever comes here has been let in already, on every request.

mod cache_keys;
mod cached_metadata;
mod disk;
mod fill;
mod metadata_fetch;
mod purge;
mod reader;
mod serve;
pub mod settings;
mod single_flight;
mod slice_store;
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

pub use purge::PurgeScope;
pub use reader::SliceReader;
pub(super) use serve::serve_from_cache;
pub use settings::{CachePolicy, Settings};
pub use stats::{CacheStats, CacheStatus, Counter};

use self::cache_keys::ObjectId;
use self::disk::CacheDirectory;
use self::fill::{AbandonedSlices, SliceFills};
use self::metadata_fetch::{MetadataFlights, MetadataKey, MetadataOutcome, MetadataRequest};
use self::purge::PurgeLog;
use self::single_flight::SingleFlight;
use self::slice_store::SliceStore;
use super::{AttemptStats, ObjectError, ObjectOrigin};
use primitives::clock::Clock;

/// Fills from one store that may be under way at once.
const MAX_FILLS_PER_STORE: usize = 256;
/// Between two tries of a store that is in trouble, while stale answers are given, in milliseconds.
const RETRY_INTERVAL_MILLIS: u64 = 1000;

/// Runs a task beside the requests; shutdown waits for it.
pub type TaskSpawner = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// The cache that all routes with a policy share.
pub struct SliceCache {
    slice_size: u32,
    slice_store: SliceStore,
    fills: Arc<SliceFills>,
    abandoned: AbandonedSlices,
    metadata_flights: Arc<MetadataFlights>,
    purges: PurgeLog,
    stores: Mutex<HashMap<Arc<str>, Arc<StoreFillState>>>,
    stats: Arc<CacheStats>,
    clock: Clock,
    spawner: TaskSpawner,
}

/// A route's use of the cache.
#[derive(Clone)]
pub struct RouteCache {
    /// The cache.
    pub cache: Arc<SliceCache>,
    /// How long what it has is believed.
    pub policy: CachePolicy,
}

/// A store, as the cache sees it.
struct StoreFillState {
    fill_permits: Arc<Semaphore>,
    /// The last question failed for the store's own reasons.
    in_trouble: AtomicBool,
    /// When it is to be tried again, in milliseconds since the Unix epoch.
    next_try: AtomicU64,
}

/// What came of a conditional refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// Nothing is known of the object.
    Unknown,
    /// The store has the same version.
    Same,
    /// The store has another version, which is known from now on.
    Changed,
    /// The store has it no more.
    Gone,
}

impl SliceCache {
    /// Opens the cache; a disk that cannot be used is said in the log and done without.
    pub async fn open(settings: &Settings, clock: Clock, spawner: TaskSpawner) -> Result<Arc<Self>, CacheError> {
        let stats = Arc::new(CacheStats::default());
        let folder = settings.disk.as_ref().and_then(|disk| match CacheDirectory::open(disk) {
            Ok(folder) => Some(folder),
            Err(error) => {
                stats.disk_errors.increment();
                tracing::error!(%error, "the folder of the disk cache cannot be used: caching in memory only");
                None
            }
        });
        let purges =
            PurgeLog::open(folder.as_ref().map(CacheDirectory::purge_file), clock.unix_millis().cast_unsigned());
        let shelf = SliceStore::open(settings, folder, Arc::clone(&stats)).await.map_err(CacheError)?;
        Ok(Arc::new(Self {
            slice_size: settings.slice_size,
            slice_store: shelf,
            fills: SingleFlight::new(),
            abandoned: AbandonedSlices::default(),
            metadata_flights: SingleFlight::new(),
            purges,
            stores: Mutex::new(HashMap::new()),
            stats,
            clock,
            spawner,
        }))
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<CacheStats> {
        &self.stats
    }

    /// Bytes of slices in memory.
    pub fn memory_used(&self) -> usize {
        self.slice_store.usage()
    }

    /// Drops what `scope` covers: it is never served again. An error says that the purge is in force but would not
    /// survive a restart.
    pub fn purge(&self, scope: PurgeScope) -> io::Result<()> {
        self.stats.purges.increment();
        let everything = scope == PurgeScope::All;
        let written = self.purges.add(scope, self.now());
        if everything {
            self.slice_store.clear_memory();
        }
        written
    }

    /// Asks the store whether what is known of the object `key` of `origin` still holds.
    pub async fn refresh(
        self: &Arc<Self>,
        origin: &Arc<ObjectOrigin>,
        key: &str,
    ) -> Result<RefreshOutcome, ObjectError> {
        let Some(cached) = &origin.cache else { return Ok(RefreshOutcome::Unknown) };
        let topic = self.metadata_key(origin, key);
        let Some(before) =
            self.slice_store.metadata(&topic.object).await.filter(|meta| meta.version.epoch >= topic.epoch)
        else {
            return Ok(RefreshOutcome::Unknown);
        };
        let mut tally = AttemptStats::default();
        match metadata_fetch::fetch_metadata(self, origin, &cached.policy, topic, MetadataRequest::Head, &mut tally)
            .await
        {
            Ok(MetadataOutcome::Object(now, _)) if now.version == before.version => Ok(RefreshOutcome::Same),
            Ok(MetadataOutcome::Object(..) | MetadataOutcome::Uncacheable | MetadataOutcome::RangeIgnored) => {
                Ok(RefreshOutcome::Changed)
            }
            Err(ObjectError::NotFound | ObjectError::Gone) => Ok(RefreshOutcome::Gone),
            Err(failure) => Err(failure),
        }
    }

    /// Lets the disk finish what it was given.
    pub async fn close(&self) {
        self.slice_store.close().await;
    }

    fn metadata_key(&self, origin: &ObjectOrigin, key: &str) -> MetadataKey {
        let object = ObjectId { store: Arc::clone(&origin.store), bucket: Arc::clone(&origin.bucket), key: key.into() };
        let epoch = self.purges.epoch(&object);
        MetadataKey::new(object, epoch, origin)
    }

    fn now(&self) -> u64 {
        self.clock.unix_millis().cast_unsigned()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.spawner)(Box::pin(task));
    }

    fn store(&self, name: &Arc<str>) -> Arc<StoreFillState> {
        let mut stores = self.stores.lock();
        let state = stores.entry(Arc::clone(name)).or_insert_with(|| {
            let places = Arc::new(Semaphore::new(MAX_FILLS_PER_STORE));
            Arc::new(StoreFillState {
                fill_permits: places,
                in_trouble: AtomicBool::new(false),
                next_try: AtomicU64::new(0),
            })
        });
        Arc::clone(state)
    }

    /// A place among the fills of the store.
    async fn fill_permit(&self, store: &Arc<str>) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.store(store).fill_permits);
        places.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Notes how the last question to the store went.
    fn record_store_health(&self, store: &Arc<str>, trouble: bool) {
        let state = self.store(store);
        state.in_trouble.store(trouble, Ordering::Relaxed);
        state.next_try.store(self.now().saturating_add(RETRY_INTERVAL_MILLIS), Ordering::Relaxed);
    }

    /// Whether the store was in trouble when it was last asked, and whether it is time to ask again.
    fn is_in_trouble(&self, store: &Arc<str>) -> Option<bool> {
        let state = self.store(store);
        if !state.in_trouble.load(Ordering::Relaxed) {
            return None;
        }
        let (now, next) = (self.now(), state.next_try.load(Ordering::Relaxed));
        let later = now.saturating_add(RETRY_INTERVAL_MILLIS);
        let due =
            now >= next && state.next_try.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some(due)
    }
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
#[error("the cache cannot be made: {0}")]
pub struct CacheError(#[source] foyer::Error);
