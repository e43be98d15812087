//! Slice cache: objects in aligned slices, each tied to one version, in memory and on disk. A hit never asks the store;
//! a miss asks it once, however many clients wait, and they get the bytes as they come. It must not know who may have
//! an object: access was decided before, on every request. Description: `docs/cache.md`.

mod cache_keys;
mod cached_metadata;
mod disk;
mod fill;
mod inspect;
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
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use inspect::CachedObjectState;
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

/// Most fills from one store at the same time.
const MAX_FILLS_PER_STORE: usize = 256;
/// Time between two requests to a store in trouble while stale objects are served, in milliseconds.
const RETRY_INTERVAL_MILLIS: u64 = 1000;

/// Fewest slices that a cache works with.
const MIN_SLICES: u64 = 16;
/// Time between two looks whether the folder of the disk is free.
const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Starts a task beside the requests; graceful shutdown waits for it.
pub type TaskSpawner = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// The slice cache that all routes with a cache policy share.
pub struct SliceCache {
    slice_size: u32,
    /// Replaced once, where the disk is free only after the start.
    slice_store: ArcSwap<SliceStore>,
    fills: Arc<SliceFills>,
    abandoned: AbandonedSlices,
    metadata_flights: Arc<MetadataFlights>,
    purges: PurgeLog,
    /// True where the folder of the disk was in use when this was opened.
    awaits_disk: bool,
    /// Set once another cache has taken its place.
    is_retired: tokio::sync::Mutex<bool>,
    stores: Mutex<HashMap<Arc<str>, Arc<StoreFillState>>>,
    stats: Arc<CacheStats>,
    clock: Clock,
    spawner: TaskSpawner,
}

/// Cache of a route, with the route's policy.
#[derive(Clone)]
pub struct RouteCache {
    /// Cache, shared with other routes.
    pub cache: Arc<SliceCache>,
    /// Freshness policy of the route.
    pub policy: CachePolicy,
}

/// State of one store in the cache.
struct StoreFillState {
    fill_permits: Arc<Semaphore>,
    /// True if the last request for metadata failed because the store is in trouble.
    in_trouble: AtomicBool,
    /// Time of the next request while in trouble, in milliseconds since the Unix epoch.
    next_try: AtomicU64,
}

/// Outcome of a conditional refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The cache has no metadata of the object, or the route has no cache.
    Unknown,
    /// The store has the same version.
    Same,
    /// The store has another version, or one that cannot be cached.
    Changed,
    /// The store no longer has the object.
    Gone,
}

impl SliceCache {
    /// Opens the cache. A disk that cannot be used is logged and counted, and the cache works in memory only. Fails
    /// only where not even that can be built.
    pub async fn open(settings: &Settings, clock: Clock, spawner: TaskSpawner) -> Result<Arc<Self>, CacheError> {
        Self::open_after(None, settings, clock, spawner).await
    }

