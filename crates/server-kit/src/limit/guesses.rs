//! Tokens that were not valid, by network, so that guessing costs.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::attempts::FailedAttempts;
use primitives::clock::Clock;

/// Bad tokens of one network at once, and in each [`PERIOD`].
const MOST: u32 = 60;
const PERIOD: Duration = Duration::from_secs(60);

/// The count.
pub struct Guesses {
    attempts: FailedAttempts,
    clock: Clock,
}

impl Guesses {
    /// Nobody has guessed yet.
    pub fn new(clock: Clock) -> Self {
        Self { attempts: FailedAttempts::new(MOST, PERIOD), clock }
    }

    /// A token from `address` was not valid.
    pub fn count(&self, address: Option<IpAddr>) {
        self.attempts.record(known(address), self.now());
    }

    /// How long tokens from `address` that were not seen to be valid before are not looked at.
    pub fn refusal(&self, address: Option<IpAddr>) -> Option<Duration> {
        self.attempts.refusal(known(address), self.now())
    }

    fn now(&self) -> u64 {
        self.clock.unix_millis().cast_unsigned()
    }
}

/// Those whose address is not known count as one.
fn known(address: Option<IpAddr>) -> IpAddr {
    address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
