//! Clusters of the runtime in force, for the metrics and the operator.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::proxy::runtime::Runtime;
use primitives::clock::monotonic_now;
use server_kit::telemetry::upstream_metrics::{ClusterSnapshot, ClusterSnapshotSource, DestinationSnapshot};
use upstream::cluster::{Cluster, ClusterMember};
use upstream::health::HealthState;

/// Reads the clusters of the runtime in force.
pub fn snapshot_source(runtime: &Arc<ArcSwap<Runtime>>) -> ClusterSnapshotSource {
    let runtime = Arc::clone(runtime);
    Box::new(move || snapshots(&runtime.load()))
}

/// Snapshot of the clusters for the metrics.
fn snapshots(runtime: &Runtime) -> Vec<ClusterSnapshot> {
    let now = monotonic_now();
    let destination = |member: &ClusterMember| {
        let (destination, health) = (Arc::clone(member.destination.id()), member.destination.health());
        let current = health.state(now);
        let states = HealthState::ALL.iter().map(|state| (state.name(), *state == current)).collect();
        DestinationSnapshot { destination, states, opened: health.breaker_openings() }
    };
    let cluster = |cluster: &Arc<Cluster>| ClusterSnapshot {
        cluster: Arc::clone(cluster.id()),
        retries_refused: cluster.retry_budget().exhausted(),
        destinations: cluster.members().iter().map(destination).collect(),
    };
    runtime.clusters().map(cluster).collect()
}
