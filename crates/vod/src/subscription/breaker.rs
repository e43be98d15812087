//! Circuit breaker: a service that has failed for several users in a row is left alone for a while, so that nobody waits
//! for its time limit.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use primitives::ids::UserId;

/// Users for whom it fails, with no success in between, that open it. One user's requests never do, however many: the
/// service may fail for that user alone.
const MAX_FAILED_USERS: usize = 5;
/// Time for which it stays open; then one request tries.
const OPEN_TIME: Duration = Duration::from_secs(5);

/// Circuit breaker.
#[derive(Default)]
pub struct CircuitBreaker(Mutex<BreakerState>);

#[derive(Default)]
struct BreakerState {
    /// Users for whom it failed last; at most [`MAX_FAILED_USERS`].
    failed: HashSet<UserId>,
    open_until: Option<Instant>,
}

impl CircuitBreaker {
    /// Returns true if a request about `user` may be made now. While it is open, one request in [`OPEN_TIME`] may; one
    /// about a user for whom it failed only if nobody else has come for as long again.
    pub fn admits(&self, user: &UserId, now: Instant) -> bool {
        let mut state = self.0.lock();
        let Some(until) = state.open_until else { return true };
        let wait = if state.failed.contains(user) { OPEN_TIME } else { Duration::ZERO };
        let is_admitted = until + wait <= now;
        if is_admitted {
            state.open_until = Some(now + OPEN_TIME);
        }
        is_admitted
    }

    /// Notes that the service works.
    pub fn succeeded(&self) {
        *self.0.lock() = BreakerState::default();
    }

    /// Notes that the service failed when it was asked about `user`.
    pub fn failed(&self, user: &UserId, now: Instant) {
        let mut state = self.0.lock();
        if state.failed.len() < MAX_FAILED_USERS {
            state.failed.insert(user.clone());
        }
        if state.failed.len() >= MAX_FAILED_USERS {
            state.open_until = Some(now + OPEN_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    fn user(number: usize) -> UserId {
        UserId::parse(format!("user-{number}")).expect("an id")
    }

    #[test]
    fn failures_for_five_users_open_it_and_one_request_at_a_time_tries_again() {
        let (breaker, now) = (CircuitBreaker::default(), monotonic_now());
        for number in 0..MAX_FAILED_USERS {
            assert!(breaker.admits(&user(number), now));
            breaker.failed(&user(number), now);
        }
        assert!(!breaker.admits(&user(9), now));
        let later = now + OPEN_TIME;
        assert!(!breaker.admits(&user(0), later), "it failed for this one");
        assert!(breaker.admits(&user(9), later), "the one that tries");
        assert!(!breaker.admits(&user(8), later), "the others wait for it");
        assert!(breaker.admits(&user(0), later + 2 * OPEN_TIME), "nobody else has come");
        breaker.succeeded();
        assert!(breaker.admits(&user(0), later));
    }

    #[test]
    fn one_users_failures_never_open_it() {
        let (breaker, now) = (CircuitBreaker::default(), monotonic_now());
        for _ in 0..100 {
            breaker.failed(&user(0), now);
        }
        assert!(breaker.admits(&user(1), now));
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let (breaker, now) = (CircuitBreaker::default(), monotonic_now());
        for number in 0..3 * MAX_FAILED_USERS {
            breaker.failed(&user(number), now);
            breaker.succeeded();
        }
        assert!(breaker.admits(&user(0), now));
    }
}
