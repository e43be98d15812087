//! Circuit breaker of one destination: opens after five failed requests in a row, and lets one trial at a time through,
//! each after twice the wait. Rules: `docs/resilience.md`. Pure: the time is an argument.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Consecutive failed requests that open the breaker.
const FAILURE_THRESHOLD: usize = 5;
/// Time for which the breaker stays open at first.
const FIRST_OPEN_PERIOD: Duration = Duration::from_secs(1);
/// Longest time for which the breaker stays open.
const MAX_OPEN_PERIOD: Duration = Duration::from_secs(30);
// Every request looks through the list while the breaker is open, so it stays short; the oldest objects are forgotten
// first.
/// Most objects remembered as failed while the breaker is open.
const MAX_FAILED_OBJECTS: usize = 16;

/// Terms on which a request is sent to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPermit {
    /// The breaker is closed: the request is one of many.
    Normal,
    /// The request is the trial: its outcome decides about the requests that follow.
    Trial,
}

/// Identity of a client request and of the object that it asks for. All attempts of one request share it, so that it
/// counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdentity {
    number: u64,
    /// Digest of the object's name.
    object: u64,
}

impl RequestIdentity {
    /// Creates the identity of request `number` about `object`. Numbers must be unique within a cluster.
    pub fn new(number: u64, object: &impl Hash) -> Self {
        // A collision makes two objects look like one: that can only delay the breaker, never open it wrongly.
        let mut hasher = DefaultHasher::new();
        object.hash(&mut hasher);
        Self { number, object: hasher.finish() }
    }

    /// Returns the number of the request.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the digest of the object.
    pub(super) fn object(&self) -> u64 {
        self.object
    }
}

/// Kind of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection could be made.
    Unreachable,
    /// The connection broke, the response did not come or made no sense, or the server reported its own failure.
    Broken,
}

/// State of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// The wait is over: the next request is the trial, or one is under way.
    HalfOpen,
    /// No request passes.
    Open,
}

/// Circuit breaker of one destination; begins closed.
#[derive(Debug)]
pub struct CircuitBreaker {
    /// Failed requests since the last success, [`FAILURE_THRESHOLD`] at most.
    failures: Vec<(RequestIdentity, FailureKind)>,
    open_period: Option<OpenPeriod>,
    /// Time for which the breaker stays open when it opens next.
    next_rest: Duration,
}

#[derive(Debug)]
struct OpenPeriod {
    /// End of the wait, after which a trial may pass.
    until: Instant,
    /// Kind of the failure that opened the breaker.
    fault: FailureKind,
    /// True while a trial is under way.
    on_trial: bool,
    /// Digests of objects that failed although the server could be connected to. The server may be unable to give just
    /// these, so a trial about one of them says nothing about the others.
    failed_objects: Vec<u64>,
    /// End of the wait of those objects, and their next wait.
    failed_until: Instant,
    failed_rest: Duration,
}

impl OpenPeriod {
    fn until(&self, request: RequestIdentity) -> Instant {
        if self.failed_objects.contains(&request.object) { self.until.max(self.failed_until) } else { self.until }
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { failures: Vec::new(), open_period: None, next_rest: FIRST_OPEN_PERIOD }
    }
}

impl CircuitBreaker {
    /// Returns the terms on which `request` may pass at `now`; `None` where it may not. Changes nothing: call
    /// [`CircuitBreaker::enter`] once the request is sent.
    pub fn permit(&self, request: RequestIdentity, now: Instant) -> Option<BreakerPermit> {
        match &self.open_period {
            None => Some(BreakerPermit::Normal),
            Some(rest) if now >= rest.until(request) && !rest.on_trial => Some(BreakerPermit::Trial),
            Some(_) => None,
        }
    }

