//! Tokens that were not valid, by address, so that guessing costs: an estimate (count-min sketch) in constant memory
//! however many addresses try. It may count too many of an address, never too few.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::rate::Rate;

use super::subject;

/// Bad tokens of one address in [`PERIOD`] after which its new ones are not looked at any more.
const MOST: isize = 60;
/// How long that lasts.
const PERIOD: Duration = Duration::from_secs(60);

/// The count.
pub struct Guesses {
    rate: Rate,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { rate: Rate::new(PERIOD) }
    }
}

impl Guesses {
    /// A token from `address` was not valid.
    pub fn count(&self, address: Option<IpAddr>) {
        self.rate.observe(&subject::address(address), 1);
    }

    /// How long tokens from `address` that were not seen to be valid before are not looked at.
    pub fn refusal(&self, address: Option<IpAddr>) -> Option<Duration> {
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
