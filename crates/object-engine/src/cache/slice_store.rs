//! Where slices and what is known of objects are kept: in memory within a number of bytes, and on disk where there is
//! one. What the disk gives is checked; what it cannot give is a miss and a count, never a failure.

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

/// What a slice in memory costs besides its bytes, nearly.
const SLICE_OVERHEAD: usize = 256;
/// Bytes of records of objects in memory: one part of so many of the slices', at least the other.
const RECORDS_SHARE: usize = 32;
const MIN_RECORDS_BYTES: usize = 4 << 20;
/// Bytes of verdicts in memory, and what one costs besides its key, nearly.
const NEGATIVE_ENTRY_BYTES: usize = 16 << 20;
const NEGATIVE_ENTRY_OVERHEAD: usize = 256;

/// The kept things.
pub struct SliceStore {
    slices: HybridCache<SliceKey, Bytes>,
    metadata_records: HybridCache<ObjectId, MetadataRecord>,
    negative_entries: Cache<ObjectId, NegativeEntry>,
    stats: Arc<CacheStats>,
    _folder: Option<CacheDirectory>,
}

impl SliceStore {
    /// Opens it. A folder that cannot be used is said in the log and done without: a proxy with a broken disk still serves.
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
        // A shard evicts by itself: each must hold many slices.
        let shards = (memory / (64 * slice)).clamp(1, 16);
        let listener = Arc::new(EvictionCounter(Arc::clone(stats)));
        let slices = HybridCacheBuilder::new()
            .with_name("slices")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .with_event_listener(listener)
            .memory(memory)
            .with_shards(shards)
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
            .memory((memory / RECORDS_SHARE).max(MIN_RECORDS_BYTES))
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
            _folder: folder,
        })
    }

    /// The slice, where it is in memory.
    pub fn slice(&self, key: &SliceKey) -> Option<Bytes> {
        self.slices.memory().get(key).map(|entry| entry.value().clone())
    }

    /// Whether the slice is in memory.
    pub fn is_in_memory(&self, key: &SliceKey) -> bool {
        self.slices.memory().contains(key)
    }

    /// Whether the slice is in memory or, most likely, on disk.
    pub fn may_contain(&self, key: &SliceKey) -> bool {
        self.slices.contains(key)
    }

    /// The slice, from the disk; it must have `length` bytes.
    pub async fn slice_on_disk(&self, key: &SliceKey, length: u64) -> Option<Bytes> {
        let entry = from_disk(&self.slices, key, &self.stats).await?;
        let bytes = entry.value();
        if bytes.len() as u64 == length {
            return Some(bytes.clone());
        }
        self.stats.disk_errors.increment();
        self.slices.remove(key);
        None
    }

    /// Keeps a whole slice.
    pub fn keep_slice(&self, key: SliceKey, bytes: Bytes) {
        self.slices.insert(key, bytes);
    }

    /// What is known of the object, where it is in memory.
    pub fn metadata_in_memory(&self, object: &ObjectId) -> Option<Arc<CachedMetadata>> {
        self.metadata_records.memory().get(object).map(|entry| Arc::clone(&entry.value().0))
    }

    /// What is known of the object.
    pub async fn metadata(&self, object: &ObjectId) -> Option<Arc<CachedMetadata>> {
        if let Some(meta) = self.metadata_in_memory(object) {
            return Some(meta);
        }
        let entry = from_disk(&self.metadata_records, object, &self.stats).await?;
        Some(Arc::clone(&entry.value().0))
    }

    /// Keeps what is known of an object.
    pub fn keep_metadata(&self, meta: Arc<CachedMetadata>) {
        let object = meta.version.object.clone();
        self.negative_entries.remove(&object);
        self.metadata_records.insert(object, MetadataRecord(meta));
    }

    /// Drops what is known of the object.
    pub fn forget_metadata(&self, object: &ObjectId) {
        self.metadata_records.remove(object);
    }

    /// Drops what is known of the object where that is still this version.
    pub fn forget_version(&self, version: &ObjectVersion) {
        let known = self.metadata_records.memory().get(&version.object);
        if known.is_none_or(|entry| *entry.value().0.version == *version) {
            self.forget_metadata(&version.object);
        }
    }

    /// The verdict on the object.
    pub fn negative_entry(&self, object: &ObjectId) -> Option<NegativeEntry> {
        self.negative_entries.get(object).map(|entry| *entry.value())
    }

    /// Keeps a verdict.
    pub fn keep_negative_entry(&self, object: ObjectId, verdict: NegativeEntry) {
        self.negative_entries.insert(object, verdict);
    }

    /// Drops all slices from memory: nobody will find them again.
    pub fn clear_memory(&self) {
        self.slices.memory().clear();
        self.negative_entries.clear();
    }

    /// Bytes of slices in memory.
    pub fn usage(&self) -> usize {
        self.slices.memory().usage()
    }

    /// Lets the disk finish what it was given.
    pub async fn close(&self) {
        let closed = futures::future::join(self.slices.close(), self.metadata_records.close()).await;
        if closed.0.and(closed.1).is_err() {
            self.stats.disk_errors.increment();
        }
    }
}

/// A hit in memory, or what the disk has. A failed read, or one that gave what was never written, is counted; the entry is
/// dropped, so that it fails once.
async fn from_disk<K: StorageKey + Clone, V: StorageValue + Clone>(
    cache: &HybridCache<K, V>,
    key: &K,
    stats: &CacheStats,
) -> Option<foyer::HybridCacheEntry<K, V>> {
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

fn with_preallocated_disk<K: StorageKey, V: StorageValue>(
    cache: HybridCache<K, V>,
    path: &Path,
) -> foyer::Result<HybridCache<K, V>> {
    disk::preallocate(path, &**cache.storage().device()).map_err(foyer::Error::io_error)?;
    Ok(cache)
}

/// Counts the slices that leave memory for others.
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
