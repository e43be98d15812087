//! Settings of the cache (`Cache`, `Policies.OutputCache.<name>`).

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the cache that all routes with a policy share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size of a slice in bytes: the unit that is fetched and kept.
    pub slice_size: u32,
    /// Bytes of slices kept in memory.
    pub memory: u64,
    /// Disk cache, which survives a restart; `None`: memory only.
    pub disk: Option<DiskCacheSettings>,
}

/// Settings of the disk cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCacheSettings {
    /// Folder, for this process alone; created where it does not exist.
    pub path: PathBuf,
    /// Most bytes that it takes.
    pub size: u64,
}

impl Default for Settings {
    /// Returns defaults for a small machine: a slice is some seconds of music, which a store sends in a few
    /// milliseconds.
    fn default() -> Self {
        Self { slice_size: 256 << 10, memory: 256 << 20, disk: None }
    }
}

/// Freshness policy: the times for which cached objects are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// Time for which an object is served without asking the store.
    pub ttl: Duration,
    /// True if the object's own `Cache-Control` wins over `ttl` where it says something.
    pub honour_cache_control: bool,
    /// Time after that for which it is still served while the store is asked in the background.
    pub stale_while_revalidate: Duration,
    /// Time after that for which it is served if the store fails.
    pub stale_if_error: Duration,
    /// Time for which "no such object" is remembered.
    pub negative_ttl: Duration,
    /// Time for which a denial of the store is remembered; zero: it is not.
    pub denied_ttl: Duration,
}

impl Default for CachePolicy {
    /// Returns times with which an overwritten object is seen within seconds, and a store that is down for a day
    /// silences nothing cached.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            honour_cache_control: false,
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(86_400),
            negative_ttl: Duration::from_secs(2),
            // A denial may concern one moment, and says nothing of the object.
            denied_ttl: Duration::ZERO,
        }
    }
}
