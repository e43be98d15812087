//! Health of a destination, from three sources: the circuit breaker, the failure rate of its requests (YARP's passive
//! check) and the results of probes (YARP's active check). Pure but for a lock: the time is an argument.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::circuit_breaker::{BreakerPermit, BreakerState, CircuitBreaker, FailureKind, RequestIdentity};
use super::failure_rate::FailureRate;
use super::settings::HealthCheckSettings;

/// State of a destination, as metrics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// In use.
    Healthy,
    /// Taken out of use by the active or the passive check.
    Unhealthy,
    /// Taken out of use by the circuit breaker.
    Open,
    /// The breaker waits for a trial or for its outcome.
    HalfOpen,
}

impl HealthState {
    /// All states, for metrics that report each of them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Unhealthy, Self::Open, Self::HalfOpen];

    /// Returns the value of the label `state` in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Health of a destination.
#[derive(Debug)]
pub struct DestinationHealth {
    sources: Mutex<HealthSources>,
    // Outside the lock: readiness and metrics read them without waiting for requests.
    reachable: AtomicBool,
    opened: AtomicU64,
    opening: Notify,
}

#[derive(Debug)]
struct HealthSources {
    breaker: CircuitBreaker,
    passive: Option<FailureRate>,
    active: Option<ConsecutiveFailures>,
}

impl DestinationHealth {
    /// Creates the health of a destination about which nothing is known yet: it is available.
    pub fn new(settings: &HealthCheckSettings, now: Instant) -> Self {
        let passive = settings.passive.map(|passive| FailureRate::new(passive, now));
        let active =
            settings.active.as_ref().map(|active| ConsecutiveFailures { threshold: active.threshold, failures: 0 });
        Self {
            sources: Mutex::new(HealthSources { breaker: CircuitBreaker::default(), passive, active }),
            reachable: AtomicBool::new(true),
            opened: AtomicU64::new(0),
            opening: Notify::new(),
        }
    }

    /// Returns the state at `now`.
    pub fn state(&self, now: Instant) -> HealthState {
        let verdicts = self.sources.lock();
        // An open breaker is reported before the checks: it keeps requests away whatever they say.
        match verdicts.breaker.state(now) {
            BreakerState::Open => HealthState::Open,
            BreakerState::Closed | BreakerState::HalfOpen if verdicts.is_unhealthy(now) => HealthState::Unhealthy,
            BreakerState::HalfOpen => HealthState::HalfOpen,
            BreakerState::Closed => HealthState::Healthy,
        }
    }

    /// Returns true if `request` would be admitted at `now`. Another request may become the trial before
    /// [`DestinationHealth::enter`] is called.
    pub fn is_available(&self, request: RequestIdentity, now: Instant) -> bool {
        self.sources.lock().pass(request, now).is_some()
    }

    /// Admits `request` at `now` and returns the terms; `None` where breaker or checks refuse it.
    pub fn enter(&self, request: RequestIdentity, now: Instant) -> Option<BreakerPermit> {
        let mut verdicts = self.sources.lock();
        let pass = verdicts.pass(request, now)?;
        verdicts.breaker.enter(pass);
        Some(pass)
    }

    /// Records that a request was answered at `now`.
    pub fn succeeded(&self, now: Instant) {
        let mut verdicts = self.sources.lock();
        verdicts.breaker.succeeded();
        if let Some(passive) = &mut verdicts.passive {
            passive.succeeded(now);
        }
    }

    /// Records that an attempt of `request` failed at `now`, before its response; `pass` is the permit that it was
    /// admitted with.
    pub fn failed(&self, pass: BreakerPermit, fault: FailureKind, request: RequestIdentity, now: Instant) {
        let mut verdicts = self.sources.lock();
        if verdicts.breaker.failed(pass, fault, request, now) {
            self.opened.fetch_add(1, Ordering::Relaxed);
            // `notify_one` keeps the signal for a prober that is not waiting yet.
            self.opening.notify_one();
        }
        if let Some(passive) = &mut verdicts.passive {
            passive.failed(fault, request, now);
        }
    }

    /// Records that the response to `request` broke off after its head. The breaker already counted the head as a
    /// success: a server that answers is not down.
    pub fn broke_off(&self, request: RequestIdentity, now: Instant) {
        if let Some(passive) = &mut self.sources.lock().passive {
            passive.failed(FailureKind::Broken, request, now);
        }
    }

    /// Records that a request ended without an outcome, because its client left.
    pub fn abandoned(&self, pass: BreakerPermit) {
        // Only a trial leaves something to undo; other requests end without the lock.
        if pass == BreakerPermit::Trial {
            self.sources.lock().breaker.abandoned(pass);
        }
    }

    /// Records the outcome of a probe at `now`.
    pub fn probed(&self, success: bool, now: Instant) {
        self.reachable.store(success, Ordering::Relaxed);
        let mut verdicts = self.sources.lock();
        let HealthSources { breaker, active, .. } = &mut *verdicts;
        match active {
            // Saturating: a server may be down for longer than the counter can count.
            Some(active) => active.failures = if success { 0 } else { active.failures.saturating_add(1) },
            // Without an active check a probe only connects, which proves less than a response does.
            None if success => return breaker.probe_connected(now),
            None => {}
        }
        if success {
            breaker.passed_check(now);
        }
    }

