//! The watchdog of the worker threads: says in the log which one is stuck, and in which request.

use std::sync::Arc;
use std::time::Duration;

use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;
use tokio::time::MissedTickBehavior;

use crate::workers::{STUCK_AFTER, Workers};

/// Time between two looks at the workers.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);

/// Names in the log, once each time, the workers that are stuck.
pub async fn watch_workers(workers: Arc<Workers>, metrics: Arc<Metrics>, tasks: BackgroundTasks) {
    let mut ticks = tokio::time::interval(WATCHDOG_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Vec<usize> = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tasks.stopping() => return,
        }
        let stuck = workers.stuck(STUCK_AFTER);
        for worker in stuck.iter().filter(|worker| !known.contains(&worker.index)) {
            metrics.worker_stuck();
            let (index, connections, serving) = (worker.index, worker.connections, worker.serving.as_str());
            tracing::error!(
                worker = index,
                connections,
                "worker {index} is stuck and serves none of its {connections} connections; it is in: {serving}; \
                 restart the process, and report this as a bug"
            );
        }
        for index in known.iter().filter(|index| !stuck.iter().any(|worker| worker.index == **index)) {
            tracing::warn!(worker = index, "worker {index} goes on");
        }
        known = stuck.into_iter().map(|worker| worker.index).collect();
    }
}
