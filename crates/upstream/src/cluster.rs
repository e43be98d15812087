//! A cluster at work: which destination takes the next request.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use url::Url;

use super::addresses;
use super::breaker::RequestIdentity;
use super::budget::Budget;
use super::destination::{Destination, InFlight, UpstreamContext};
use super::health::Health;
use super::settings::{self, Active, Available};
use super::tls::Connector;
use primitives::lifecycle::Tasks;
use routing::cluster::{LoadBalancing, choose};

/// A cluster and its destinations.
pub struct Cluster {
    id: Arc<str>,
    policy: LoadBalancing,
    available: Available,
    active: Option<Active>,
    members: Vec<Member>,
    budget: Budget,
    turn: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
}

/// A destination with what only its cluster says of it.
pub struct Member {
    /// The server.
    pub destination: Arc<Destination>,
    /// The `Host` to send instead of the address's.
    pub host: Option<String>,
    /// Its address as configured.
    pub address: Url,
    /// Where probes go in place of the server.
    pub(super) probe: Option<(Arc<Destination>, Url)>,
}

/// Makes clusters that share trust anchors, resolver and tasks.
#[derive(Clone)]
pub struct Factory {
    context: UpstreamContext,
}

impl Default for Factory {
    fn default() -> Self {
        Self::new(Tasks::default())
    }
}

impl Factory {
    /// Makes clusters of which `tasks` runs what goes on beside the requests.
    pub fn new(tasks: Tasks) -> Self {
        Self { context: UpstreamContext { tls: Connector::new(), lookup: addresses::system(), tasks } }
    }

    /// The cluster that `settings` describe.
    pub fn cluster(&self, settings: &settings::Cluster) -> Cluster {
        let now = Instant::now();
        let mut members: Vec<Member> =
            settings.destinations.iter().filter_map(|member| self.member(member, &settings.health, now)).collect();
        if settings.load_balancing == LoadBalancing::FirstAlphabetical {
            members.sort_by(|a, b| a.destination.id().cmp(b.destination.id()));
        }
        Cluster {
            id: Arc::clone(&settings.id),
            policy: settings.load_balancing,
            available: settings.health.available,
            active: settings.health.active.clone(),
            members,
            budget: Budget::new(now),
            turn: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
        }
    }

    /// A cluster of the one server at `address`.
    pub fn single(&self, id: &Arc<str>, address: &Url) -> Cluster {
        let destination =
            settings::Destination { id: Arc::clone(id), address: address.clone(), host: None, probe: None };
        self.cluster(&settings::Cluster {
            id: Arc::clone(id),
            load_balancing: LoadBalancing::FirstAlphabetical,
            destinations: vec![destination],
            health: settings::HealthCheck::default(),
        })
    }

    fn member(&self, settings: &settings::Destination, check: &settings::HealthCheck, now: Instant) -> Option<Member> {
        let at = |address: &Url| {
            let health = Health::new(check, now);
            Destination::new(Arc::clone(&settings.id), address, &self.context, health).map(Arc::new)
        };
        let destination = at(&settings.address)?;
        let probe = settings.probe.as_ref().and_then(|address| Some((at(address)?, address.clone())));
        Some(Member { destination, host: settings.host.clone(), address: settings.address.clone(), probe })
    }
}

impl Cluster {
    /// Its id in the YAML.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// All destinations.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What may be tried again.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How its destinations are probed, where they are.
    pub fn active(&self) -> Option<&Active> {
        self.active.as_ref()
    }

    /// Whether a destination's last probe succeeded.
    pub fn is_reachable(&self) -> bool {
        self.members.iter().any(|member| member.destination.health().is_reachable())
    }

    /// A new request about `object`, whose tries are picked destinations for.
    pub fn identify(&self, object: &impl Hash) -> RequestIdentity {
        RequestIdentity::new(self.requests.fetch_add(1, Ordering::Relaxed), object)
    }

