//! What the runtime in force does, for the operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::stores::OpenStores;
use crate::proxy::route::RouteHandler;
use crate::proxy::runtime::Runtime;
use primitives::clock::monotonic_now;
use server_kit::api::status_admin::{ClusterReport, DestinationReport, RouteReport, RuntimeStatus};
use server_kit::telemetry::recent_failures::FailureRecord;
use upstream::cluster::{Cluster, ClusterMember};
use upstream::health::HealthState;

/// The runtime in force, as the operator asks for it.
pub struct OperatorStatus {
    runtime: Arc<ArcSwap<Runtime>>,
    stores: Arc<OpenStores>,
}

impl OperatorStatus {
    /// Reads whatever `runtime` has in force, and the credentials of `stores`.
    pub fn new(runtime: &Arc<ArcSwap<Runtime>>, stores: &Arc<OpenStores>) -> Self {
        Self { runtime: Arc::clone(runtime), stores: Arc::clone(stores) }
    }
}

impl RuntimeStatus for OperatorStatus {
    fn clusters(&self) -> Vec<ClusterReport> {
        let mut clusters: Vec<ClusterReport> = self.runtime.load().clusters().map(|cluster| report(cluster)).collect();
        clusters.sort_by(|one, other| one.id.cmp(&other.id));
        clusters
    }

    fn store_faults(&self) -> Vec<String> {
        let credentials = self.stores.credentials().into_iter().filter_map(|status| status.fault());
        self.runtime.load().store_faults().into_iter().chain(credentials).collect()
    }

    fn routes(&self) -> Vec<RouteReport> {
        let runtime = self.runtime.load();
        let routes = runtime.routes().map(|route| {
            let (handler, cluster) = match &route.handler {
                RouteHandler::Object(handler) => ("object", Some(&handler.origin.cluster)),
                RouteHandler::Track(_) => ("track", None),
                RouteHandler::Film(handler) => ("film", Some(&handler.origin.cluster)),
                RouteHandler::Cluster(handler) => ("cluster", Some(&handler.cluster)),
            };
            let cluster = cluster.map(|cluster| Arc::clone(cluster.id()));
            RouteReport { id: Arc::clone(&route.id), handler, cluster, requests: BTreeMap::new() }
        });
        routes.collect()
    }

    fn failures(&self) -> Vec<FailureRecord> {
        self.runtime.load().process.recent_failures.all()
    }

    fn error_page(&self) -> &'static str {
        concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/errors.md")
    }
}

fn report(cluster: &Cluster) -> ClusterReport {
    let now = monotonic_now();
    let destination = |member: &ClusterMember| {
        let destination = &member.destination;
        let state = destination.health().state(now);
        DestinationReport {
            id: Arc::clone(destination.id()),
            // Neither a path nor a name and password are anybody's business here.
            address: member.address.origin().ascii_serialization(),
            state: state.name(),
            reason: reason(state, destination.probe_error().as_deref().map(String::as_str)),
            in_flight: destination.in_flight(),
        }
    };
    ClusterReport { id: Arc::clone(cluster.id()), destinations: cluster.members().iter().map(destination).collect() }
}

/// Returns why a destination of this state is not in use, as far as that is known.
fn reason(state: HealthState, probe_error: Option<&str>) -> Option<String> {
    let cause = match state {
        HealthState::Healthy => return None,
        HealthState::Unhealthy if probe_error.is_some() => "health checks failed",
        HealthState::Unhealthy => "too many of its requests failed",
        HealthState::Open => "its last requests failed one after the other",
        HealthState::HalfOpen => "its requests had failed; one is tried",
    };
    Some(probe_error.map_or_else(|| cause.to_owned(), |error| format!("{cause}: {error}")))
}
