//! Count of invalid tokens, by network. Tokens are verified before they are counted, and the count keeps no valid one
//! out: many share a network, and a token is too long to be guessed. The count makes guessing visible, and keeps its
//! cost small.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::failed_attempts::FailedAttempts;
use primitives::clock::Clock;

/// Invalid tokens of one network at once, and in each [`PERIOD`].
const MAX_INVALID_TOKENS: u32 = 60;
const PERIOD: Duration = Duration::from_secs(60);

/// Counter of invalid tokens.
pub struct InvalidTokenCounter {
    attempts: FailedAttempts,
    clock: Clock,
}

impl InvalidTokenCounter {
    /// Creates an empty counter.
    pub fn new(clock: Clock) -> Self {
        Self { attempts: FailedAttempts::new(MAX_INVALID_TOKENS, PERIOD), clock }
    }

    /// Counts an invalid token from `address`; if it is one too many, returns the time for which further ones are
    /// refused. Unknown addresses count as one.
    pub fn record(&self, address: Option<IpAddr>) -> Option<Duration> {
        self.attempts.record(known_address(address), self.clock.unix_millis())
    }

    /// Returns true if the network of `address` has shown so many that further ones are refused.
    pub fn is_exhausted(&self, address: Option<IpAddr>) -> bool {
        self.attempts.refused_for(known_address(address), self.clock.unix_millis()).is_some()
    }
}

fn known_address(address: Option<IpAddr>) -> IpAddr {
    address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
