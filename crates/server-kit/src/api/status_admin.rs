//! Operator's paths of what the process is doing: totals, routes with their traffic, destinations with their health, and the
//! last failures. What runs is read behind [`RuntimeStatus`].

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::extractors::Query;
use super::health::HealthReport;
use super::pagination::PageLimits;
use super::router::RouterState;
use super::timestamps::to_rfc3339;
use crate::telemetry::metrics::MetricTotals;
use crate::telemetry::recent_failures::FailureRecord;

/// Most routes of an answer.
const ROUTE_LIMITS: PageLimits = PageLimits { default_limit: 100, max_limit: 500 };

/// What runs, as the operator asks for it.
pub trait RuntimeStatus: Send + Sync {
    /// Returns the clusters, by their ids.
    fn clusters(&self) -> Vec<ClusterReport>;
    /// Returns the reasons why a store cannot be used.
    fn store_faults(&self) -> Vec<String>;
    /// Returns the routes, without their traffic.
    fn routes(&self) -> Vec<RouteReport>;
    /// Returns the last failures, the latest first.
    fn failures(&self) -> Vec<FailureRecord>;
    /// Returns the address of the page that explains codes of errors.
    fn error_page(&self) -> &'static str;
}

/// Cluster with its destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// Its id; for a store without one, the store's name.
    pub id: Arc<str>,
    /// Its servers.
    pub destinations: Vec<DestinationReport>,
}

/// Destination with its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationReport {
    /// Its id.
    pub id: Arc<str>,
    /// Scheme, host and port.
    pub address: String,
    /// Its health, as metrics name it.
    pub state: &'static str,
    /// Why it is not in use.
    pub reason: Option<String>,
    /// Requests under way.
    pub in_flight: usize,
}

/// Route with its traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteReport {
    /// Its id.
    pub id: Arc<str>,
    /// What answers: `object`, `track`, `film` or `cluster`.
    pub handler: &'static str,
    /// The cluster that it asks, where it is one.
    pub cluster: Option<Arc<str>>,
    /// Requests answered since the start, by class of status (`2xx`).
    pub requests: BTreeMap<String, u64>,
}

/// Totals of the process.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    version: &'static str,
    health: HealthReport,
    live_streams: usize,
    /// True where a route has a cache.
    has_cache: bool,
    #[serde(flatten)]
    totals: MetricTotals,
}

/// Clusters, and stores that cannot be used.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClustersReport {
    items: Vec<ClusterReport>,
    store_faults: Vec<String>,
}

/// The busiest routes.
#[derive(Serialize)]
pub struct RoutesReport {
    /// Number of all routes.
    total: usize,
    items: Vec<RouteReport>,
}

/// The last failures.
#[derive(Serialize)]
pub struct FailuresReport {
    items: Vec<FailureView>,
}

/// A failure as the operator sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureView {
    at: String,
    code: &'static str,
    status: u16,
    route: Option<Arc<str>>,
    request_id: Box<str>,
    /// Text of the code, as clients get it.
    detail: &'static str,
    /// Address of its explanation.
    explained: String,
}

/// The query of `GET /routes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutesQuery {
    limit: Option<u32>,
}

/// `GET /status`: totals.
pub async fn status(State(shared): State<RouterState>) -> Json<StatusReport> {
    Json(StatusReport {
        version: env!("CARGO_PKG_VERSION"),
        health: shared.health.detailed_report(),
        live_streams: shared.streams.count(),
        has_cache: shared.cache.as_ref().is_some_and(|cache| cache.is_open()),
        totals: shared.metrics.totals(),
    })
}

/// `GET /clusters`: destinations and their health.
pub async fn clusters(State(shared): State<RouterState>) -> Json<ClustersReport> {
    Json(ClustersReport { items: shared.status.clusters(), store_faults: shared.status.store_faults() })
}

/// `GET /routes`: the routes with the most requests, the busiest first.
pub async fn routes(
    State(shared): State<RouterState>,
    Query(query): Query<RoutesQuery>,
) -> Result<Json<RoutesReport>, Error> {
    let limit = ROUTE_LIMITS.limit(query.limit)?;
    let (mut items, mut traffic) = (shared.status.routes(), shared.metrics.requests_by_route());
    let total = items.len();
    for route in &mut items {
        route.requests = traffic.remove(&*route.id).unwrap_or_default();
    }
    items.sort_by_cached_key(|route| (std::cmp::Reverse(route.requests.values().sum::<u64>()), Arc::clone(&route.id)));
    items.truncate(limit.into());
    Ok(Json(RoutesReport { total, items }))
}

/// `GET /errors`: the last failures, the latest first.
pub async fn failures(State(shared): State<RouterState>) -> Json<FailuresReport> {
    let view = |failure: FailureRecord| FailureView {
        at: to_rfc3339(failure.at),
        code: failure.code.as_str(),
        status: failure.code.status().as_u16(),
        route: failure.route,
        request_id: failure.request_id,
        detail: failure.code.detail(),
        explained: format!("{}#{}", shared.status.error_page(), failure.code.anchor()),
    };
    Json(FailuresReport { items: shared.status.failures().into_iter().map(view).collect() })
}
