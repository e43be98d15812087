//! Group commit: reports wait in a bounded queue; one task takes all that are there, writes one row per key, and then
//! acknowledges all of them. One commit, which is slow, is shared by all that wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::metrics::PositionMetrics;
use super::store::{PositionStore, PositionStoreError, SaveOutcome};
use super::{Error, PositionKey, PositionRecord};
use primitives::clock::monotonic_now;
use primitives::lifecycle::BackgroundTasks;

/// Most reports in one commit.
const MAX_BATCH: usize = 1000;
/// Most reports that wait: a few commits. Further ones are refused with 503.
const QUEUE_CAPACITY: usize = 8 * MAX_BATCH;
/// Timeout of one commit. A report that waits longer is refused, and a repeated report is harmless: it can be stored
/// twice.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(1500);

struct WriteJob {
    entry: PositionRecord,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Queue of reports. Clones share it.
#[derive(Clone)]
pub struct WriteQueue {
    jobs: mpsc::Sender<WriteJob>,
    metrics: PositionMetrics,
}

impl WriteQueue {
    /// Starts the task that writes to `store`; it ends, with the queue empty, when `tasks` stop.
    pub fn start(store: Arc<dyn PositionStore>, tasks: &BackgroundTasks, numbers: PositionMetrics) -> Self {
        let (jobs, taken) = mpsc::channel(QUEUE_CAPACITY);
        tasks.spawn(write(taken, store, tasks.clone(), numbers.clone()));
        Self { jobs, metrics: numbers }
    }

    /// Saves `entry`; returns when it is stored. [`Error::Busy`] if the queue is full.
    pub async fn save(&self, entry: PositionRecord) -> Result<(), Error> {
        let (done, kept) = oneshot::channel();
        let result = match self.jobs.try_send(WriteJob { entry, done }) {
            Ok(()) => kept.await.unwrap_or(Err(Error::Unavailable)),
            Err(_) => Err(Error::Busy),
        };
        if result.is_ok() {
            self.metrics.kept.inc()
        } else {
            self.metrics.failed.inc()
        }
        result
    }
}

async fn write(
    mut jobs: mpsc::Receiver<WriteJob>,
    store: Arc<dyn PositionStore>,
    tasks: BackgroundTasks,
    numbers: PositionMetrics,
) {
    let mut batch = Vec::new();
    let stopping = tasks.stopping();
    tokio::pin!(stopping);
    let mut open = true;
    loop {
        let count = tokio::select! {
            count = jobs.recv_many(&mut batch, MAX_BATCH) => count,
            // Once only: a future that has resolved must not be polled again.
            () = &mut stopping, if open => {
                open = false;
                jobs.close();
                continue;
            }
        };
        // `recv_many` gives 0 only when the channel is closed and empty.
        if count == 0 {
            return;
        }
        let rows = newest_per_key(batch.iter().map(|job| &job.entry));
        let begun = monotonic_now();
        let written = tokio::time::timeout(COMMIT_TIMEOUT, store.save(&rows)).await;
        numbers.commit.observe(begun.elapsed().as_secs_f64());
        let SaveOutcome { refused, dropped } = match written {
            Ok(Ok(outcome)) => outcome,
            failed => {
                let error = failed.map_or(PositionStoreError::timeout(), |result| {
                    result.err().unwrap_or(PositionStoreError::timeout())
                });
                // The reports behind them would only wait for the same failure.
                while let Ok(job) = jobs.try_recv() {
                    batch.push(job);
                }
                tracing::warn!(%error, reports = batch.len(), "positions could not be kept");
                acknowledge(std::mem::take(&mut batch), |_| Err(Error::Unavailable));
                continue;
            }
        };
        let refused: BTreeSet<PositionKey> = refused.into_iter().collect();
        numbers.dropped.inc_by(dropped.len() as u64);
        let kept = std::mem::take(&mut batch);
        let rows: Vec<PositionRecord> = rows.into_iter().filter(|row| !refused.contains(&row.key)).collect();
        numbers.rows.inc_by(rows.len() as u64);
        let store = Arc::clone(&store);
        // In a task of its own: the next commit does not wait for Redis.
        tasks.spawn(async move {
            store.update_cache(&rows, &dropped).await;
            acknowledge(kept, |key| if refused.contains(key) { Err(Error::Unavailable) } else { Ok(()) });
        });
    }
}

fn acknowledge(jobs: Vec<WriteJob>, result: impl Fn(&PositionKey) -> Result<(), Error>) {
    for job in jobs {
        // A request that was cancelled needs no answer, so the error is dropped.
        let _ = job.done.send(result(&job.entry.key));
    }
}

/// Returns the newest entry per key, in the order of the keys: two nodes that lock rows in the same order cannot block
/// each other.
fn newest_per_key<'a>(entries: impl Iterator<Item = &'a PositionRecord>) -> Vec<PositionRecord> {
    let mut rows: BTreeMap<&PositionKey, PositionRecord> = BTreeMap::new();
    for entry in entries {
        match rows.get_mut(&entry.key) {
            Some(row) if entry.updated_at >= row.updated_at => {
                let duration = entry.duration.or(row.duration);
                *row = PositionRecord { duration, ..entry.clone() };
            }
            // An older report may still know the length that the newer one lacks.
            Some(row) => row.duration = row.duration.or(entry.duration),
            None => {
                rows.insert(&entry.key, entry.clone());
            }
        }
    }
    rows.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::ItemKind;
    use primitives::ids::{TrackId, UserId};
    use primitives::unix_time::UnixMillis;

    #[test]
    fn of_many_reports_of_one_key_the_newest_is_written_with_the_length_that_any_of_them_knew() {
        let key = |item: &str| PositionKey {
            user: UserId::parse("u").expect("an id"),
            kind: ItemKind::Audio,
            item: TrackId::parse(item).expect("an id"),
        };
        let entry = |item, position, duration, at| PositionRecord {
            key: key(item),
            position,
            duration,
            updated_at: UnixMillis::new(at),
            reported_at: UnixMillis::new(at),
        };
        let rows = newest_per_key(
            [
                entry("b", Some(1), Some(9), 10),
                entry("a", Some(2), None, 10),
                entry("b", Some(3), None, 12),
                entry("b", Some(4), None, 11),
                entry("a", Some(5), None, 10),
                entry("a", Some(6), Some(7), 9),
            ]
            .iter(),
        );
        assert_eq!(rows, [entry("a", Some(5), Some(7), 10), entry("b", Some(3), Some(9), 12)]);
    }
}
