//! The limits, composed: over Redis and the database where there are any, with a worker that outlives the players.

use std::sync::Arc;

use super::StartError;
use super::backing::Backing;
use crate::clock::Clock;
use crate::config::Settings;
use crate::lifecycle::Tasks;
use crate::limit::Limits;
use crate::limit::egress::Ledger;
use crate::limit::ledger::{InDatabase, InRedis};
use crate::limit::metrics::LimitMetrics;
use crate::telemetry::metrics::Metrics;

/// Opens the policies; `services` end after the last stream, so that what it was sent is saved.
pub fn open(
    settings: &Settings,
    backing: &Backing,
    clock: &Clock,
    services: &Tasks,
    metrics: &Metrics,
) -> Result<Arc<Limits>, StartError> {
    let database = backing.database.clone().map(|database| Arc::new(InDatabase(database)) as Arc<dyn Ledger>);
    let redis = backing.redis.clone().map(|redis| Arc::new(InRedis(redis)) as Arc<dyn Ledger>);
    let counters = LimitMetrics::new(metrics.registry())?;
    let (limits, worker) = Limits::new(&settings.limits, clock, backing.redis.clone(), database.or(redis), &counters);
    let stopping = services.clone();
    services.spawn(worker.run(async move { stopping.stopping().await }));
    Ok(Arc::new(limits))
}
