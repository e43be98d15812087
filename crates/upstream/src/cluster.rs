//! A running cluster: chooses the destination of each attempt.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use url::Url;

use super::circuit_breaker::RequestIdentity;
use super::destination::{Destination, InFlightRequest, UpstreamContext};
use super::health::DestinationHealth;
use super::resolver;
use super::retry_budget::RetryBudget;
use super::session_affinity::SessionAffinity;
use super::settings::{self, ActiveHealthCheck, AvailabilityPolicy};
use super::tls::UpstreamTlsConnector;
use primitives::clock::monotonic_now;
use primitives::lifecycle::BackgroundTasks;
use routing::load_balancing::{LoadBalancing, choose_destination};

/// A cluster with its destinations and its retry budget.
pub struct Cluster {
    settings: settings::ClusterSettings,
    members: Vec<ClusterMember>,
    budget: RetryBudget,
    affinity: Option<SessionAffinity>,
    // Counts choices; `RoundRobin` and the tie-break of `LeastRequests` go by it.
    turn: AtomicUsize,
    /// Number of requests so far; numbers the next [`RequestIdentity`].
    requests: AtomicU64,
}

/// A destination with the settings that only its cluster knows.
#[derive(Clone)]
pub struct ClusterMember {
    /// The server, its connections and its health.
    pub destination: Arc<Destination>,
    /// Value of `Host` to send instead of the host and port of `address`.
    pub host: Option<String>,
    /// Address of the server as configured; its path is a prefix of every request's path.
    pub address: Url,
    /// Server and address that probes go to instead of `destination`.
    pub(super) probe: Option<(Arc<Destination>, Url)>,
}

/// Factory of clusters that share TLS trust anchors, resolver and background tasks.
#[derive(Clone)]
pub struct ClusterFactory {
    context: UpstreamContext,
    /// Key of affinity where the settings have none: made once, so that sessions outlast a reload.
    affinity_key: [u8; 32],
}

impl Default for ClusterFactory {
    fn default() -> Self {
        Self::new(BackgroundTasks::default())
    }
}

impl ClusterFactory {
    /// Creates a factory whose clusters run their background work in `tasks`. Reads the system's trust anchors.
    pub fn new(tasks: BackgroundTasks) -> Self {
        Self {
            context: UpstreamContext { tls: UpstreamTlsConnector::new(), resolver: resolver::system_resolver(), tasks },
            affinity_key: rand::random(),
        }
    }

    /// Builds the cluster that `settings` describe. A destination whose address has no host or known port is left out.
    pub fn build(&self, settings: &settings::ClusterSettings) -> Cluster {
        self.build_after(settings, None)
    }

    /// Builds the cluster that `settings` describe, in place of `previous`: a destination under the same settings is
    /// taken over with its connections and its health.
    pub fn rebuild(&self, settings: &settings::ClusterSettings, previous: &Cluster) -> Cluster {
        self.build_after(settings, Some(previous))
    }

    fn build_after(&self, settings: &settings::ClusterSettings, previous: Option<&Cluster>) -> Cluster {
        // One time for all parts: their windows then begin together.
        let now = monotonic_now();
        let member = |member: &settings::DestinationSettings| {
            let kept = previous.and_then(|previous| previous.unchanged_member(member, settings));
            kept.cloned().or_else(|| self.member(member, settings, now))
        };
        let mut members: Vec<ClusterMember> = settings.destinations.iter().filter_map(member).collect();
        // `choose_destination` takes the first one for this policy, and the file may list them in any order.
        if settings.load_balancing == LoadBalancing::FirstAlphabetical {
            members.sort_by(|a, b| a.destination.id().cmp(b.destination.id()));
        }
        Cluster {
            settings: settings.clone(),
            members,
            budget: RetryBudget::new(now),
            affinity: settings.affinity.as_ref().map(|it| SessionAffinity::new(it, &settings.id, &self.affinity_key)),
            turn: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
        }
    }

    fn member(
        &self,
        settings: &settings::DestinationSettings,
        cluster: &settings::ClusterSettings,
        now: Instant,
    ) -> Option<ClusterMember> {
        let at = |address: &Url| {
            // The health of a probe address is never asked: results of its probes are recorded at the destination
            // itself.
            let health = DestinationHealth::new(&cluster.health, now);
            Destination::new(Arc::clone(&settings.id), address, cluster.http_version, &self.context, health)
                .map(Arc::new)
        };
        let destination = at(&settings.address)?;
        let probe = settings.probe.as_ref().and_then(|address| Some((at(address)?, address.clone())));
        Some(ClusterMember { destination, host: settings.host.clone(), address: settings.address.clone(), probe })
    }
}

