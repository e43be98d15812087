//! `Cache`, and `Policies.OutputCache`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, ConfigText, TimeSpan};

/// The cache that all routes with an `OutputCachePolicy` share: objects in slices, in memory and on disk.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Cache {
    /// Bytes of one slice, from `16KiB` to `4MiB` in whole `4KiB`: what is fetched and kept at once. Default: `256KiB`.
    pub slice_size: Option<ByteSize>,
    /// Bytes of slices kept in memory, at least 16 slices. Default: `256MiB`.
    pub memory: Option<ByteSize>,
    /// Where slices are kept besides, to survive a restart. Default: nowhere.
    pub disk: Option<Disk>,
}

/// A folder of the cache's own, used by one process at a time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Disk {
    /// The folder; it is made where it is not there. May be `env:NAME`.
    pub path: ConfigText,
    /// Bytes that it takes, all of them at the start; at least `64MiB` and 64 slices.
    pub size: ByteSize,
}

/// How long what was fetched from the store is believed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct OutputCachePolicy {
    /// How long an object is taken for unchanged without asking the store. Default: `10s`.
    pub ttl: Option<TimeSpan>,
    /// Whether the object's own `Cache-Control` decides where it says something: `max-age`, `s-maxage`, `no-cache`,
    /// `no-store`, `private`, `must-revalidate`. Default: `false`.
    #[serde(default)]
    pub honour_cache_control: bool,
    /// How long after that it is still served at once, while the store is asked beside the request. Default: `10s`.
    pub stale_while_revalidate: Option<TimeSpan>,
    /// How long after that it is served when the store fails. Default: `1d`.
    pub stale_if_error: Option<TimeSpan>,
    /// How long the store's "no such object" is believed, at most `1m`. Default: `2s`.
    pub negative_ttl: Option<TimeSpan>,
    /// How long it is believed that the store denies an object, at most `1m`: for stores that say so of what is not there. Default: `0s`, not
    /// at all.
    pub denied_ttl: Option<TimeSpan>,
}
