//! Deletion of old runs, beside everything else: a few at a time, so that it holds nothing up.

use std::time::Duration;

use tokio::time::sleep;

use crate::service::ScheduleService;

/// Time between two deletions of old runs.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Time after which a deletion that has failed is tried again first; it doubles with each failure.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// Runs that are deleted at once, and the time between two such deletions.
const BATCH: u32 = 500;
const PAUSE: Duration = Duration::from_millis(200);

/// Deletes old runs until the tasks stop.
pub async fn run(service: ScheduleService) {
    let mut retry = FIRST_RETRY;
    loop {
        let state = &service.0;
        let wait = match state.store.prune(service.now() - state.settings.history_for, BATCH).await {
            Ok(pruned) => {
                retry = FIRST_RETRY;
                if pruned < u64::from(BATCH) { INTERVAL } else { PAUSE }
            }
            Err(_) => {
                let wait = retry;
                retry = (retry * 2).min(INTERVAL);
                wait
            }
        };
        tokio::select! {
            () = state.tasks.stopping() => return,
            () = sleep(wait) => {}
        }
    }
}
