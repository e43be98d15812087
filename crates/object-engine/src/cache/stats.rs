//! What the cache counts, and how a response came about.

use std::sync::atomic::{AtomicU64, Ordering};

/// How the cache took part in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// All from the cache, without a question to the store.
    Hit,
    /// From the store.
    Miss,
    /// Some slices from the cache, some from the store.
    Partial,
    /// From the cache after its time was over: the store is asked meanwhile, or cannot be asked.
    Stale,
    /// All from the cache, after the store said that the object is the same.
    Revalidated,
    /// The store's "no such object", remembered.
    Negative,
    /// Past the cache: the object cannot be kept.
    Bypass,
}

impl CacheStatus {
    /// Its name in logs, metrics and the operator's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Partial => "partial",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Negative => "negative",
            Self::Bypass => "bypass",
        }
    }
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers since the start, for metrics.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Bytes sent to players out of memory.
    pub memory_bytes: Counter,
    /// Bytes sent to players that were read from the disk for them.
    pub disk_bytes: Counter,
    /// Bytes sent to players as they came from the store.
    pub store_bytes: Counter,
    /// Slices asked of the store.
    pub fills: Counter,
    /// Slices that came whole.
    pub filled: Counter,
    /// Slices that could not be had.
    pub failed: Counter,
    /// Slices given up because nobody wanted them any more.
    pub cancelled: Counter,
    /// Slices fetched ahead of their reader.
    pub read_aheads: Counter,
    /// Questions to the store about an object.
    pub metadata_requests: Counter,
    /// Slices dropped from memory for others.
    pub evictions: Counter,
    /// Reads from the disk that failed or gave what was not written, and a disk that could not be opened.
    pub disk_errors: Counter,
    /// Purges.
    pub purges: Counter,
}
