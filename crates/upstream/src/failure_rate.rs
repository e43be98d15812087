//! Failure rate of one destination (YARP's `TransportFailureRate`): takes it out for a time when too many requests of
//! the last minute failed. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::circuit_breaker::{FailureKind, RequestIdentity};
use super::settings::PassiveHealthCheck;
use super::sliding_window::{SlidingWindow, WindowCounts};

/// Length of the window in seconds, as in YARP.
const FAILURE_RATE_SECONDS: usize = 60;
/// Requests below which there is no rate: one failure of two would be 50 %.
const MIN_REQUESTS: u64 = 10;
/// Failed requests remembered with their object, in 40 KiB. Of more, the newest stand for all.
const MAX_FAILED: usize = 1024;

/// Failure rate of a destination, and the time until which it is out.
#[derive(Debug)]
pub struct FailureRate {
    settings: PassiveHealthCheck,
    /// Requests; the marked ones failed.
    window: SlidingWindow<FAILURE_RATE_SECONDS>,
    /// Requests that failed, the oldest first.
    failed: VecDeque<FailedRequest>,
    unhealthy_until: Option<Instant>,
}

#[derive(Debug)]
struct FailedRequest {
    at: Instant,
    number: u64,
    /// Digest of the object; `None` where the object cannot be the reason, because connecting failed.
    object: Option<u64>,
}

impl FailureRate {
    /// Creates the rate of a destination without requests.
    pub fn new(settings: PassiveHealthCheck, now: Instant) -> Self {
        Self { settings, window: SlidingWindow::new(now), failed: VecDeque::new(), unhealthy_until: None }
    }

    /// Returns true if the destination is out at `now`.
    pub fn is_unhealthy(&self, now: Instant) -> bool {
        self.unhealthy_until.is_some_and(|until| now < until)
    }

    /// Records a success at `now`.
    pub fn succeeded(&mut self, now: Instant) {
        // Outcomes of requests that began before it was taken out must not count against the time after it.
        if !self.is_unhealthy(now) {
            self.window.add(WindowCounts { total: 1, marked: 0 }, now);
            // The tenth request makes a rate of the failures before it.
            self.judge(now);
        }
    }

    /// Records that an attempt of `request` failed at `now`. A request counts as one failure however often it was
    /// tried.
    pub fn failed(&mut self, fault: FailureKind, request: RequestIdentity, now: Instant) {
        // From the newest: a retry of the same request is most likely there.
        if self.is_unhealthy(now) || self.failed.iter().rev().any(|failed| failed.number == request.number()) {
            return;
        }
        if self.failed.len() == MAX_FAILED {
            self.failed.pop_front();
        }
        let object = (fault == FailureKind::Broken).then(|| request.object());
        self.failed.push_back(FailedRequest { at: now, number: request.number(), object });
        self.window.add(WindowCounts { total: 1, marked: 1 }, now);
        self.judge(now);
    }

    fn judge(&mut self, now: Instant) {
        let oldest = Duration::from_secs(FAILURE_RATE_SECONDS as u64);
        while self.failed.front().is_some_and(|failed| now.saturating_duration_since(failed.at) >= oldest) {
            self.failed.pop_front();
        }
        let counts = self.window.counts(now);
        // The cheap test first: failures of one object can only lower the rate. As `f64`, counts are exact up to 2^53.
        if counts.total < MIN_REQUESTS || (counts.marked as f64) < self.settings.failure_rate * counts.total as f64 {
            return;
        }
        let left_out = self.failures_of_one_object(counts.marked);
        let (total, failures) = (counts.total - left_out, counts.marked - left_out);
        if total >= MIN_REQUESTS && failures > 0 && failures as f64 >= self.settings.failure_rate * total as f64 {
            self.unhealthy_until = Some(now + self.settings.reactivation);
            // It comes back with a clean slate, or old failures would take it out again at once.
            self.window = SlidingWindow::new(now);
            self.failed.clear();
        }
    }

