//! Counters of the cache, and the cache status of a response.

use std::sync::atomic::{AtomicU64, Ordering};

/// Part that the cache took in a response (`docs/cache.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// All from the cache, without a request to the store.
    Hit,
    /// All from the store.
    Miss,
    /// Some slices from the cache, some from the store.
    Partial,
    /// From the cache after its TTL: the store is asked meanwhile, or cannot answer.
    Stale,
    /// From the cache, after the store confirmed the version.
    Revalidated,
    /// "No such object", remembered.
    Negative,
    /// Past the cache: the object cannot be cached.
    Bypass,
}

impl CacheStatus {
    /// Returns the name in logs, metrics and the debug header.
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

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        // Metrics need no order with other memory.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters since the start, for metrics.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Bytes sent to clients from memory.
    pub memory_bytes: Counter,
    /// Bytes sent to clients that were read from the disk for them.
    pub disk_bytes: Counter,
    /// Bytes sent to clients as they came from the store.
    pub store_bytes: Counter,
    /// Fills that asked the store.
    pub fills: Counter,
    /// Fills that brought the whole slice from the store.
    pub filled: Counter,
    /// Fills that failed.
    pub failed: Counter,
    /// Fills that were cancelled because no client wanted them any more.
    pub cancelled: Counter,
    /// Fills that were begun ahead of their reader.
    pub read_aheads: Counter,
    /// Requests to the store for an object's metadata.
    pub metadata_requests: Counter,
    /// Slices that memory gave up for others.
    pub evictions: Counter,
    /// Reads from the disk that failed or gave wrong data, and disks that could not be opened.
    pub disk_errors: Counter,
    /// Number of purges.
    pub purges: Counter,
}
