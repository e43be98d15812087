//! Tokens that were not valid, by address, so that guessing costs: an estimate (count-min sketch) in constant memory
//! however many addresses try. It may count too many of an address, never too few.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pingora_limits::rate::Rate;

use super::subject;

/// Bad tokens of one address in [`PERIOD`] after which its new ones are not looked at any more.
const MOST: isize = 60;
/// How long that lasts.
const PERIOD: Duration = Duration::from_secs(60);

/// The count.
pub struct Guesses {
    rate: Rate,
    began: Instant,
    /// Until when there may be anything to refuse, in seconds after `began`: mostly nobody guesses, and nothing has to be
    /// looked up.
    until: AtomicU64,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { rate: Rate::new(PERIOD), began: Instant::now(), until: AtomicU64::new(0) }
    }
}

impl Guesses {
    /// A token from `address` was not valid.
    pub fn count(&self, address: Option<IpAddr>) {
        self.rate.observe(&subject::address(address), 1);
        // The rate of the period before is heeded too.
        self.until.fetch_max((self.began.elapsed() + 3 * PERIOD).as_secs(), Ordering::Relaxed);
    }

    /// How long tokens from `address` that were not seen to be valid before are not looked at.
    pub fn refusal(&self, address: Option<IpAddr>) -> Option<Duration> {
        if self.began.elapsed().as_secs() >= self.until.load(Ordering::Relaxed) {
            return None;
        }
        (self.rate.observe(&subject::address(address), 0) >= MOST).then_some(PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_that_guesses_is_refused() {
        let guesses = Guesses::default();
        let (bad, good) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
        for _ in 0..MOST {
            assert_eq!(guesses.refusal(bad), None);
            guesses.count(bad);
        }
        assert_eq!(guesses.refusal(bad), Some(PERIOD));
        assert_eq!(guesses.refusal(good), None);
    }
}
