//! Store of slices and metadata records: in memory within a number of bytes, and on disk where there is one. Data from
//! the disk is checked; a failure of the disk is a miss and a count, never an error.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{
    Cache, CacheBuilder, Code as _, Event, EventListener, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, S3FifoConfig, StorageKey, StorageValue,
};

use super::cache_keys::{ObjectId, ObjectVersion, SliceKey};
use super::cached_metadata::{CachedMetadata, MetadataRecord, NegativeEntry};
use super::disk::{self, CacheDirectory, DiskEngine};
use super::settings::Settings;
use super::stats::CacheStats;

/// Bytes that a slice costs in memory besides its data, about.
const SLICE_OVERHEAD: usize = 256;
/// Bytes of metadata records in memory: one part of this many of the slices', at least [`MIN_RECORDS_BYTES`].
const RECORDS_SHARE: usize = 32;
const MIN_RECORDS_BYTES: usize = 4 << 20;
/// Bytes of negative entries in memory, and the bytes that one costs besides its key, about.
const NEGATIVE_ENTRY_BYTES: usize = 16 << 20;
const NEGATIVE_ENTRY_OVERHEAD: usize = 256;

/// Fewest slices of a shard that is resized.
const MIN_SHARD_SLICES: usize = 16;

/// Returns the number of shards for so many bytes of memory: each evicts on its own, so each must hold many slices.
fn best_shards(memory: usize, slice: usize) -> usize {
    (memory / (64 * slice)).clamp(1, 16)
}

/// Returns the bytes of metadata records beside so many bytes of slices.
fn records_bytes(memory: usize) -> usize {
    (memory / RECORDS_SHARE).max(MIN_RECORDS_BYTES)
}

/// Slices, metadata records and negative entries of the cache.
pub struct SliceStore {
    slices: HybridCache<SliceKey, Bytes>,
    metadata_records: HybridCache<ObjectId, MetadataRecord>,
    negative_entries: Cache<ObjectId, NegativeEntry>,
    stats: Arc<CacheStats>,
    /// Bytes of a slice.
    slice: usize,
    /// Parts of the memory for slices, each with a lock of its own.
    shards: usize,
    // Dropped with the store: until then its lock keeps other processes away.
    _folder: Option<CacheDirectory>,
}

impl SliceStore {
    /// Opens the store. A folder that cannot be used is logged and counted, and the store works in memory only: a proxy
    /// with a broken disk still serves. Fails only where not even that can be built.
    pub async fn open(
        settings: &Settings,
        folder: Option<CacheDirectory>,
        stats: Arc<CacheStats>,
    ) -> foyer::Result<Self> {
        if let Some(folder) = folder {
            match Self::build(settings, Some(folder), &stats).await {
                Ok(shelf) => return Ok(shelf),
                Err(error) => {
                    stats.disk_errors.increment();
                    tracing::error!(%error, "the disk cache cannot be used: caching in memory only");
                }
            }
        }
        Self::build(settings, None, &stats).await
    }

