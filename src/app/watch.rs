//! Watch over the dependencies: destinations and buckets are probed, so that readiness tells of a dead one before a
//! player does, and every change of their health is a line in the log.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::sync::Notify;

use super::storage::StateStorage;
use crate::proxy::runtime::Runtime;
use object_engine::{self, ObjectOrigin};
use primitives::clock::monotonic_now;
use primitives::lifecycle::BackgroundTasks;
use upstream::cluster::Cluster;
use upstream::error::url_origin as address;
use upstream::health::HealthState;
use upstream::probe;

/// Between two questions to a bucket that can be used.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Between two questions while one cannot.
const ASK_SOON: Duration = Duration::from_secs(1);
/// Time that a start waits for the first answers: a store that hangs delays it no longer.
const FIRST_ANSWERS: Duration = Duration::from_secs(1);
/// Time between two looks for changes: shorter than the shortest open period of a breaker, so that none is missed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Starts watching. Returns once each bucket has been probed, or after [`FIRST_ANSWERS`].
/// The result is to be told when another runtime is in force.
pub async fn start(runtime: &Arc<ArcSwap<Runtime>>, storage: &StateStorage, tasks: &BackgroundTasks) -> Arc<Notify> {
    let reloaded = Arc::new(Notify::new());
    let mut probes = ClusterProbes { tasks: tasks.clone(), started: Vec::new() };
    probes.start_new(&runtime.load());
    let (asked, first) = tokio::sync::oneshot::channel();
    let (watched, changed) = (Arc::clone(runtime), Arc::clone(&reloaded));
    run_until_shutdown(tasks, async move {
        let mut asked = Some(asked);
        loop {
            let current = watched.load_full();
            let wait = probe_buckets(&current).await;
            // The catalog may have named a bucket in a store that no route had reached before.
            probes.start_new(&current);
            drop(current);
            // Who waited has gone on where it took long.
            let _ = asked.take().map(|asked| asked.send(()));
            let next_round = tokio::time::sleep(wait);
            let reloaded_unready = async {
                loop {
                    changed.notified().await;
                    // Its buckets were probed before it was put in force: those that are good need no second question.
                    let current = watched.load_full();
                    probes.start_new(&current);
                    if !current.stores_are_good() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = next_round => {}
                () = reloaded_unready => {}
            }
        }
    });
    // What is not known by then is not ready.
    let _ = tokio::time::timeout(FIRST_ANSWERS, first).await;
    let (runtime, storage) = (Arc::clone(runtime), storage.clone());
    run_until_shutdown(tasks, async move {
        let mut known = ObservedHealth::default();
        loop {
            known.log_changes(&runtime.load(), &storage);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    reloaded
}

/// The probes of clusters. Each ends with the runtimes that its cluster belongs to.
struct ClusterProbes {
    tasks: BackgroundTasks,
    started: Vec<Weak<Cluster>>,
}

impl ClusterProbes {
    /// Starts probing those clusters of `runtime` that should be probed and are not yet.
    fn start_new(&mut self, runtime: &Runtime) {
        self.started.retain(|cluster| cluster.strong_count() > 0);
        for cluster in runtime.probed_clusters() {
            let probed = Arc::downgrade(&cluster);
            if self.started.iter().any(|started| started.ptr_eq(&probed)) {
                continue;
            }
            self.started.push(Weak::clone(&probed));
            run_until_shutdown(&self.tasks, async move {
                while let Some(cluster) = probed.upgrade() {
                    let wait = probe::probe_cluster(&cluster).await;
                    probe::pause(&cluster, wait).await;
                }
            });
        }
    }
}

/// Runs `endless` until shutdown begins.
fn run_until_shutdown(tasks: &BackgroundTasks, endless: impl Future<Output = ()> + Send + 'static) {
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = endless => {}
            () = stopping.stopping() => {}
        }
    });
}

/// Asks every bucket once; the time to wait before the next round.
pub async fn probe_buckets(runtime: &Runtime) -> Duration {
    join_all(runtime.track_handlers().map(|handler| handler.open_listed_buckets())).await;
    join_all(runtime.buckets().iter().map(|origin| object_engine::probe_bucket(origin))).await;
    if runtime.stores_are_good() { ASK_EVERY } else { ASK_SOON }
}

/// The health of everything, as it was seen last.
#[derive(Default)]
struct ObservedHealth {
    destinations: HashMap<(Arc<str>, Arc<str>), (HealthState, bool)>,
    buckets: HashMap<(Arc<str>, Arc<str>), Option<String>>,
    redis: Option<Arc<str>>,
    database: Option<Arc<str>>,
}

impl ObservedHealth {
    /// Logs every change since the last look.
    fn log_changes(&mut self, runtime: &Runtime, storage: &StateStorage) {
        for cluster in runtime.clusters() {
            for member in cluster.members() {
                let (id, health) = (member.destination.id(), member.destination.health());
                let now = (health.state(monotonic_now()), health.is_reachable());
                let before = self.destinations.insert((Arc::clone(cluster.id()), Arc::clone(id)), now);
                let (state, reachable) = before.unwrap_or((HealthState::Healthy, true));
                let change =
                    DestinationChange { cluster: cluster.id(), destination: id, address: &address(&member.address) };
                if reachable != now.1 {
                    change.tell_reachable(now.1, member.destination.probe_error().as_deref());
                }
                change.tell_state(state, now.0);
            }
        }
        for origin in runtime.buckets() {
            self.look_at_bucket(&origin);
        }
        log_component_change(&mut self.redis, storage.redis_fault(), "Redis (State.Url)");
        log_component_change(&mut self.database, storage.database_fault(), "the database (Database.Url)");
    }

    fn look_at_bucket(&mut self, origin: &ObjectOrigin) {
        let (store, bucket) = (&*origin.store, &*origin.bucket);
        let place = (Arc::clone(&origin.store), Arc::clone(&origin.bucket));
        let now = origin.health.fault();
        match (self.buckets.insert(place, now.clone()).flatten(), now) {
            (before, Some(fault)) if before.as_ref() != Some(&fault) => {
                tracing::warn!(store, bucket, "bucket `{bucket}` of store `{store}` cannot be used: {fault}");
            }
            (Some(_), None) => tracing::info!(store, bucket, "bucket `{bucket}` of store `{store}` can be used"),
            _ => {}
        }
    }
}

/// A destination whose health has changed.
struct DestinationChange<'a> {
    cluster: &'a str,
    destination: &'a str,
    address: &'a str,
}

