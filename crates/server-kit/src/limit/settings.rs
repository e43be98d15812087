//! What the operator says of limits: `Policies.RateLimiter`.

use std::sync::Arc;
use std::time::Duration;

/// All policies.
pub type Settings = Vec<RateLimitPolicy>;

/// One policy: what is limited, and for whom. At least one of the limits is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitPolicy {
    /// Its name, which routes and API classes use.
    pub name: Arc<str>,
    /// How many requests.
    pub requests: Option<RequestLimit>,
    /// How many at once, each counted until the end of its answer.
    pub streams: Option<u32>,
    /// How fast all answers of one subject together.
    pub bandwidth: Option<BandwidthLimit>,
    /// How much in a period.
    pub egress: Option<EgressQuota>,
    /// Who shares one count.
    pub partition: LimitPartition,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLimit {
    /// So many in a window of `segments` segments, which forgets one segment at a time (.NET's `SlidingWindow`); with
    /// one segment it is a `FixedWindow`.
    Window {
        /// Requests in a window.
        permits: u32,
        /// The length of a segment.
        segment: Duration,
        /// Segments in a window.
        segments: u32,
    },
    /// A bucket that fills up evenly.
    Bucket {
        /// What it holds.
        tokens: u32,
        /// What comes back in a period.
        refill: u32,
        /// The period.
        period: Duration,
    },
}

impl RequestLimit {
    /// The most requests that can be made at once.
    pub fn limit(&self) -> u32 {
        match self {
            Self::Window { permits, .. } => *permits,
            Self::Bucket { tokens, .. } => *tokens,
        }
    }
}

/// A speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandwidthLimit {
    /// Bytes in a second.
    pub rate: u64,
    /// Bytes that may go ahead of it.
    pub burst: u64,
}

/// An amount in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressQuota {
    /// Bytes in a period.
    pub bytes: u64,
    /// The period; periods are counted from 1970, so that all nodes agree.
    pub period: Duration,
}

/// Who shares one count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitPartition {
    /// A user; who has no token, an address.
    User,
    /// An address; of IPv6 a /64.
    Address,
    /// Everybody on a route, or in an API class.
    Route,
    /// Everybody with the same value of that claim; those without it share one count.
    Claim(Arc<str>),
}
