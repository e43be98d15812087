//! The limits, composed: over Redis and the database where there are any, with a worker that outlives the players.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::backing::Backing;
use crate::config::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::limit::Limits;
use server_kit::limit::egress::Ledger;
use server_kit::limit::ledger::{InDatabase, InRedis};
use server_kit::limit::metrics::LimitMetrics;
use server_kit::telemetry::metrics::Metrics;

/// A request waits no longer for the count that nodes share.
const BUDGET: Duration = Duration::from_millis(20);

/// Opens the policies; `services` end after the last stream, so that what it was sent is saved.
pub fn open(
    settings: &Settings,
    backing: &Backing,
    clock: &Clock,
    services: &BackgroundTasks,
    metrics: &Metrics,
) -> Result<Arc<Limits>, StartError> {
    let database = backing.database.clone().map(|database| Arc::new(InDatabase(database)) as Arc<dyn Ledger>);
    let redis = backing.redis.clone().map(|redis| Arc::new(InRedis(redis)) as Arc<dyn Ledger>);
    let shared = backing.redis.clone().map(|redis| (redis, BUDGET));
    let counters = LimitMetrics::new(metrics.registry())?;
    let (limits, worker) = Limits::new(&settings.limits, clock, shared, database.or(redis), &counters);
    let stopping = services.clone();
    services.spawn(worker.run(async move { stopping.stopping().await }));
    Ok(Arc::new(limits))
}
