//! Settings of limits: `Policies.RateLimiter`.

use std::sync::Arc;
use std::time::Duration;

/// All policies.
pub type Settings = Vec<RateLimitPolicy>;

/// Policy: the limits, at least one, and their partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitPolicy {
    /// Its name, which routes and API classes use.
    pub name: Arc<str>,
    /// Limit of requests.
    pub requests: Option<RequestLimit>,
    /// Most streams at once, each counted until the end of its response.
    pub streams: Option<u32>,
    /// Bandwidth that all responses of one subject share.
    pub bandwidth: Option<BandwidthLimit>,
    /// Bytes in a period.
    pub egress: Option<EgressQuota>,
    /// Partition of the counts.
    pub partition: LimitPartition,
}

#[cfg(test)]
impl RateLimitPolicy {
    /// Returns a policy of this quota alone, by user.
    pub fn quota(egress: EgressQuota) -> Self {
        Self {
            name: "quota".into(),
            requests: None,
            streams: None,
            bandwidth: None,
            egress: Some(egress),
            partition: LimitPartition::User,
        }
    }
}

/// Way to count requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLimit {
    /// Limit per window of `segments` segments, which forgets one segment at a time (.NET's `SlidingWindow`); with one
    /// segment it is a `FixedWindow`.
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
        /// Its capacity.
        tokens: u32,
        /// Tokens added in a period.
        refill: u32,
        /// The period.
        period: Duration,
    },
}

impl RequestLimit {
    /// Returns the most requests that can be made at once.
    pub fn limit(&self) -> u32 {
        match self {
            Self::Window { permits, .. } => *permits,
            Self::Bucket { tokens, .. } => *tokens,
        }
    }

    /// Returns the longest time until something comes back.
    pub fn longest_wait(&self) -> Duration {
        match self {
            Self::Window { segment, segments, .. } => segment.saturating_mul(*segments),
            Self::Bucket { period, .. } => *period,
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

/// Subject by which requests are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitPartition {
    /// User; without a token, the address.
    User,
    /// An address; of IPv6 a /64.
    Address,
    /// Everybody on a route, or in an API class.
    Route,
    /// Everybody with the same value of that claim; those without it share one count.
    Claim(Arc<str>),
}
