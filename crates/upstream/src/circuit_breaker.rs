//! The circuit breaker of one destination: after some requests in a row that failed it is left alone, then tried by one
//! request at a time, each time after twice the wait. Pure: the time is an argument.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Requests in a row that open it by failing.
const FAILURE_THRESHOLD: usize = 5;
/// The first wait.
const FIRST_OPEN_PERIOD: Duration = Duration::from_secs(1);
/// The longest wait.
const MAX_OPEN_PERIOD: Duration = Duration::from_secs(30);
/// Objects that are remembered to have failed while it is open.
const MAX_FAILED_OBJECTS: usize = 16;

/// On which terms a request goes to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPermit {
    /// As any other.
    Normal,
    /// It decides whether others may follow.
    Trial,
}

/// Tells requests apart, and what they are about. A request is one however often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdentity {
    number: u64,
    /// A digest of the object's name.
    object: u64,
}

impl RequestIdentity {
    /// The request of this number, about `object`.
    pub fn new(number: u64, object: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        object.hash(&mut hasher);
        Self { number, object: hasher.finish() }
    }

    /// The number of the request.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The digest of what it is about.
    pub(super) fn object(&self) -> u64 {
        self.object
    }
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection could be made.
    Unreachable,
    /// The connection broke, nothing or nonsense came, or the server said that it failed.
    Broken,
}

/// What a breaker does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets it through.
    Closed,
    /// Lets it through as a trial, or waits for the end of one.
    HalfOpen,
    /// Keeps it away.
    Open,
}

/// The breaker; it begins closed.
#[derive(Debug)]
pub struct CircuitBreaker {
    /// Requests that failed since the last one that succeeded, [`FAILURE_THRESHOLD`] at most.
    failures: Vec<(RequestIdentity, FailureKind)>,
    open_period: Option<OpenPeriod>,
    /// The wait when it opens next.
    next_rest: Duration,
}

#[derive(Debug)]
struct OpenPeriod {
    until: Instant,
    fault: FailureKind,
    on_trial: bool,
    /// Objects that failed although the server could be connected to: they may be what it cannot give, so that a trial about
    /// one of them tells nothing of the others.
    failed_objects: Vec<u64>,
    /// Until when those objects are left alone, and their next wait.
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
    /// On which terms `request` may pass at `now`.
    pub fn permit(&self, request: RequestIdentity, now: Instant) -> Option<BreakerPermit> {
        match &self.open_period {
            None => Some(BreakerPermit::Normal),
            Some(rest) if now >= rest.until(request) && !rest.on_trial => Some(BreakerPermit::Trial),
            Some(_) => None,
        }
    }

    /// Where it stands at `now`.
    pub fn state(&self, now: Instant) -> BreakerState {
        match &self.open_period {
            None => BreakerState::Closed,
            Some(rest) if now >= rest.until => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    /// A request passes on these terms.
    pub fn enter(&mut self, pass: BreakerPermit) {
        if let (BreakerPermit::Trial, Some(rest)) = (pass, &mut self.open_period) {
            rest.on_trial = true;
        }
    }

    /// A request was answered; by whichever request, that is proof enough.
    pub fn succeeded(&mut self) {
        if self.open_period.is_some() || !self.failures.is_empty() || self.next_rest != FIRST_OPEN_PERIOD {
            *self = Self::default();
        }
    }

    /// A try of `request` failed at `now`; true when that opens the breaker, anew or again.
    pub fn failed(&mut self, pass: BreakerPermit, fault: FailureKind, request: RequestIdentity, now: Instant) -> bool {
        let opens = match &mut self.open_period {
            None => self.count(fault, request),
            Some(rest) if pass == BreakerPermit::Trial => {
                let is_known = fault == FailureKind::Broken && rest.failed_objects.contains(&request.object);
                if is_known {
                    rest.on_trial = false;
                    rest.failed_until = now + rest.failed_rest;
                    rest.failed_rest = MAX_OPEN_PERIOD.min(rest.failed_rest * 2);
                }
                !is_known
            }
            // It began before the breaker opened, and says nothing new.
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
            failed_rest: FIRST_OPEN_PERIOD * 2,
        });
        self.next_rest = MAX_OPEN_PERIOD.min(self.next_rest * 2);
        self.failures.clear();
    }

    /// Counts a failure; true when there are enough. Where a connection could be made, requests for one object alone are
    /// never enough: it may be the object that the server cannot give.
    fn count(&mut self, fault: FailureKind, request: RequestIdentity) -> bool {
        if self.failures.iter().any(|(failed, _)| failed.number == request.number) {
            return false;
        }
        self.failures.truncate(FAILURE_THRESHOLD - 1);
        self.failures.push((request, fault));
        let is_one_object = self.failures.iter().all(|(failed, _)| failed.object == request.object);
        self.failures.len() == FAILURE_THRESHOLD && (fault == FailureKind::Unreachable || !is_one_object)
    }

    /// A request ended without a verdict, because its client left: the next one may be the trial.
    pub fn abandoned(&mut self, pass: BreakerPermit) {
        if let (BreakerPermit::Trial, Some(rest)) = (pass, &mut self.open_period) {
            rest.on_trial = false;
        }
    }

    /// A probe could connect at `now`: where that was what failed, a trial need not wait.
    pub fn probe_connected(&mut self, now: Instant) {
        if let Some(rest) = self.open_period.as_mut().filter(|rest| rest.fault == FailureKind::Unreachable) {
            rest.until = rest.until.min(now);
        }
    }

    /// An active check succeeded at `now`: that is the trial, once the wait is over. The next wait is longer all the same,
    /// until a request succeeds: a server may pass its check and fail its players.
    pub fn passed_check(&mut self, now: Instant) {
        if self.open_period.as_ref().is_some_and(|rest| now >= rest.until) {
            self.open_period = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: usize) -> RequestIdentity {
        RequestIdentity::new(number as u64, &number)
    }

    /// One about an object that has not failed.
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
        let (mut breaker, now) = (CircuitBreaker::default(), Instant::now());
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
            let (mut breaker, now) = (CircuitBreaker::default(), Instant::now());
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
            let (mut breaker, now) = (CircuitBreaker::default(), Instant::now());
            (0..4).for_each(|number| assert!(!breaker.failed(BreakerPermit::Normal, fault, of_one(number), now)));
            assert_eq!(breaker.failed(BreakerPermit::Normal, fault, of_one(4), now), opens, "{fault:?}");
        }
        let (mut breaker, now) = (CircuitBreaker::default(), Instant::now());
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
        let (mut breaker, mut now) = (CircuitBreaker::default(), Instant::now());
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
        let (mut breaker, mut now) = (CircuitBreaker::default(), Instant::now());
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
        let (mut breaker, now) = (CircuitBreaker::default(), Instant::now());
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
        let (mut breaker, now) = (CircuitBreaker::default(), Instant::now());
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
            let (mut breaker, now) = (CircuitBreaker::default(), Instant::now());
            open(&mut breaker, fault, now);
            breaker.probe_connected(now);
            assert_eq!(breaker.permit(other(), now), expected, "{fault:?}");
        }
    }
}
