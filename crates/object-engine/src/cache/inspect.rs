//! What the cache has of an object, for operators: nothing is fetched, and nothing is counted.

use std::sync::Arc;

use serde::Serialize;

use super::SliceCache;
use super::cache_keys::SliceKey;
use super::cached_metadata::Freshness;
use crate::ObjectOrigin;

/// Most slices that are looked up.
const MAX_SLICES_CHECKED: u64 = 4096;

/// What the cache has of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedObjectState {
    /// `fresh`, `stale` (the store is asked), or `never` (it must not be cached).
    pub freshness: &'static str,
    /// Seconds since the store was asked.
    pub age: u64,
    /// Size of the object in bytes.
    pub size: u64,
    /// Its slices that are in memory or, most likely, on disk.
    pub kept_slices: u64,
    /// All its slices, or the first 4,096.
    pub slices: u64,
}

impl SliceCache {
    /// Returns what is there of the object `key` of `origin`; `None` where nothing is.
    pub async fn inspect(&self, origin: &ObjectOrigin, key: &str) -> Option<CachedObjectState> {
        let policy = &origin.cache.as_ref()?.policy;
        let topic = self.metadata_key(origin, key);
        let store = self.slice_store.load_full();
        let found = store.metadata(&topic.object).await.filter(|found| found.version.epoch >= topic.epoch)?;
        let slices = found.version.size.div_ceil(u64::from(self.slice_size)).min(MAX_SLICES_CHECKED);
        let slice = |number| SliceKey { version: Arc::clone(&found.version), number, size: self.slice_size };
        Some(CachedObjectState {
            freshness: match found.freshness(policy, self.now()) {
                Freshness::Fresh => "fresh",
                Freshness::Stale { .. } => "stale",
                Freshness::Never => "never",
            },
            age: found.age(self.now()),
            size: found.version.size,
            kept_slices: (0..slices).filter(|number| store.may_contain(&slice(*number))).count() as u64,
            slices,
        })
    }
}