impl Cluster {
    /// Returns the id in the YAML.
    pub fn id(&self) -> &Arc<str> {
        &self.settings.id
    }

    /// Returns the settings that it was built from.
    pub fn settings(&self) -> &settings::ClusterSettings {
        &self.settings
    }

    /// Returns the member with these settings in a cluster of the same health checks and HTTP version.
    fn unchanged_member(
        &self,
        wanted: &settings::DestinationSettings,
        cluster: &settings::ClusterSettings,
    ) -> Option<&ClusterMember> {
        let is_configured = self.settings.destinations.contains(wanted)
            && self.settings.health == cluster.health
            && self.settings.http_version == cluster.http_version;
        self.members.iter().find(|member| is_configured && *member.destination.id() == wanted.id)
    }

    /// Returns all destinations: sorted by id under `FirstAlphabetical`, else in the order of the file.
    pub fn members(&self) -> &[ClusterMember] {
        &self.members
    }

    /// Returns the budget that every retry of this cluster is taken from.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Returns the settings of the active health check; `None` where probes only connect.
    pub fn active_check(&self) -> Option<&ActiveHealthCheck> {
        self.settings.health.active.as_ref()
    }

    /// Returns true if the last probe of at least one destination succeeded, or none was probed yet.
    pub fn is_reachable(&self) -> bool {
        self.members.iter().any(|member| member.destination.health().is_reachable())
    }

    /// Identifies a new request about `object`. All attempts of the request pass the same identity to
    /// [`Cluster::pick`].
    pub fn identify(&self, object: &impl Hash) -> RequestIdentity {
        // The number must only be unique; it orders nothing.
        RequestIdentity::new(self.requests.fetch_add(1, Ordering::Relaxed), object)
    }

    /// Chooses the destination for the next attempt of `request` at `now` and counts the request there until the guard
    /// is dropped. Prefers available destinations that are not in `tried`, then any available one. Returns `None` where
    /// none is available, except under `HealthyOrPanic`, which then uses all of them.
    pub fn pick(
        &self,
        request: RequestIdentity,
        tried: &[Arc<str>],
        now: Instant,
    ) -> Option<(&ClusterMember, InFlightRequest)> {
        // A cluster of one server is the usual case: it needs no list of candidates and no random number.
        if let [only] = self.members.as_slice()
            && let Some(in_flight) = only.destination.enter(request, now)
        {
            return Some((only, in_flight));
        }
        // Availability is only a filter: `enter` decides again under the lock, because another request may have become
        // the trial.
        let available = |member: &&ClusterMember| member.destination.health().is_available(request, now);
        let fresh = |member: &&ClusterMember| !tried.contains(member.destination.id());
        let enter = |member: &ClusterMember| member.destination.enter(request, now);
        self.choose(self.members.iter().filter(|member| available(member) && fresh(member)), enter)
            .or_else(|| self.choose(self.members.iter().filter(available), enter))
            .or_else(|| {
                let panics = self.settings.health.available == AvailabilityPolicy::HealthyOrPanic;
                let anyway = |member: &ClusterMember| Some(member.destination.enter_unconditionally(request));
                let all = || self.members.iter().filter(|_| panics);
                self.choose(all().filter(fresh), anyway).or_else(|| self.choose(all(), anyway))
            })
    }

    /// Returns the affinity of sessions, if the cluster has any.
    pub fn affinity(&self) -> Option<&SessionAffinity> {
        self.affinity.as_ref()
    }

    /// Chooses the destination `id` for `request` at `now`, as [`Cluster::pick`] does; `None` where it is not there, or not
    /// available while another one is.
    pub fn pick_destination(
        &self,
        id: &str,
        request: RequestIdentity,
        now: Instant,
    ) -> Option<(&ClusterMember, InFlightRequest)> {
        let member = self.members.iter().find(|member| **member.destination.id() == *id)?;
        let in_flight = member.destination.enter(request, now).or_else(|| {
            let panics = self.settings.health.available == AvailabilityPolicy::HealthyOrPanic;
            let is_last = || !self.members.iter().any(|it| it.destination.health().is_available(request, now));
            (panics && is_last()).then(|| member.destination.enter_unconditionally(request))
        });
        in_flight.map(|in_flight| (member, in_flight))
    }

