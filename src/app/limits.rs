//! The limits, composed: over Redis and the database where there are any, with a worker that outlives the players.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::storage::StateStorage;
use crate::config::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::limit::RateLimiters;
use server_kit::limit::egress::EgressStore;
use server_kit::limit::egress_store::{DatabaseEgressStore, RedisEgressStore};
use server_kit::limit::metrics::LimitMetrics;
use server_kit::telemetry::metrics::Metrics;

/// A request waits no longer for the count that nodes share.
const BUDGET: Duration = Duration::from_millis(20);

/// Opens the policies; `services` end after the last stream, so that what it was sent is saved.
pub fn open(
    settings: &Settings,
    storage: &StateStorage,
    clock: &Clock,
    services: &BackgroundTasks,
    metrics: &Metrics,
) -> Result<Arc<RateLimiters>, StartError> {
    let database =
        storage.database.clone().map(|database| Arc::new(DatabaseEgressStore(database)) as Arc<dyn EgressStore>);
    let redis = storage.redis.clone().map(|redis| Arc::new(RedisEgressStore(redis)) as Arc<dyn EgressStore>);
    let shared = storage.redis.clone().map(|redis| (redis, BUDGET));
    let counters = LimitMetrics::new(metrics.registry())?;
    let (limits, worker) = RateLimiters::new(&settings.limits, clock, shared, database.or(redis), &counters);
    let stopping = services.clone();
    services.spawn(worker.run(async move { stopping.stopping().await }));
    Ok(Arc::new(limits))
}