    /// Returns true if the last probe succeeded, and before the first one.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Waits until the breaker opens; returns at once where it opened since the last call.
    pub async fn opening(&self) {
        self.opening.notified().await;
    }

    /// Returns how often the breaker opened since the start, failed trials included.
    pub fn breaker_openings(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

impl HealthSources {
    /// Returns the terms on which `request` may pass at `now`; `None` where it may not. With an active check the probe
    /// is the trial, never a client's request.
    fn pass(&self, request: RequestIdentity, now: Instant) -> Option<BreakerPermit> {
        let pass = self.breaker.permit(request, now).filter(|_| !self.is_unhealthy(now))?;
        (pass == BreakerPermit::Normal || self.active.is_none()).then_some(pass)
    }

    fn is_unhealthy(&self, now: Instant) -> bool {
        self.active.as_ref().is_some_and(ConsecutiveFailures::is_unhealthy)
            || self.passive.as_ref().is_some_and(|passive| passive.is_unhealthy(now))
    }
}

/// YARP's `ConsecutiveFailures`: unhealthy after `threshold` failed probes in a row, until a probe succeeds.
#[derive(Debug)]
struct ConsecutiveFailures {
    threshold: u32,
    failures: u32,
}

impl ConsecutiveFailures {
    fn is_unhealthy(&self) -> bool {
        self.failures >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{ActiveHealthCheck, PassiveHealthCheck};
    use primitives::clock::monotonic_now;

    fn actively() -> HealthCheckSettings {
        HealthCheckSettings { active: Some(ActiveHealthCheck::default()), ..HealthCheckSettings::default() }
    }

    fn request(number: u64) -> RequestIdentity {
        RequestIdentity::new(number, &number)
    }

    #[test]
    fn two_failed_probes_in_a_row_take_it_out_and_a_good_one_brings_it_back() {
        let now = monotonic_now();
        let health = DestinationHealth::new(&actively(), now);
        for (success, state) in [
            (false, HealthState::Healthy),
            (true, HealthState::Healthy),
            (false, HealthState::Healthy),
            (false, HealthState::Unhealthy),
            (false, HealthState::Unhealthy),
            (true, HealthState::Healthy),
        ] {
            health.probed(success, now);
            assert_eq!((health.state(now), health.is_reachable()), (state, success));
        }
    }

    #[test]
    fn what_is_not_checked_has_no_say() {
        let now = monotonic_now();
        let health = DestinationHealth::new(&HealthCheckSettings::default(), now);
        (0..20).for_each(|number| health.broke_off(request(number), now));
        (0..5).for_each(|_| health.probed(false, now));
        assert!(health.is_available(request(99), now) && !health.is_reachable());
    }

    #[test]
    fn a_body_that_broke_off_counts_for_the_passive_check_alone_and_a_client_that_left_for_none() {
        let now = monotonic_now();
        let passive = || HealthCheckSettings { passive: Some(PassiveHealthCheck::default()), ..Default::default() };
        for (settings, state) in
            [(HealthCheckSettings::default(), HealthState::Healthy), (passive(), HealthState::Unhealthy)]
        {
            let health = DestinationHealth::new(&settings, now);
            for number in 0..20 {
                let permit = health.enter(request(number), now).expect("nothing is against it");
                health.abandoned(permit);
            }
            assert_eq!((health.state(now), health.breaker_openings()), (HealthState::Healthy, 0));
            (0..20).for_each(|number| health.broke_off(request(number), now));
            assert_eq!((health.state(now), health.breaker_openings()), (state, 0));
        }
    }

    fn fail(health: &DestinationHealth, now: Instant) {
        (0..9).for_each(|number| health.failed(BreakerPermit::Normal, FailureKind::Unreachable, request(number), now));
    }

    #[test]
    fn the_breaker_opens_and_counts_it() {
        let now = monotonic_now();
        let health = DestinationHealth::new(&HealthCheckSettings::default(), now);
        fail(&health, now);
        assert_eq!(
            (health.state(now), health.breaker_openings(), health.enter(request(99), now)),
            (HealthState::Open, 1, None)
        );
        health.probed(true, now);
        assert_eq!(
            (health.state(now), health.enter(request(99), now)),
            (HealthState::HalfOpen, Some(BreakerPermit::Trial))
        );
        assert_eq!(health.enter(request(99), now), None);
        health.failed(BreakerPermit::Trial, FailureKind::Unreachable, request(100), now);
        assert_eq!((health.state(now), health.breaker_openings()), (HealthState::Open, 2));
    }

    #[test]
    fn an_active_check_is_the_trial_in_place_of_a_request() {
        let now = monotonic_now();
        let health = DestinationHealth::new(&actively(), now);
        fail(&health, now);
        let later = now + Duration::from_secs(1);
        assert_eq!((health.state(later), health.enter(request(99), later)), (HealthState::HalfOpen, None));
        health.probed(false, later);
        assert_eq!((health.is_available(request(99), later), health.state(later)), (false, HealthState::HalfOpen));
        health.probed(true, later);
        assert_eq!(
            (health.state(later), health.enter(request(99), later)),
            (HealthState::Healthy, Some(BreakerPermit::Normal))
        );
    }
}