    /// The destination for the next try of `request` at `now`: of those that may be used, one that is not in `tried` while there is
    /// one. Without any, `HealthyOrPanic` uses the others all the same.
    pub fn pick(&self, request: RequestIdentity, tried: &[Arc<str>], now: Instant) -> Option<(&Member, InFlight)> {
        if let [only] = self.members.as_slice()
            && let Some(in_flight) = only.destination.enter(request, now)
        {
            return Some((only, in_flight));
        }
        let available = |member: &&Member| member.destination.health().is_available(now);
        let fresh = |member: &&Member| !tried.contains(member.destination.id());
        let enter = |member: &Member| member.destination.enter(request, now);
        self.choose(self.members.iter().filter(|member| available(member) && fresh(member)), enter)
            .or_else(|| self.choose(self.members.iter().filter(available), enter))
            .or_else(|| {
                let panics = self.available == Available::HealthyOrPanic;
                let anyway = |member: &Member| Some(member.destination.enter_anyway(request));
                let all = || self.members.iter().filter(|_| panics);
                self.choose(all().filter(fresh), anyway).or_else(|| self.choose(all(), anyway))
            })
    }

    /// One of `candidates` that still lets a request in when it is chosen: another one may have become the trial.
    fn choose<'a>(
        &'a self,
        candidates: impl Iterator<Item = &'a Member>,
        enter: impl Fn(&Member) -> Option<InFlight>,
    ) -> Option<(&'a Member, InFlight)> {
        let mut candidates: Vec<&Member> = candidates.collect();
        loop {
            let in_flight: Vec<usize> = candidates.iter().map(|member| member.destination.in_flight()).collect();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let chosen = candidates.remove(choose(self.policy, &in_flight, turn, rand::random())?);
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
    use crate::breaker::Fault;

    fn cluster(ids: &[&str], available: Available) -> Cluster {
        let destination = |id: &&str| settings::Destination {
            id: (*id).into(),
            address: Url::parse("http://127.0.0.1:9").expect("a URL"),
            host: None,
            probe: None,
        };
        Factory::default().cluster(&settings::Cluster {
            id: "c".into(),
            load_balancing: LoadBalancing::FirstAlphabetical,
            destinations: ids.iter().map(destination).collect(),
            health: settings::HealthCheck { available, ..settings::HealthCheck::default() },
        })
    }

    fn picked(cluster: &Cluster, tried: &[Arc<str>], now: Instant) -> Option<Arc<str>> {
        cluster.pick(cluster.identify(&()), tried, now).map(|(member, _)| Arc::clone(member.destination.id()))
    }

    fn open(cluster: &Cluster, number: usize, now: Instant) {
        for _ in 0..5 {
            let mut in_flight = cluster.members()[number].destination.enter_anyway(cluster.identify(&()));
            in_flight.failed(Fault::Unreachable, now);
        }
    }

    #[test]
    fn another_destination_takes_the_next_try_while_there_is_one() {
        let (cluster, now) = (cluster(&["a", "b"], Available::HealthyAndUnknown), Instant::now());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for (tried, expected) in
            [(vec![], &a), (vec![a.clone()], &b), (vec![b.clone()], &a), (vec![a.clone(), b.clone()], &a)]
        {
            assert_eq!(picked(&cluster, &tried, now).as_ref(), Some(expected), "{tried:?}");
        }
    }

    #[test]
    fn an_open_destination_is_passed_over_and_a_tried_one_is_better_than_it() {
        let (cluster, now) = (cluster(&["a", "b"], Available::HealthyAndUnknown), Instant::now());
        open(&cluster, 0, now);
        assert_eq!(picked(&cluster, &[], now).as_deref(), Some("b"));
        assert_eq!(picked(&cluster, &["b".into()], now).as_deref(), Some("b"));
    }

    #[test]
    fn when_all_are_open_nothing_is_tried_unless_the_policy_panics() {
        let now = Instant::now();
        for (policy, expected) in [(Available::HealthyAndUnknown, None), (Available::HealthyOrPanic, Some("b"))] {
            let cluster = cluster(&["a", "b"], policy);
            (0..2).for_each(|number| open(&cluster, number, now));
            assert_eq!(picked(&cluster, &["a".into()], now).as_deref(), expected, "{policy:?}");
        }
    }

    #[test]
    fn one_request_is_the_trial_and_its_answer_lets_all_in() {
        let (cluster, start) = (cluster(&["a"], Available::HealthyAndUnknown), Instant::now());
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
