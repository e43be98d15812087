//! The dependencies watched: destinations are probed and buckets asked, so that readiness tells of a dead one before a
//! player does, and every change of their health is a line in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::future::join_all;

use super::backing::Backing;
use crate::proxy::world::World;
use object_engine::{self, ObjectOrigin};
use primitives::lifecycle::BackgroundTasks;
use upstream::error::url_origin as address;
use upstream::health::HealthState;
use upstream::probe;

/// Between two questions to a bucket that can be used.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Between two questions while one cannot.
const ASK_SOON: Duration = Duration::from_secs(1);
/// For the first answers: a start waits for them so long, and no longer for a store that hangs.
const FIRST_ANSWERS: Duration = Duration::from_secs(1);
/// Between two looks for changes: shorter than the shortest rest of a breaker, so that none is missed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Starts watching. Returns when each bucket has been asked once, or after a moment.
pub async fn start(world: &Arc<ArcSwap<World>>, backing: &Backing, tasks: &BackgroundTasks) {
    for cluster in world.load().probed() {
        let cluster = Arc::clone(cluster);
        repeat(tasks, async move {
            loop {
                let wait = probe::probe_cluster(&cluster).await;
                probe::pause(&cluster, wait).await;
            }
        });
    }
    let (asked, first) = tokio::sync::oneshot::channel();
    let watched = Arc::clone(world);
    repeat(tasks, async move {
        let mut asked = Some(asked);
        loop {
            let wait = ask_buckets(&watched.load_full()).await;
            // Who waited has gone on where it took long.
            let _ = asked.take().map(|asked| asked.send(()));
            tokio::time::sleep(wait).await;
        }
    });
    // What is not known by then is not ready.
    let _ = tokio::time::timeout(FIRST_ANSWERS, first).await;
    let (world, backing) = (Arc::clone(world), backing.clone());
    repeat(tasks, async move {
        let mut known = Known::default();
        loop {
            known.look(&world.load(), &backing);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

/// Runs `endless` until shutdown begins.
fn repeat(tasks: &BackgroundTasks, endless: impl Future<Output = ()> + Send + 'static) {
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = endless => {}
            () = stopping.stopping() => {}
        }
    });
}

/// Asks every bucket once; the time to wait before the next round.
async fn ask_buckets(world: &World) -> Duration {
    join_all(world.places().map(|places| places.open_all())).await;
    join_all(world.buckets().iter().map(|origin| object_engine::probe_bucket(origin))).await;
    if world.stores_are_good() { ASK_EVERY } else { ASK_SOON }
}

/// The health of everything, as it was seen last.
#[derive(Default)]
struct Known {
    destinations: HashMap<(Arc<str>, Arc<str>), (HealthState, bool)>,
    buckets: HashMap<(Arc<str>, Arc<str>), Option<String>>,
    redis: Option<Arc<str>>,
    database: Option<Arc<str>>,
}

impl Known {
    /// Tells in the log what has changed since the last look.
    fn look(&mut self, world: &World, backing: &Backing) {
        for cluster in world.clusters() {
            for member in cluster.members() {
                let (id, health) = (member.destination.id(), member.destination.health());
                let now = (health.state(Instant::now()), health.is_reachable());
                let before = self.destinations.insert((Arc::clone(cluster.id()), Arc::clone(id)), now);
                let (state, reachable) = before.unwrap_or((HealthState::Healthy, true));
                let change = Change { cluster: cluster.id(), destination: id, address: &address(&member.address) };
                if reachable != now.1 {
                    change.tell_reachable(now.1, member.destination.probe_error().as_deref());
                }
                change.tell_state(state, now.0);
            }
        }
        for origin in world.buckets() {
            self.look_at_bucket(&origin);
        }
        tell_part(&mut self.redis, backing.redis_fault(), "Redis (State.Url)");
        tell_part(&mut self.database, backing.database_fault(), "the database (Database.Url)");
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
struct Change<'a> {
    cluster: &'a str,
    destination: &'a str,
    address: &'a str,
}

impl Change<'_> {
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

fn tell_part(known: &mut Option<Arc<str>>, now: Option<Arc<str>>, name: &str) {
    match (&*known, &now) {
        (before, Some(fault)) if before.as_ref() != Some(fault) => {
            tracing::warn!("{name} cannot be used: {fault}");
        }
        (Some(_), None) => tracing::info!("{name} can be used again"),
        _ => {}
    }
    *known = now;
}