impl DestinationChange<'_> {
    fn tell_reachable(&self, is_reachable: bool, error: Option<&String>) {
        let Self { cluster, destination, address } = self;
        let name = format!("destination `{destination}` of cluster `{cluster}` ({address})");
        if is_reachable {
            tracing::info!(cluster, destination, "{name} passes its health check again");
        } else {
            let error = error.map_or("no answer", String::as_str);
            tracing::warn!(cluster, destination, "{name} fails its health check: {error}");
        }
    }

    fn tell_state(&self, before: HealthState, now: HealthState) {
        let Self { cluster, destination, address } = self;
        let name = format!("destination `{destination}` of cluster `{cluster}` ({address})");
        match (before, now) {
            (HealthState::Open | HealthState::HalfOpen, HealthState::Open | HealthState::HalfOpen) => {}
            (before, now) if before == now => {}
            (_, HealthState::Open | HealthState::HalfOpen) => {
                tracing::warn!(
                    cluster,
                    destination,
                    "{name} gets no requests for now: too many failed in a row (breaker)"
                );
            }
            (_, HealthState::Unhealthy) => {
                tracing::warn!(cluster, destination, "{name} is out of use: its health check says so");
            }
            (_, HealthState::Healthy) => tracing::info!(cluster, destination, "{name} is in use again"),
        }
    }
}

fn log_component_change(known: &mut Option<Arc<str>>, now: Option<Arc<str>>, name: &str) {
    match (&*known, &now) {
        (before, Some(fault)) if before.as_ref() != Some(fault) => {
            tracing::warn!("{name} cannot be used: {fault}");
        }
        (Some(_), None) => tracing::info!("{name} can be used again"),
        _ => {}
    }
    *known = now;
}
