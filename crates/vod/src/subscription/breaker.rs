//! Circuit breaker: a service that has failed several times in a row is left alone for a while, so that nobody waits for
//! its time limit.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row that open it.
const MAX_FAILURES: u32 = 5;
/// Time for which it stays open; then one request tries.
const OPEN_TIME: Duration = Duration::from_secs(5);

/// Circuit breaker.
#[derive(Default)]
pub struct CircuitBreaker(Mutex<BreakerState>);

#[derive(Default)]
struct BreakerState {
    failures: u32,
    open_until: Option<Instant>,
}

impl CircuitBreaker {
    /// Returns true if a request may be made now. While it is open, one request in [`OPEN_TIME`] may.
    pub fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        match state.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + OPEN_TIME);
                true
            }
        }
    }

    /// Notes the outcome of a request.
    pub fn record(&self, is_success: bool, now: Instant) {
        let mut state = self.0.lock();
        if is_success {
            *state = BreakerState::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= MAX_FAILURES {
            state.open_until = Some(now + OPEN_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    #[test]
    fn five_failures_open_it_and_one_request_at_a_time_tries_again() {
        let (breaker, now) = (CircuitBreaker::default(), monotonic_now());
        for _ in 0..MAX_FAILURES {
            assert!(breaker.admits(now));
            breaker.record(false, now);
        }
        assert!(!breaker.admits(now));
        let later = now + OPEN_TIME;
        assert!(breaker.admits(later), "the one that tries");
        assert!(!breaker.admits(later), "the others wait for it");
        breaker.record(true, later);
        assert!(breaker.admits(later));
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let (breaker, now) = (CircuitBreaker::default(), monotonic_now());
        for _ in 0..3 * MAX_FAILURES {
            breaker.record(false, now);
            breaker.record(true, now);
        }
        assert!(breaker.admits(now));
    }
}
