//! Retry budget of a cluster, as Finagle and Linkerd have it: each request deposits a tenth of a retry, which is valid
//! for ten seconds, and three retries a second are free, so that a cluster with little traffic has some. A store that
//! is down thus costs at most a tenth more than one that works.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::sliding_window::{SlidingWindow, WindowCounts};

/// Time in seconds for which a request counts.
const WINDOW_SECONDS: usize = 10;
/// Requests that pay for one retry.
const REQUESTS_PER_RETRY: u64 = 10;
/// Retries in a window that need no deposit: three a second.
const FREE_RETRIES: u64 = 3 * WINDOW_SECONDS as u64;

/// Retry budget of one cluster.
#[derive(Debug)]
pub struct RetryBudget {
    /// Requests; the marked ones are retries, which do not count as requests.
    window: Mutex<SlidingWindow<WINDOW_SECONDS>>,
    exhausted: AtomicU64,
}

impl RetryBudget {
    /// Creates a budget at `now` that holds the free retries only.
    pub fn new(now: Instant) -> Self {
        Self { window: Mutex::new(SlidingWindow::new(now)), exhausted: AtomicU64::new(0) }
    }

    /// Deposits the share of one request at `now`. Call it once for each request, not for retries.
    pub fn deposit(&self, now: Instant) {
        self.window.lock().add(WindowCounts { total: 1, marked: 0 }, now);
    }

    /// Withdraws one retry at `now`. Returns false when none is left; then the failure must stand.
    pub fn try_withdraw(&self, now: Instant) -> bool {
        // One lock over reading and adding: two callers cannot both take the last retry.
        let mut window = self.window.lock();
        let WindowCounts { total: requests, marked: retries } = window.counts(now);
        // Multiplied instead of divided, so that nothing is rounded.
        let granted = (retries + 1) * REQUESTS_PER_RETRY <= requests + FREE_RETRIES * REQUESTS_PER_RETRY;
        if granted {
            window.add(WindowCounts { total: 0, marked: 1 }, now);
        } else {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
        }
        granted
    }

    /// Returns the number of retries that were not granted since the start.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use primitives::clock::monotonic_now;
    use std::time::{Duration, Instant};

    use super::RetryBudget;

    /// Retries granted of `wanted` after `requests`, all at `now`.
    fn granted(budget: &RetryBudget, requests: u32, wanted: u32, now: Instant) -> usize {
        (0..requests).for_each(|_| budget.deposit(now));
        (0..wanted).filter(|_| budget.try_withdraw(now)).count()
    }

    #[test]
    fn retries_are_a_tenth_of_the_requests_and_three_a_second() {
        for (requests, expected) in [(0, 30), (9, 30), (10, 31), (100, 40), (1000, 130)] {
            let now = monotonic_now();
            let budget = RetryBudget::new(now);
            assert_eq!(granted(&budget, requests, 500, now), expected, "after {requests} requests");
            assert_eq!(budget.exhausted(), 500 - expected as u64);
        }
    }

    #[test]
    fn what_was_paid_in_and_taken_out_is_forgotten_after_ten_seconds() {
        let start = monotonic_now();
        let budget = RetryBudget::new(start);
        assert_eq!(granted(&budget, 1000, 500, start), 130);
        assert_eq!(granted(&budget, 0, 10, start + Duration::from_secs(9)), 0);
        assert_eq!(granted(&budget, 0, 500, start + Duration::from_secs(10)), 30);
    }

    #[test]
    fn a_dead_store_gets_a_tenth_more_in_the_long_run() {
        let start = monotonic_now();
        let budget = RetryBudget::new(start);
        let retries: usize =
            (0..60).map(|second| granted(&budget, 1000, 3000, start + Duration::from_secs(second))).sum();
        // 60,000 requests that each want three more tries.
        assert!((6000..=6000 + 3 * 60 + 130).contains(&retries), "{retries}");
    }
}
