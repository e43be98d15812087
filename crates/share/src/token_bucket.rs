//! Token buckets: rate limits with an average and a burst.

use std::net::IpAddr;
use std::time::Duration;

use primitives::unix_time::UnixMillis;
use server_kit::failed_attempts::FailedAttempts;

/// Token bucket that fills at an even rate up to its burst.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    level: f64,
    filled_at: UnixMillis,
}

impl TokenBucket {
    /// Creates a full bucket of `burst` tokens that gains `per_second` tokens a second.
    pub fn new(per_second: f64, burst: f64, now: UnixMillis) -> Self {
        Self { per_second, burst, level: burst, filled_at: now }
    }

    /// Takes `amount`; fails with the time until it is there. An amount above the burst is taken from a full bucket.
    pub fn take(&mut self, amount: f64, now: UnixMillis) -> Result<(), Duration> {
        // A chunk of a megabyte must pass a bucket of less at some time.
        let missing = amount.min(self.burst) - self.fill(now);
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / self.per_second));
        }
        self.level -= amount.min(self.burst);
        Ok(())
    }

    /// Returns whether there is less than `amount`.
    pub fn is_below(&mut self, amount: f64, now: UnixMillis) -> bool {
        self.fill(now) < amount
    }

    fn fill(&mut self, now: UnixMillis) -> f64 {
        // A clock that was set back fills nothing and starts anew from there.
        let passed = now - self.filled_at;
        self.filled_at = now;
        self.level = (self.level + passed.as_secs_f64() * self.per_second).min(self.burst);
        self.level
    }
}

/// Limit of wrong guesses by network: of session ids, which are few enough to try them all, and of credentials.
pub struct GuessLimit(FailedAttempts);

/// Wrong guesses of a network at once, and per minute.
const GUESSES_PER_MINUTE: u32 = 20;

impl Default for GuessLimit {
    fn default() -> Self {
        Self(FailedAttempts::new(GUESSES_PER_MINUTE, Duration::from_secs(60)))
    }
}

impl GuessLimit {
    /// Returns whether `address` has guessed too often.
    pub fn is_blocked(&self, address: IpAddr, now: UnixMillis) -> bool {
        self.0.refused_for(address, now).is_some()
    }

    /// Counts a wrong guess; where it is one too many, returns for how long further ones are.
    pub fn record_miss(&self, address: IpAddr, now: UnixMillis) -> Option<Duration> {
        self.0.record(address, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(2.0, 4.0, at(0));
        for _ in 0..4 {
            assert_eq!(bucket.take(1.0, at(0)), Ok(()));
        }
        assert_eq!(bucket.take(1.0, at(0)), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(1.0, at(500)), Ok(()));
        assert!(bucket.take(1.0, at(500)).is_err());
        assert_eq!(bucket.take(4.0, at(60_000)), Ok(()), "it never holds more than its burst");
        assert!(bucket.take(1.0, at(60_000)).is_err());
        assert_eq!(
            bucket.take(1.0, at(30_000)).err(),
            Some(Duration::from_millis(500)),
            "a clock set back gives nothing"
        );
    }

    #[test]
    fn twenty_wrong_guesses_a_minute_block_an_address_and_no_other() {
        let guesses = GuessLimit::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..20 {
            assert!(!guesses.is_blocked(one, at(0)));
            assert_eq!(guesses.record_miss(one, at(0)), None);
        }
        assert_eq!(guesses.record_miss(one, at(0)), Some(Duration::from_secs(3)));
        assert!(guesses.is_blocked(one, at(0)));
        assert!(!guesses.is_blocked(other, at(0)));
        assert!(!guesses.is_blocked(one, at(3_000)), "after three seconds there is one more");
    }
}
