//! The circuit breaker of one destination: after some failures in a row it is left alone, then tried by one request at a
//! time, each time after twice the wait. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const LIMIT: u32 = 5;
/// The first wait.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// On which terms a request goes to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// As any other.
    Free,
    /// It decides whether others may follow.
    Trial,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection could be made.
    Unreachable,
    /// The connection broke, nothing or nonsense came, or the server said that it failed.
    Broken,
}

/// What a breaker does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Lets it through.
    Closed,
    /// Lets it through as a trial, or waits for the end of one.
    HalfOpen,
    /// Keeps it away.
    Open,
}

/// The breaker; it begins closed.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    length: Duration,
    fault: Fault,
    on_trial: bool,
}

impl Breaker {
    /// On which terms a request may pass at `now`.
    pub fn pass(&self, now: Instant) -> Option<Pass> {
        match &self.rest {
            None => Some(Pass::Free),
            Some(rest) if now >= rest.until && !rest.on_trial => Some(Pass::Trial),
            Some(_) => None,
        }
    }

    /// Where it stands at `now`.
    pub fn position(&self, now: Instant) -> Position {
        match &self.rest {
            None => Position::Closed,
            Some(rest) if now >= rest.until => Position::HalfOpen,
            Some(_) => Position::Open,
        }
    }

    /// A request passes on these terms.
    pub fn enter(&mut self, pass: Pass) {
        if let (Pass::Trial, Some(rest)) = (pass, &mut self.rest) {
            rest.on_trial = true;
        }
    }

    /// A request was answered; by whichever request, that is proof enough.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A request failed at `now`; true when that opens the breaker, anew or again.
    pub fn failed(&mut self, pass: Pass, fault: Fault, now: Instant) -> bool {
        let length = match &self.rest {
            None => {
                self.failures += 1;
                if self.failures < LIMIT {
                    return false;
                }
                FIRST_REST
            }
            Some(rest) if pass == Pass::Trial => LONGEST_REST.min(rest.length * 2),
            // It began before the breaker opened, and says nothing new.
            Some(_) => return false,
        };
        self.rest = Some(Rest { until: now + length, length, fault, on_trial: false });
        true
    }

    /// A request ended without a verdict, because its client left: the next one may be the trial.
    pub fn abandoned(&mut self, pass: Pass) {
        if let (Pass::Trial, Some(rest)) = (pass, &mut self.rest) {
            rest.on_trial = false;
        }
    }

    /// A probe could connect at `now`: where that was what failed, a trial need not wait.
    pub fn reached(&mut self, now: Instant) {
        if let Some(rest) = self.rest.as_mut().filter(|rest| rest.fault == Fault::Unreachable) {
            rest.until = rest.until.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(breaker: &mut Breaker, fault: Fault, now: Instant) {
        let opened: Vec<bool> = (0..LIMIT).map(|_| breaker.failed(Pass::Free, fault, now)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        (0..4).for_each(|_| assert!(!breaker.failed(Pass::Free, Fault::Broken, now)));
        breaker.succeeded();
        assert_eq!(breaker.pass(now), Some(Pass::Free));
        open(&mut breaker, Fault::Broken, now);
        assert_eq!((breaker.pass(now), breaker.position(now)), (None, Position::Open));
    }

    #[test]
    fn trials_come_one_at_a_time_each_after_twice_the_wait() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        open(&mut breaker, Fault::Broken, now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(breaker.pass(now + wait - Duration::from_millis(1)), None, "just before {seconds} s");
            now += wait;
            assert_eq!((breaker.pass(now), breaker.position(now)), (Some(Pass::Trial), Position::HalfOpen));
            breaker.enter(Pass::Trial);
            assert_eq!(breaker.pass(now), None, "a second trial at {seconds} s");
            assert!(!breaker.failed(Pass::Free, Fault::Broken, now), "a late failure counted at {seconds} s");
            assert!(breaker.failed(Pass::Trial, Fault::Broken, now));
        }
        now += LONGEST_REST;
        breaker.enter(Pass::Trial);
        breaker.succeeded();
        assert_eq!((breaker.pass(now), breaker.position(now)), (Some(Pass::Free), Position::Closed));
        open(&mut breaker, Fault::Broken, now);
        assert_eq!(breaker.pass(now + FIRST_REST), Some(Pass::Trial), "the wait begins anew");
    }

    #[test]
    fn an_abandoned_trial_leaves_the_place_to_the_next() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        open(&mut breaker, Fault::Broken, now);
        let later = now + FIRST_REST;
        breaker.enter(Pass::Trial);
        breaker.abandoned(Pass::Free);
        assert_eq!(breaker.pass(later), None);
        breaker.abandoned(Pass::Trial);
        assert_eq!(breaker.pass(later), Some(Pass::Trial));
    }

    #[test]
    fn a_probe_shortens_the_wait_only_where_connecting_had_failed() {
        for (fault, expected) in [(Fault::Unreachable, Some(Pass::Trial)), (Fault::Broken, None)] {
            let (mut breaker, now) = (Breaker::default(), Instant::now());
            open(&mut breaker, fault, now);
            breaker.reached(now);
            assert_eq!(breaker.pass(now), expected, "{fault:?}");
        }
    }
}