    /// Returns the state at `now`.
    pub fn state(&self, now: Instant) -> BreakerState {
        match &self.open_period {
            None => BreakerState::Closed,
            Some(rest) if now >= rest.until => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    /// Records that a request was admitted with permit `pass`.
    pub fn enter(&mut self, pass: BreakerPermit) {
        if let (BreakerPermit::Trial, Some(rest)) = (pass, &mut self.open_period) {
            rest.on_trial = true;
        }
    }

    /// Records a success: closes the breaker and forgets all failures. Any request proves that the server works, also
    /// one that began before the breaker opened.
    pub fn succeeded(&mut self) {
        // The usual success changes nothing.
        if self.open_period.is_some() || !self.failures.is_empty() || self.next_rest != FIRST_OPEN_PERIOD {
            *self = Self::default();
        }
    }

    /// Records at `now` that an attempt of `request` failed, admitted with permit `pass`. Returns true when this opens
    /// the breaker, for the first time or again after a trial.
    pub fn failed(&mut self, pass: BreakerPermit, fault: FailureKind, request: RequestIdentity, now: Instant) -> bool {
        let opens = match &mut self.open_period {
            None => self.count(fault, request),
            Some(rest) if pass == BreakerPermit::Trial => {
                // This object failed before the breaker opened: the place of the trial is free for another object at
                // once.
                let is_known = fault == FailureKind::Broken && rest.failed_objects.contains(&request.object);
                if is_known {
                    rest.on_trial = false;
                    rest.failed_until = now + rest.failed_rest;
                    rest.failed_rest = MAX_OPEN_PERIOD.min(rest.failed_rest * 2);
                }
                !is_known
            }
            // Sent before the breaker opened, or without its leave: says nothing new.
            Some(_) => false,
        };
        if opens {
            self.open(fault, request, now);
        }
        opens
    }

    fn open(&mut self, fault: FailureKind, request: RequestIdentity, now: Instant) {
        let mut failed_objects = self.open_period.take().map_or_else(Vec::new, |rest| rest.failed_objects);
        let last = (request, fault);
        for (failed, _) in self.failures.iter().chain([&last]).filter(|(_, fault)| *fault == FailureKind::Broken) {
            if !failed_objects.contains(&failed.object) {
                // Newest first, so that `truncate` drops the oldest.
                failed_objects.insert(0, failed.object);
            }
        }
        failed_objects.truncate(MAX_FAILED_OBJECTS);
        let until = now + self.next_rest;
        self.open_period = Some(OpenPeriod {
            until,
            fault,
            on_trial: false,
            failed_objects,
            failed_until: until,
            // Objects that failed wait twice as long as the trial, so that another object decides first.
            failed_rest: FIRST_OPEN_PERIOD * 2,
        });
        self.next_rest = MAX_OPEN_PERIOD.min(self.next_rest * 2);
        self.failures.clear();
    }

    /// Counts a failure; returns true when there are enough to open the breaker. Where connecting worked, failures of
    /// one object alone are never enough: the server may be unable to give just that object.
    fn count(&mut self, fault: FailureKind, request: RequestIdentity) -> bool {
        // A retry of a request that is already counted.
        if self.failures.iter().any(|(failed, _)| failed.number == request.number) {
            return false;
        }
        // Failures of one object fill the list without opening the breaker: the last one makes room for the new one.
        self.failures.truncate(FAILURE_THRESHOLD - 1);
        self.failures.push((request, fault));
        let is_one_object = self.failures.iter().all(|(failed, _)| failed.object == request.object);
        self.failures.len() == FAILURE_THRESHOLD && (fault == FailureKind::Unreachable || !is_one_object)
    }

    /// Records that a request ended without an outcome, because its client left. If it was the trial, the next request
    /// may be.
    pub fn abandoned(&mut self, pass: BreakerPermit) {
        if let (BreakerPermit::Trial, Some(rest)) = (pass, &mut self.open_period) {
            rest.on_trial = false;
        }
    }

    /// Records that a probe connected at `now`. If connecting was what failed, the next trial need not wait.
    pub fn probe_connected(&mut self, now: Instant) {
        if let Some(rest) = self.open_period.as_mut().filter(|rest| rest.fault == FailureKind::Unreachable) {
            rest.until = rest.until.min(now);
        }
    }

    /// Records that an active check succeeded at `now`. Once the wait is over this closes the breaker. The next wait
    /// doubles all the same until a request succeeds, because a server may pass its check and fail its clients.
    pub fn passed_check(&mut self, now: Instant) {
        if self.open_period.as_ref().is_some_and(|rest| now >= rest.until) {
            self.open_period = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    fn request(number: usize) -> RequestIdentity {
        RequestIdentity::new(number as u64, &number)
    }

    /// A request about an object that has not failed.
    fn other() -> RequestIdentity {
        request(1_000_000)
    }

    fn open(breaker: &mut CircuitBreaker, fault: FailureKind, now: Instant) {
        let opened: Vec<bool> = (0..FAILURE_THRESHOLD)
            .map(|number| breaker.failed(BreakerPermit::Normal, fault, request(number), now))
            .collect();
        assert_eq!(opened, [false, false, false, false, true]);
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let (mut breaker, now) = (CircuitBreaker::default(), monotonic_now());
        (0..4).for_each(|number| {
            assert!(!breaker.failed(BreakerPermit::Normal, FailureKind::Broken, request(number), now))
        });
        breaker.succeeded();
        assert_eq!(breaker.permit(other(), now), Some(BreakerPermit::Normal));
        open(&mut breaker, FailureKind::Broken, now);
        assert_eq!((breaker.permit(other(), now), breaker.state(now)), (None, BreakerState::Open));
    }

    #[test]
    fn a_request_is_one_failure_however_often_it_is_tried() {
        for fault in [FailureKind::Broken, FailureKind::Unreachable] {
            let (mut breaker, now) = (CircuitBreaker::default(), monotonic_now());
            for number in 0..4 {
                (0..3).for_each(|_| assert!(!breaker.failed(BreakerPermit::Normal, fault, request(number), now)));
            }
            assert!(breaker.failed(BreakerPermit::Normal, fault, request(4), now), "{fault:?}");
        }
    }

    #[test]
    fn one_object_alone_opens_it_only_where_nobody_can_connect() {
        let of_one = |number: u64| RequestIdentity::new(number, &"object");
        for (fault, opens) in [(FailureKind::Broken, false), (FailureKind::Unreachable, true)] {
            let (mut breaker, now) = (CircuitBreaker::default(), monotonic_now());
            (0..4).for_each(|number| assert!(!breaker.failed(BreakerPermit::Normal, fault, of_one(number), now)));
            assert_eq!(breaker.failed(BreakerPermit::Normal, fault, of_one(4), now), opens, "{fault:?}");
        }
        let (mut breaker, now) = (CircuitBreaker::default(), monotonic_now());
        (0..100).for_each(|number| {
            assert!(!breaker.failed(BreakerPermit::Normal, FailureKind::Broken, of_one(number), now))
        });
        assert!(breaker.failures.len() <= FAILURE_THRESHOLD);
        assert!(
            breaker.failed(BreakerPermit::Normal, FailureKind::Broken, request(1000), now),
            "another object fails too"
        );
    }

    #[test]
    fn a_check_closes_it_after_the_wait_which_grows_until_a_request_succeeds() {
        let (mut breaker, mut now) = (CircuitBreaker::default(), monotonic_now());
        for seconds in [1, 2, 4] {
            open(&mut breaker, FailureKind::Broken, now);
            let wait = Duration::from_secs(seconds);
            breaker.passed_check(now + wait - Duration::from_millis(1));
            assert_eq!(breaker.state(now), BreakerState::Open, "just before {seconds} s");
            now += wait;
            breaker.passed_check(now);
            assert_eq!(breaker.permit(other(), now), Some(BreakerPermit::Normal), "after {seconds} s");
        }
        breaker.succeeded();
        open(&mut breaker, FailureKind::Broken, now);
        breaker.passed_check(now + FIRST_OPEN_PERIOD);
        assert_eq!(breaker.permit(other(), now), Some(BreakerPermit::Normal));
    }

    #[test]
    fn trials_come_one_at_a_time_each_after_twice_the_wait() {
        let (mut breaker, mut now) = (CircuitBreaker::default(), monotonic_now());
        open(&mut breaker, FailureKind::Broken, now);
        for (number, seconds) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
            let wait = Duration::from_secs(seconds);
            assert_eq!(breaker.permit(other(), now + wait - Duration::from_millis(1)), None, "just before {seconds} s");
            now += wait;
            assert_eq!(
                (breaker.permit(other(), now), breaker.state(now)),
                (Some(BreakerPermit::Trial), BreakerState::HalfOpen)
            );
            breaker.enter(BreakerPermit::Trial);
            assert_eq!(breaker.permit(other(), now), None, "a second trial at {seconds} s");
            assert!(
                !breaker.failed(BreakerPermit::Normal, FailureKind::Broken, request(9), now),
                "a late failure counted at {seconds} s"
            );
            assert!(breaker.failed(BreakerPermit::Trial, FailureKind::Broken, request(100 + number), now));
        }
        now += MAX_OPEN_PERIOD;
        breaker.enter(BreakerPermit::Trial);
        breaker.succeeded();
        assert_eq!(
            (breaker.permit(other(), now), breaker.state(now)),
            (Some(BreakerPermit::Normal), BreakerState::Closed)
        );
        open(&mut breaker, FailureKind::Broken, now);
        assert_eq!(
            breaker.permit(other(), now + FIRST_OPEN_PERIOD),
            Some(BreakerPermit::Trial),
            "the wait begins anew"
        );
    }

    #[test]
    fn a_trial_of_an_object_that_had_failed_leaves_the_place_to_others() {
        let (mut breaker, now) = (CircuitBreaker::default(), monotonic_now());
        open(&mut breaker, FailureKind::Broken, now);
        let mut now = now + FIRST_OPEN_PERIOD;
        for seconds in [2, 4, 8] {
            breaker.enter(BreakerPermit::Trial);
            assert!(!breaker.failed(BreakerPermit::Trial, FailureKind::Broken, request(2), now), "{seconds}");
            assert_eq!(breaker.permit(other(), now), Some(BreakerPermit::Trial), "another object, at once");
            now += Duration::from_secs(seconds);
            let before = now - Duration::from_millis(1);
            assert_eq!(breaker.permit(request(3), before), None, "those that had failed, before {seconds} s");
            assert_eq!(breaker.permit(request(3), now), Some(BreakerPermit::Trial), "after {seconds} s");
        }
        breaker.enter(BreakerPermit::Trial);
        assert!(breaker.failed(BreakerPermit::Trial, FailureKind::Unreachable, request(2), now), "nobody can connect");
        assert_eq!(breaker.permit(other(), now + FIRST_OPEN_PERIOD), None);
    }

    #[test]
    fn an_abandoned_trial_leaves_the_place_to_the_next() {
        let (mut breaker, now) = (CircuitBreaker::default(), monotonic_now());
        open(&mut breaker, FailureKind::Broken, now);
        let later = now + FIRST_OPEN_PERIOD;
        breaker.enter(BreakerPermit::Trial);
        breaker.abandoned(BreakerPermit::Normal);
        assert_eq!(breaker.permit(other(), later), None);
        breaker.abandoned(BreakerPermit::Trial);
        assert_eq!(breaker.permit(other(), later), Some(BreakerPermit::Trial));
    }

    #[test]
    fn a_probe_shortens_the_wait_only_where_connecting_had_failed() {
        for (fault, expected) in [(FailureKind::Unreachable, Some(BreakerPermit::Trial)), (FailureKind::Broken, None)] {
            let (mut breaker, now) = (CircuitBreaker::default(), monotonic_now());
            open(&mut breaker, fault, now);
            breaker.probe_connected(now);
            assert_eq!(breaker.permit(other(), now), expected, "{fault:?}");
        }
    }
}
