//! Tokens that were not valid, by network. They are judged before they are counted, and counting keeps no valid one out:
//! a network is shared by many, and what has to be guessed is too long for it. The count makes guessing seen, and keeps
//! what it costs small.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::failed_attempts::FailedAttempts;
use primitives::clock::Clock;

/// Bad tokens of one network at once, and in each [`PERIOD`].
const MAX_INVALID_TOKENS: u32 = 60;
const PERIOD: Duration = Duration::from_secs(60);

/// The count.
pub struct InvalidTokenCounter {
    attempts: FailedAttempts,
    clock: Clock,
}

impl InvalidTokenCounter {
    /// Nobody has guessed yet.
    pub fn new(clock: Clock) -> Self {
        Self { attempts: FailedAttempts::new(MAX_INVALID_TOKENS, PERIOD), clock }
    }

    /// Counts a token from `address` that was not valid; where it is one too many, for how long further ones are. Those
    /// whose address is not known count as one.
    pub fn record(&self, address: Option<IpAddr>) -> Option<Duration> {
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.attempts.record(address, self.clock.unix_millis().cast_unsigned())
    }
}
