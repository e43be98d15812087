//! What the cache is told (`SliceCache`, `Policies.OutputCache.<name>`).

use std::path::PathBuf;
use std::time::Duration;

/// The cache that all routes with a policy share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of one slice: what is fetched and kept at once.
    pub slice_size: u32,
    /// Bytes of slices kept in memory.
    pub memory: u64,
    /// Where slices are kept besides, to survive a restart.
    pub disk: Option<DiskCacheSettings>,
}

/// A folder of the cache's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCacheSettings {
    /// The folder; it is made where it is not there.
    pub path: PathBuf,
    /// Bytes it takes, at most.
    pub size: u64,
}

impl Default for Settings {
    /// A slice is some seconds of music and a store's answer of a few milliseconds; the memory is that of a small machine.
    fn default() -> Self {
        Self { slice_size: 256 << 10, memory: 256 << 20, disk: None }
    }
}

/// How long what was fetched is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long an object is taken for unchanged without asking the store.
    pub ttl: Duration,
    /// Whether the object's own `SliceCache-CacheControl` decides where it says something.
    pub honour_cache_control: bool,
    /// How long after that it is still served while the store is asked beside the request.
    pub stale_while_revalidate: Duration,
    /// How long after that it is served when the store fails.
    pub stale_if_error: Duration,
    /// How long the store's "no such object" is believed.
    pub negative_ttl: Duration,
}

impl Default for CachePolicy {
    /// An overwritten object is seen within seconds; a store that is down for a day silences nothing that is cached.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            honour_cache_control: false,
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(86_400),
            negative_ttl: Duration::from_secs(2),
        }
    }
}
