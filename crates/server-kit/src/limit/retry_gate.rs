//! When what did not answer is asked again: one request a second tries, the others go on without it at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Between two tries, in milliseconds.
const RETRY_INTERVAL_MILLIS: u64 = 1000;

/// Whether something is being left alone.
#[derive(Debug, Default)]
pub struct RetryGate {
    /// The time of the next try; 0: it works.
    retry_at: AtomicU64,
}

impl RetryGate {
    /// Whether to ask it at `now`. Of those who come when the pause is over one is told to.
    pub fn may_try(&self, now: u64) -> bool {
        let until = self.retry_at.load(Ordering::Relaxed);
        let next = now + RETRY_INTERVAL_MILLIS;
        // A pause that ends further off than any does was begun by a clock that has been put right.
        until == 0
            || ((now >= until || until > next)
                && self.retry_at.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok())
    }

    /// It answered; true where it had not before.
    pub fn record_success(&self) -> bool {
        self.retry_at.load(Ordering::Relaxed) != 0 && self.retry_at.swap(0, Ordering::Relaxed) != 0
    }

    /// It did not answer at `now`; true where it had before.
    pub fn record_failure(&self, now: u64) -> bool {
        self.retry_at.swap(now + RETRY_INTERVAL_MILLIS, Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_a_second_tries_until_it_works() {
        let rest = RetryGate::default();
        assert!(rest.may_try(1) && rest.may_try(1) && !rest.record_success());
        assert!(rest.record_failure(1000) && !rest.record_failure(1001));
        assert!(!rest.may_try(1500));
        assert!(rest.may_try(2001) && !rest.may_try(2001), "one of them tries");
        assert!(rest.record_success() && rest.may_try(2002) && rest.may_try(2002));
    }
}