    /// Chooses one of `candidates` by the policy, until `enter` lets the request in; `None` where no candidate does.
    fn choose<'a>(
        &'a self,
        candidates: impl Iterator<Item = &'a ClusterMember>,
        enter: impl Fn(&ClusterMember) -> Option<InFlightRequest>,
    ) -> Option<(&'a ClusterMember, InFlightRequest)> {
        let mut candidates: Vec<&ClusterMember> = candidates.collect();
        // Ends: each turn removes a candidate, and no index is chosen from an empty list.
        loop {
            let in_flight: Vec<usize> = candidates.iter().map(|member| member.destination.in_flight()).collect();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let chosen =
                candidates.remove(choose_destination(self.settings.load_balancing, &in_flight, turn, rand::random())?);
            if let Some(in_flight) = enter(chosen) {
                return Some((chosen, in_flight));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::circuit_breaker::FailureKind;

    fn cluster(ids: &[&str], available: AvailabilityPolicy) -> Cluster {
        let destination = |id: &&str| settings::DestinationSettings {
            id: (*id).into(),
            address: Url::parse("http://127.0.0.1:9").expect("a URL"),
            host: None,
            probe: None,
        };
        ClusterFactory::default().build(&settings::ClusterSettings {
            id: "c".into(),
            load_balancing: LoadBalancing::FirstAlphabetical,
            destinations: ids.iter().map(destination).collect(),
            health: settings::HealthCheckSettings { available, ..settings::HealthCheckSettings::default() },
            http_version: settings::UpstreamHttpVersion::default(),
            affinity: None,
        })
    }

    fn picked(cluster: &Cluster, tried: &[Arc<str>], now: Instant) -> Option<Arc<str>> {
        cluster.pick(cluster.identify(&()), tried, now).map(|(member, _)| Arc::clone(member.destination.id()))
    }

    fn open(cluster: &Cluster, number: usize, now: Instant) {
        for _ in 0..5 {
            let mut in_flight = cluster.members()[number].destination.enter_unconditionally(cluster.identify(&()));
            in_flight.failed(FailureKind::Unreachable, now);
        }
    }

    #[test]
    fn another_destination_takes_the_next_try_while_there_is_one() {
        let (cluster, now) = (cluster(&["a", "b"], AvailabilityPolicy::HealthyAndUnknown), monotonic_now());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for (tried, expected) in
            [(vec![], &a), (vec![a.clone()], &b), (vec![b.clone()], &a), (vec![a.clone(), b.clone()], &a)]
        {
            assert_eq!(picked(&cluster, &tried, now).as_ref(), Some(expected), "{tried:?}");
        }
    }

    #[test]
    fn an_open_destination_is_passed_over_and_a_tried_one_is_better_than_it() {
        let (cluster, now) = (cluster(&["a", "b"], AvailabilityPolicy::HealthyAndUnknown), monotonic_now());
        open(&cluster, 0, now);
        assert_eq!(picked(&cluster, &[], now).as_deref(), Some("b"));
        assert_eq!(picked(&cluster, &["b".into()], now).as_deref(), Some("b"));
    }

    #[test]
    fn when_all_are_open_nothing_is_tried_unless_the_policy_panics() {
        let now = monotonic_now();
        for (policy, expected) in
            [(AvailabilityPolicy::HealthyAndUnknown, None), (AvailabilityPolicy::HealthyOrPanic, Some("b"))]
        {
            let cluster = cluster(&["a", "b"], policy);
            (0..2).for_each(|number| open(&cluster, number, now));
            assert_eq!(picked(&cluster, &["a".into()], now).as_deref(), expected, "{policy:?}");
        }
    }

    #[test]
    fn one_request_is_the_trial_and_its_answer_lets_all_in() {
        let (cluster, start) = (cluster(&["a"], AvailabilityPolicy::HealthyAndUnknown), monotonic_now());
        open(&cluster, 0, start);
        let now = start + Duration::from_secs(1);
        let left = cluster.pick(cluster.identify(&()), &[], now).expect("a trial");
        assert!(cluster.pick(cluster.identify(&()), &[], now).is_none());
        drop(left);
        let (_, mut trial) =
            cluster.pick(cluster.identify(&()), &[], now).expect("another trial, for the first one's client left");
        assert!(cluster.pick(cluster.identify(&()), &[], now).is_none());
        trial.answered(now);
        assert!(cluster.pick(cluster.identify(&()), &[], now).is_some());
    }
}