    /// As [`SliceCache::open`], to take the place of `previous`, whose counters and purges it goes on with. `previous` keeps
    /// its disk until [`SliceCache::retire`].
    pub async fn open_after(
        previous: Option<&Self>,
        settings: &Settings,
        clock: Clock,
        spawner: TaskSpawner,
    ) -> Result<Arc<Self>, CacheError> {
        let stats = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.stats));
        let mut awaits_disk = false;
        let folder = settings.disk.as_ref().and_then(|disk| match CacheDirectory::open(disk) {
            Ok(folder) => Some(folder),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::warn!("the folder of the disk cache is in use: caching in memory until it is free");
                awaits_disk = true;
                None
            }
            Err(error) => {
                stats.disk_errors.increment();
                tracing::error!(%error, "the folder of the disk cache cannot be used: caching in memory only");
                None
            }
        });
        // The list of purges lives beside the data it hides; without a disk there is nothing to survive a restart.
        let purges = PurgeLog::open(
            folder.as_ref().map(CacheDirectory::purge_file),
            clock.unix_millis().as_millis().cast_unsigned(),
        );
        if let Some(previous) = previous
            && let Err(error) = purges.include(&previous.purges)
        {
            stats.disk_errors.increment();
            tracing::error!(%error, "the list of purges cannot be written");
        }
        let shelf = SliceStore::open(settings, folder, Arc::clone(&stats)).await.map_err(CacheError)?;
        Ok(Arc::new(Self {
            slice_size: settings.slice_size,
            slice_store: ArcSwap::from_pointee(shelf),
            awaits_disk,
            is_retired: tokio::sync::Mutex::default(),
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

    /// Changes the bytes of slices kept in memory, which keeps its content as far as that fits; blocks. Fails only where the
    /// memory cache refuses the size; see [`SliceCache::can_resize`].
    pub fn resize(&self, memory: u64) -> Result<(), CacheError> {
        self.slice_store.load().resize(memory).map_err(CacheError)
    }

    /// Returns true where memory can be resized to this number of bytes and is as useful then as if it were opened anew.
    pub fn can_resize(&self, memory: u64) -> bool {
        self.slice_store.load().can_resize(memory)
    }

    /// Goes on in as little memory as works, for readers that still have this cache when another one has taken its place,
    /// and frees the folder of the disk.
    pub async fn retire(&self) {
        let mut is_retired = self.is_retired.lock().await;
        *is_retired = true;
        let settings =
            Settings { slice_size: self.slice_size, memory: MIN_SLICES * u64::from(self.slice_size), disk: None };
        match SliceStore::open(&settings, None, Arc::clone(&self.stats)).await {
            Ok(store) => {
                self.purges.forget_file();
                self.slice_store.swap(Arc::new(store)).close().await;
            }
            Err(error) => tracing::error!(%error, "the cache that was replaced keeps its memory and its disk"),
        }
    }

    /// Returns true where the folder of the disk was in use when the cache was opened: by the process that this one replaces,
    /// or by the cache before a reload.
    pub fn awaits_disk(&self) -> bool {
        self.awaits_disk
    }

    /// Waits until the disk is free, and uses it from then on, unless the cache is retired meanwhile. Memory begins anew,
    /// filled from the disk.
    pub async fn take_over_disk(&self, settings: &Settings) {
        let Some(disk) = &settings.disk else { return };
        let (folder, _kept) = loop {
            tokio::time::sleep(DISK_CHECK_INTERVAL).await;
            let is_retired = self.is_retired.lock().await;
            if *is_retired {
                return;
            }
            match CacheDirectory::open(disk) {
                // Locked until the disk is in use: a cache that is retired must not get it.
                Ok(folder) => break (folder, is_retired),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.stats.disk_errors.increment();
                    tracing::error!(%error, "the folder of the disk cache cannot be used: caching in memory only");
                    return;
                }
            }
        };
        let file = folder.purge_file();
        match SliceStore::open(settings, Some(folder), Arc::clone(&self.stats)).await {
            Ok(store) => {
                // First, so that nothing is found that was purged before.
                if let Err(error) = self.purges.take_over(file, self.now()) {
                    self.stats.disk_errors.increment();
                    tracing::error!(%error, "the list of purges cannot be written");
                }
                self.slice_store.store(Arc::new(store));
                tracing::info!("the folder of the disk cache is free, and used from now on");
            }
            Err(error) => tracing::error!(%error, "the disk cache cannot be used: caching in memory only"),
        }
    }

    /// Returns the counters of the cache.
    pub fn stats(&self) -> &Arc<CacheStats> {
        &self.stats
    }

    /// Returns the number of bytes of slices in memory.
    pub fn memory_used(&self) -> usize {
        self.slice_store.load().usage()
    }

    /// Purges what `scope` covers: it is never served again to a request that comes later. An error says that the purge
    /// is in force but would not survive a restart.
    pub fn purge(&self, scope: PurgeScope) -> io::Result<()> {
        self.stats.purges.increment();
        let everything = scope == PurgeScope::All;
        let written = self.purges.add(scope, self.now());
        // Purged slices are never found again, whatever the scope; here it is known that all of them only take memory.
        if everything {
            self.slice_store.load().clear_memory();
        }
        written
    }

    /// Asks the store whether the cached metadata of the object `key` of `origin` still holds, and updates it. Fails
    /// where the store does not answer.
    pub async fn refresh(
        self: &Arc<Self>,
        origin: &Arc<ObjectOrigin>,
        key: &str,
    ) -> Result<RefreshOutcome, ObjectError> {
        let Some(cached) = &origin.cache else { return Ok(RefreshOutcome::Unknown) };
        let topic = self.metadata_key(origin, key);
        // An older epoch means that the object was purged since: nothing of it is known any more.
        let Some(before) =
            self.slice_store.load_full().metadata(&topic.object).await.filter(|meta| meta.version.epoch >= topic.epoch)
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

    /// Waits until the disk has written what it was given.
    pub async fn close(&self) {
        self.slice_store.load_full().close().await;
    }

    fn metadata_key(&self, origin: &ObjectOrigin, key: &str) -> MetadataKey {
        let store = Arc::clone(origin.signer.identity());
        let object = ObjectId { store, bucket: Arc::clone(&origin.bucket), key: key.into() };
        let epoch = self.purges.epoch(&object);
        MetadataKey::new(object, epoch, origin)
    }

    fn now(&self) -> u64 {
        // The clock never shows a time before 1970.
        self.clock.unix_millis().as_millis().cast_unsigned()
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

    /// Waits for one of the store's [`MAX_FILLS_PER_STORE`] permits.
    async fn fill_permit(&self, store: &Arc<str>) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.store(store).fill_permits);
        places.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Records whether the last request for metadata found the store in trouble.
    fn record_store_health(&self, store: &Arc<str>, trouble: bool) {
        let state = self.store(store);
        state.in_trouble.store(trouble, Ordering::Relaxed);
        state.next_try.store(self.now().saturating_add(RETRY_INTERVAL_MILLIS), Ordering::Relaxed);
    }

    /// Returns `None` if the store was well when last asked; else true once a second, for one caller, which must ask it
    /// again.
    fn is_in_trouble(&self, store: &Arc<str>) -> Option<bool> {
        let state = self.store(store);
        if !state.in_trouble.load(Ordering::Relaxed) {
            return None;
        }
        let (now, next) = (self.now(), state.next_try.load(Ordering::Relaxed));
        let later = now.saturating_add(RETRY_INTERVAL_MILLIS);
        // The exchange lets only one of the callers ask.
        let due =
            now >= next && state.next_try.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some(due)
    }
}

/// Failure to build the cache.
#[derive(Debug, thiserror::Error)]
#[error("the cache cannot be made: {0}")]
pub struct CacheError(#[source] foyer::Error);