    /// Returns how many of `failures` do not count: one object may have no more failures than all others together,
    /// because the server may be unable to give just that object.
    fn failures_of_one_object(&self, failures: u64) -> u64 {
        // Only an object with most of the failures can have too many. Boyer and Moore's majority vote finds it in one
        // pass.
        let (mut candidate, mut votes) = (None, 0_usize);
        for object in self.failed.iter().map(|failed| failed.object) {
            match (votes, object == candidate && object.is_some()) {
                (0, _) => (candidate, votes) = (object, 1),
                (_, true) => votes += 1,
                (_, false) => votes -= 1,
            }
        }
        let of_one = self.failed.iter().filter(|failed| failed.object.is_some() && failed.object == candidate).count();
        let (of_one, remembered) = (of_one as u64, self.failed.len() as u64);
        // The remembered failures are a sample of all: scale up to the number in the window.
        let of_one = (failures * of_one).checked_div(remembered).unwrap_or(0);
        of_one.saturating_sub(failures - of_one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    fn rate(now: Instant) -> FailureRate {
        FailureRate::new(PassiveHealthCheck::default(), now)
    }

    fn request(number: u64) -> RequestIdentity {
        RequestIdentity::new(number, &number)
    }

    fn of_one(number: u64) -> RequestIdentity {
        RequestIdentity::new(number, &"object")
    }

    #[test]
    fn too_high_a_failure_rate_takes_it_out_until_it_is_reactivated() {
        let start = monotonic_now();
        for (answered, failed, unhealthy) in
            [(7, 2, false), (8, 3, false), (6, 3, false), (7, 3, true), (70, 29, false), (70, 30, true)]
        {
            let mut rate = rate(start);
            (0..answered).for_each(|_| rate.succeeded(start));
            (0..failed).for_each(|number| rate.failed(FailureKind::Broken, request(number), start));
            assert_eq!(rate.is_unhealthy(start), unhealthy, "{failed} of {}", answered + failed);
            assert!(!rate.is_unhealthy(start + Duration::from_secs(60)));
        }
    }

    #[test]
    fn failures_of_the_last_minute_only_make_the_rate() {
        let start = monotonic_now();
        let mut rate = rate(start);
        (0..9).for_each(|number| rate.failed(FailureKind::Broken, request(number), start));
        let later = start + Duration::from_secs(60);
        (0..9).for_each(|_| rate.succeeded(later));
        rate.failed(FailureKind::Broken, request(9), later);
        assert!(!rate.is_unhealthy(later));
        assert_eq!(rate.failed.len(), 1);
    }

    #[test]
    fn a_request_is_one_failure_of_the_rate_however_often_it_is_tried() {
        let now = monotonic_now();
        let mut rate = rate(now);
        (0..8).for_each(|_| rate.succeeded(now));
        for _ in 0..10 {
            (0..2).for_each(|number| rate.failed(FailureKind::Unreachable, request(number), now));
        }
        assert!(!rate.is_unhealthy(now), "2 of 10");
    }

    #[test]
    fn one_object_counts_no_more_than_all_others_together() {
        let now = monotonic_now();
        for (fault, of_one_object, others, answered, unhealthy) in [
            (FailureKind::Broken, 5000, 0, 20, false),
            (FailureKind::Unreachable, 20, 0, 0, true),
            (FailureKind::Broken, 1000, 1, 20, false),
            (FailureKind::Broken, 1000, 5, 20, true),
            (FailureKind::Broken, 5, 5, 0, true),
        ] {
            let mut rate = rate(now);
            (0..answered).for_each(|_| rate.succeeded(now));
            let mut unhealthy_since = false;
            for number in 0..of_one_object {
                rate.failed(fault, of_one(number), now);
                unhealthy_since |= rate.is_unhealthy(now);
            }
            for number in 0..others {
                rate.failed(fault, request(1_000_000 + number), now);
                unhealthy_since |= rate.is_unhealthy(now);
            }
            let case = format!("{fault:?}: {of_one_object} of one, {others} of others, {answered} answered");
            assert_eq!(unhealthy_since, unhealthy, "{case}");
            assert!(rate.failed.len() <= MAX_FAILED);
        }
    }
}
