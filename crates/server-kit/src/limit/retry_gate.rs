//! Gate for a dependency that did not answer: one request per second tries it, the others go on without it at once.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use primitives::unix_time::UnixMillis;

/// Interval between two tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// State of the gate.
#[derive(Debug, Default)]
pub struct RetryGate {
    /// Time of the next try in milliseconds since the Unix epoch; 0 while the dependency works.
    retry_at: AtomicI64,
}

impl RetryGate {
    /// Returns true if the caller may try at `now`. Of those that come after the pause only one may.
    pub fn may_try(&self, now: UnixMillis) -> bool {
        let until = self.retry_at.load(Ordering::Relaxed);
        let (now, next) = (now.as_millis(), (now + RETRY_INTERVAL).as_millis());
        // A pause that ends later than any can was begun by a clock that has been put right since.
        until == 0
            || ((now >= until || until > next)
                && self.retry_at.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok())
    }

    /// Records an answer; returns true if a failure was on record.
    pub fn record_success(&self) -> bool {
        // A load first: the swap would write the cache line of every request while all is well.
        self.retry_at.load(Ordering::Relaxed) != 0 && self.retry_at.swap(0, Ordering::Relaxed) != 0
    }

    /// Records a missing answer at `now`; returns true if no failure was on record.
    pub fn record_failure(&self, now: UnixMillis) -> bool {
        self.retry_at.swap((now + RETRY_INTERVAL).as_millis(), Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn after_a_failure_one_a_second_tries_until_it_works() {
        let rest = RetryGate::default();
        assert!(rest.may_try(at(1)) && rest.may_try(at(1)) && !rest.record_success());
        assert!(rest.record_failure(at(1000)) && !rest.record_failure(at(1001)));
        assert!(!rest.may_try(at(1500)));
        assert!(rest.may_try(at(2001)) && !rest.may_try(at(2001)), "one of them tries");
        assert!(rest.record_success() && rest.may_try(at(2002)) && rest.may_try(at(2002)));
    }
}
