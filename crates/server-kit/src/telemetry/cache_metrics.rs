//! Metrics of the cache: it counts by itself, and its counts are read at each scrape.

use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters of the cache since the start, and the memory that it uses now.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheSnapshot {
    /// Bytes sent to players out of memory.
    pub memory_bytes: u64,
    /// Bytes sent to players that were read from the disk for them.
    pub disk_bytes: u64,
    /// Bytes sent to players as they came from the store.
    pub store_bytes: u64,
    /// Slices requested from the store.
    pub fills: u64,
    /// Slices that arrived completely.
    pub filled: u64,
    /// Slices that could not be fetched.
    pub failed: u64,
    /// Slices given up because nobody wanted them any more.
    pub cancelled: u64,
    /// Slices fetched ahead of their reader.
    pub read_aheads: u64,
    /// Metadata requests to the store.
    pub metadata_requests: u64,
    /// Slices dropped from memory for others.
    pub evictions: u64,
    /// Failures of the disk.
    pub disk_errors: u64,
    /// Purges.
    pub purges: u64,
    /// Bytes of slices in memory now.
    pub memory_used: u64,
}

/// Source of the counts.
pub type CacheSnapshotSource = Arc<dyn Fn() -> CacheSnapshot + Send + Sync>;

/// Metrics of the cache; none until there is a cache.
#[derive(Default)]
pub struct CacheMetrics {
    shown: OnceLock<RegisteredCacheMetrics>,
}

struct RegisteredCacheMetrics {
    read: CacheSnapshotSource,
    bytes: IntCounterVec,
    fills: IntCounterVec,
    started: IntCounter,
    ahead: IntCounter,
    questions: IntCounter,
    evictions: IntCounter,
    disk_errors: IntCounter,
    purges: IntCounter,
    memory_used: IntGauge,
}

impl CacheMetrics {
    /// Registers the metrics; `read` is asked at every scrape.
    pub fn register(&self, registry: &Registry, read: CacheSnapshotSource) -> Result<(), prometheus::Error> {
        let labelled = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        let shown = RegisteredCacheMetrics {
            read,
            bytes: labelled("tidegate_cache_bytes_total", "Bytes sent to players, by where they were", "source")?,
            fills: labelled("tidegate_cache_fills_ended_total", "Slices fetched, by how that ended", "outcome")?,
            started: IntCounter::new("tidegate_cache_fills_total", "Slices asked of a store")?,
            ahead: IntCounter::new("tidegate_cache_read_ahead_total", "Slices fetched ahead of their reader")?,
            questions: IntCounter::new("tidegate_cache_questions_total", "Questions to a store about an object")?,
            evictions: IntCounter::new("tidegate_cache_evictions_total", "Slices dropped from memory for others")?,
            disk_errors: IntCounter::new(
                "tidegate_cache_disk_errors_total",
                "Failures of the disk cache, each of them a miss: it cannot be opened, read, or gives what was not written",
            )?,
            purges: IntCounter::new("tidegate_cache_purges_total", "Purges")?,
            memory_used: IntGauge::new("tidegate_cache_memory_bytes", "Bytes of slices in memory")?,
        };
        registry.register(Box::new(shown.bytes.clone()))?;
        registry.register(Box::new(shown.fills.clone()))?;
        for counter in
            [&shown.started, &shown.ahead, &shown.questions, &shown.evictions, &shown.disk_errors, &shown.purges]
        {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(shown.memory_used.clone()))?;
        // A second cache in one process is not made; the first one stays.
        let _ = self.shown.set(shown);
        self.update();
        Ok(())
    }

    /// Updates the metrics to the counts of the cache.
    pub fn update(&self) {
        let Some(shown) = self.shown.get() else { return };
        let now = (shown.read)();
        let raise = |counter: &IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        for (source, bytes) in [("memory", now.memory_bytes), ("disk", now.disk_bytes), ("store", now.store_bytes)] {
            raise(&shown.bytes.with_label_values(&[source]), bytes);
        }
        for (outcome, count) in [("whole", now.filled), ("failed", now.failed), ("cancelled", now.cancelled)] {
            raise(&shown.fills.with_label_values(&[outcome]), count);
        }
        raise(&shown.started, now.fills);
        raise(&shown.ahead, now.read_aheads);
        raise(&shown.questions, now.metadata_requests);
        raise(&shown.evictions, now.evictions);
        raise(&shown.disk_errors, now.disk_errors);
        raise(&shown.purges, now.purges);
        shown.memory_used.set(i64::try_from(now.memory_used).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted_until_then() {
        let (registry, metrics, count) = (Registry::new(), CacheMetrics::default(), Arc::new(AtomicU64::new(2)));
        let counted = Arc::clone(&count);
        let read = move || CacheSnapshot { disk_bytes: counted.load(Ordering::Relaxed), ..CacheSnapshot::default() };
        metrics.register(&registry, Arc::new(read)).expect("they register");
        for now in [2, 5] {
            count.store(now, Ordering::Relaxed);
            metrics.update();
            let text = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
            assert!(text.contains(&format!("tidegate_cache_bytes_total{{source=\"disk\"}} {now}\n")), "{text}");
        }
    }
}