    async fn build(
        settings: &Settings,
        folder: Option<CacheDirectory>,
        stats: &Arc<CacheStats>,
    ) -> foyer::Result<Self> {
        let memory = usize::try_from(settings.memory).unwrap_or(usize::MAX);
        let slice = settings.slice_size as usize;
        let shards = best_shards(memory, slice);
        let listener = Arc::new(EvictionCounter(Arc::clone(stats)));
        let slices = HybridCacheBuilder::new()
            .with_name("slices")
            // Written when it is inserted: a crash loses little, and nothing is left to be written on close.
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .with_event_listener(listener)
            .memory(memory)
            .with_shards(shards)
            // S3-FIFO: objects that are read once do not push out those that are read often.
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(|_: &SliceKey, bytes: &Bytes| bytes.len() + SLICE_OVERHEAD)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new());
        let engine = folder.as_ref().map(|folder| folder.slices(slice as u64)).transpose()?;
        let slices = match engine {
            None => slices.build().await?,
            Some(DiskEngine { config, path }) => {
                with_preallocated_disk(slices.with_engine_config(config).build().await?, &path)?
            }
        };
        let metas = HybridCacheBuilder::new()
            .with_name("objects")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(records_bytes(memory))
            .with_shards(4)
            .with_weighter(|_: &ObjectId, record: &MetadataRecord| record.0.weight())
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new());
        let engine = folder.as_ref().map(CacheDirectory::records).transpose()?;
        let metas = match engine {
            None => metas.build().await?,
            Some(DiskEngine { config, path }) => {
                with_preallocated_disk(metas.with_engine_config(config).build().await?, &path)?
            }
        };
        let verdicts = CacheBuilder::new(NEGATIVE_ENTRY_BYTES)
            .with_shards(4)
            .with_weighter(|object: &ObjectId, _: &NegativeEntry| object.estimated_size() + NEGATIVE_ENTRY_OVERHEAD)
            .build();
        Ok(Self {
            slices,
            metadata_records: metas,
            negative_entries: verdicts,
            stats: Arc::clone(stats),
            slice,
            shards,
            _folder: folder,
        })
    }

    /// Changes the bytes of slices kept in memory; blocks. Fails only where the memory cache refuses the size.
    pub fn resize(&self, memory: u64) -> foyer::Result<()> {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        self.slices.memory().resize(memory)?;
        self.metadata_records.memory().resize(records_bytes(memory))
    }

    /// Returns true where its shards, whose number stays, are of a useful size with this much memory.
    pub fn can_resize(&self, memory: u64) -> bool {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        memory / self.shards >= MIN_SHARD_SLICES * self.slice && best_shards(memory, self.slice) <= 4 * self.shards
    }

    /// Returns the slice if it is in memory.
    pub fn slice(&self, key: &SliceKey) -> Option<Bytes> {
        self.slices.memory().get(key).map(|entry| entry.value().clone())
    }

    /// Returns true if the slice is in memory.
    pub fn is_in_memory(&self, key: &SliceKey) -> bool {
        self.slices.memory().contains(key)
    }

    /// Returns true if the slice is in memory or, most likely, on disk. Reads nothing.
    pub fn may_contain(&self, key: &SliceKey) -> bool {
        self.slices.contains(key)
    }

    /// Reads the slice from the disk; `None` where it is not there or does not have `length` bytes.
    pub async fn slice_on_disk(&self, key: &SliceKey, length: u64) -> Option<Bytes> {
        let entry = from_disk(&self.slices, key, &self.stats).await?;
        let bytes = entry.value();
        if bytes.len() as u64 == length {
            return Some(bytes.clone());
        }
        // A slice of another length can never be used: dropped, so that it is counted once.
        self.stats.disk_errors.increment();
        self.slices.remove(key);
        None
    }

    /// Keeps a whole slice, in memory and on disk.
    pub fn keep_slice(&self, key: SliceKey, bytes: Bytes) {
        self.slices.insert(key, bytes);
    }

    /// Returns the metadata of the object if it is in memory.
    pub fn metadata_in_memory(&self, object: &ObjectId) -> Option<Arc<CachedMetadata>> {
        self.metadata_records.memory().get(object).map(|entry| Arc::clone(&entry.value().0))
    }

    /// Returns the metadata of the object, from memory or disk; `None` where there is none or it cannot be read.
    pub async fn metadata(&self, object: &ObjectId) -> Option<Arc<CachedMetadata>> {
        if let Some(meta) = self.metadata_in_memory(object) {
            return Some(meta);
        }
        let entry = from_disk(&self.metadata_records, object, &self.stats).await?;
        Some(Arc::clone(&entry.value().0))
    }

    /// Keeps the metadata of an object, and drops the negative entry about it.
    pub fn keep_metadata(&self, meta: Arc<CachedMetadata>) {
        let object = meta.version.object.clone();
        self.negative_entries.remove(&object);
        self.metadata_records.insert(object, MetadataRecord(meta));
    }

    /// Drops the metadata of the object.
    pub fn forget_metadata(&self, object: &ObjectId) {
        self.metadata_records.remove(object);
    }

    /// Drops the metadata of the object unless memory has another version.
    pub fn forget_version(&self, version: &ObjectVersion) {
        let known = self.metadata_records.memory().get(&version.object);
        // Nothing in memory: the disk may have this version.
        if known.is_none_or(|entry| *entry.value().0.version == *version) {
            self.forget_metadata(&version.object);
        }
    }

    /// Returns the negative entry about the object.
    pub fn negative_entry(&self, object: &ObjectId) -> Option<NegativeEntry> {
        self.negative_entries.get(object).map(|entry| *entry.value())
    }

    /// Keeps a negative entry about the object.
    pub fn keep_negative_entry(&self, object: ObjectId, verdict: NegativeEntry) {
        self.negative_entries.insert(object, verdict);
    }

    /// Drops all slices and negative entries from memory, after a purge of everything: nobody will find them again.
    pub fn clear_memory(&self) {
        self.slices.memory().clear();
        self.negative_entries.clear();
    }

    /// Returns the number of bytes of slices in memory.
    pub fn usage(&self) -> usize {
        self.slices.memory().usage()
    }

    /// Waits until the disk has written what it was given. A failure is counted.
    pub async fn close(&self) {
        let closed = futures::future::join(self.slices.close(), self.metadata_records.close()).await;
        if closed.0.and(closed.1).is_err() {
            self.stats.disk_errors.increment();
        }
    }
}

/// Reads an entry of a cache that has a disk, from memory or disk. A read that fails or gives wrong data is counted,
/// and the entry is dropped, so that it fails only once.
async fn from_disk<K: StorageKey + Clone, V: StorageValue + Clone>(
    cache: &HybridCache<K, V>,
    key: &K,
    stats: &CacheStats,
) -> Option<foyer::HybridCacheEntry<K, V>> {
    // Asked first: a miss of the index costs no read, and `None` after it is an error of the disk.
    if !cache.is_hybrid() || !cache.contains(key) {
        return None;
    }
    match cache.get(key).await {
        Ok(Some(entry)) => Some(entry),
        Ok(None) | Err(_) => {
            stats.disk_errors.increment();
            cache.remove(key);
            None
        }
    }
}

/// Allocates the files of the cache's device under `path`.
fn with_preallocated_disk<K: StorageKey, V: StorageValue>(
    cache: HybridCache<K, V>,
    path: &Path,
) -> foyer::Result<HybridCache<K, V>> {
    disk::preallocate(path, &**cache.storage().device()).map_err(foyer::Error::io_error)?;
    Ok(cache)
}

/// Counts the slices that memory gives up for others.
struct EvictionCounter(Arc<CacheStats>);

impl EventListener for EvictionCounter {
    type Key = SliceKey;
    type Value = Bytes;

    fn on_leave(&self, reason: Event, _key: &SliceKey, _value: &Bytes) {
        if reason == Event::Evict {
            self.0.evictions.increment();
        }
    }
}
