//! A cluster at work: which destination takes the next request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use url::Url;

use super::destination::Destination;
use super::settings;
use super::tls::Connector;
use crate::route::cluster::{LoadBalancing, choose};

/// A cluster and its destinations.
pub struct Cluster {
    id: Arc<str>,
    policy: LoadBalancing,
    members: Vec<Member>,
    turn: AtomicUsize,
}

/// A destination with what only its cluster says of it.
pub struct Member {
    /// The server.
    pub destination: Arc<Destination>,
    /// The `Host` to send instead of the address's.
    pub host: Option<String>,
    /// Its address as configured.
    pub address: Url,
}

/// Makes clusters that share the trust anchors.
#[derive(Clone)]
pub struct Factory {
    tls: Connector,
}

impl Default for Factory {
    fn default() -> Self {
        Self { tls: Connector::new() }
    }
}

impl Factory {
    /// The cluster that `settings` describe.
    pub fn cluster(&self, settings: &settings::Cluster) -> Cluster {
        let mut members: Vec<Member> = Vec::with_capacity(settings.destinations.len());
        for member in &settings.destinations {
            if let Some(destination) = Destination::new(Arc::clone(&member.id), &member.address, &self.tls) {
                let (host, address) = (member.host.clone(), member.address.clone());
                members.push(Member { destination: Arc::new(destination), host, address });
            }
        }
        if settings.load_balancing == LoadBalancing::FirstAlphabetical {
            members.sort_by(|a, b| a.destination.id().cmp(b.destination.id()));
        }
        Cluster { id: Arc::clone(&settings.id), policy: settings.load_balancing, members, turn: AtomicUsize::new(0) }
    }

    /// A cluster of the one server at `address`.
    pub fn single(&self, id: &Arc<str>, address: &Url) -> Cluster {
        let destination = settings::Destination { id: Arc::clone(id), address: address.clone(), host: None };
        let load_balancing = LoadBalancing::FirstAlphabetical;
        self.cluster(&settings::Cluster { id: Arc::clone(id), load_balancing, destinations: vec![destination] })
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

    /// The destination for the next try: one that is not in `tried` while there is one, else any.
    pub fn pick(&self, tried: &[Arc<str>]) -> Option<&Member> {
        if let [only] = self.members.as_slice() {
            return Some(only);
        }
        let fresh: Vec<&Member> =
            self.members.iter().filter(|member| !tried.contains(member.destination.id())).collect();
        let candidates = if fresh.is_empty() { self.members.iter().collect() } else { fresh };
        let in_flight: Vec<usize> = candidates.iter().map(|member| member.destination.in_flight()).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = choose(self.policy, &in_flight, turn, rand::random())?;
        candidates.get(chosen).copied()
    }
}
