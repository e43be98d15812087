//! `Policies.RateLimiter`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, TimeSpan};

/// How much each may ask for and get. At least one limit; of `SlidingWindow`, `FixedWindow` and `TokenBucket` at most
/// one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct RateLimiterPolicy {
    /// Requests in a window that forgets one segment at a time.
    pub sliding_window: Option<SlidingWindow>,
    /// Requests in a window that begins anew at its end.
    pub fixed_window: Option<FixedWindow>,
    /// Requests from a bucket that fills up evenly.
    pub token_bucket: Option<TokenBucket>,
    /// Requests under way at once, each until the end of its answer: on object routes, streams.
    pub concurrency: Option<Concurrency>,
    /// How fast all answers of one subject go out together; by each node for itself.
    pub bandwidth: Option<Bandwidth>,
    /// How much one subject is sent in a period.
    pub egress_quota: Option<EgressQuota>,
    /// Who shares one count: `User` (who has no token, by address), `Address`, `Route`, or `Claim:NAME`. Default: `User`.
    pub partition_by: Option<String>,
}

/// Requests in a window that forgets one segment at a time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct SlidingWindow {
    /// Requests in a window.
    pub permit_limit: u32,
    /// The window's length, 1s to 7d.
    pub window: TimeSpan,
    /// Segments of the window, 1 to 60.
    pub segments_per_window: u32,
}

/// Requests in a window that begins anew at its end.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct FixedWindow {
    /// Requests in a window.
    pub permit_limit: u32,
    /// The window's length, 1s to 7d. Windows are counted from 1970, so that all nodes agree.
    pub window: TimeSpan,
}

/// Requests from a bucket that fills up evenly.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct TokenBucket {
    /// What the bucket holds: requests that can be made at once.
    pub token_limit: u32,
    /// Requests that come back in a period.
    pub tokens_per_period: u32,
    /// The period, 1s to 1d.
    pub replenishment_period: TimeSpan,
}

/// Requests under way at once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Concurrency {
    /// How many.
    pub permit_limit: u32,
}

/// A speed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Bandwidth {
    /// Bytes in a second, `1KiB` or more.
    pub bytes_per_second: ByteSize,
    /// Bytes that go out at once before the speed holds. Default: one second's.
    pub burst: Option<ByteSize>,
}

/// An amount in a period.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct EgressQuota {
    /// Bytes in a period.
    pub bytes: ByteSize,
    /// The period, 1m to 366d. Periods are counted from 1970. Default: `30d`.
    pub window: Option<TimeSpan>,
}
