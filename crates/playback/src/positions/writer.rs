//! Group commit: reports wait in a bounded queue; one task takes what is there, writes one row per key, and then
//! has all of them acknowledged. So a commit, which is slow, is shared by all who wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::metrics::Numbers;
use super::store::{Away, Store};
use super::{Entry, Error, Key};
use primitives::lifecycle::BackgroundTasks;

/// Reports in one commit at most.
const MOST: usize = 1000;
/// Reports that wait at most: a few commits. More are told to come back.
const WAITING: usize = 8 * MOST;
/// For one commit; whoever waits longer is told to try again, which is harmless: a report can be kept twice.
const LIMIT: Duration = Duration::from_millis(1500);

struct Job {
    entry: Entry,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Where reports wait. Clones share it.
#[derive(Clone)]
pub struct Queue {
    jobs: mpsc::Sender<Job>,
    numbers: Numbers,
}

impl Queue {
    /// Starts the one who writes to `store`; it ends, with the queue empty, when `tasks` stop.
    pub fn start(store: Arc<dyn Store>, tasks: &BackgroundTasks, numbers: Numbers) -> Self {
        let (jobs, taken) = mpsc::channel(WAITING);
        tasks.spawn(write(taken, store, tasks.clone(), numbers.clone()));
        Self { jobs, numbers }
    }

    /// Returns when `entry` is kept.
    pub async fn save(&self, entry: Entry) -> Result<(), Error> {
        let (done, kept) = oneshot::channel();
        let result = match self.jobs.try_send(Job { entry, done }) {
            Ok(()) => kept.await.unwrap_or(Err(Error::Unavailable)),
            Err(_) => Err(Error::Busy),
        };
        if result.is_ok() {
            self.numbers.kept.inc()
        } else {
            self.numbers.failed.inc()
        }
        result
    }
}

async fn write(mut jobs: mpsc::Receiver<Job>, store: Arc<dyn Store>, tasks: BackgroundTasks, numbers: Numbers) {
    let mut batch = Vec::new();
    let stopping = tasks.stopping();
    tokio::pin!(stopping);
    let mut open = true;
    loop {
        let count = tokio::select! {
            count = jobs.recv_many(&mut batch, MOST) => count,
            () = &mut stopping, if open => {
                open = false;
                jobs.close();
                continue;
            }
        };
        if count == 0 {
            return;
        }
        let rows = newest(batch.iter().map(|job| &job.entry));
        let begun = Instant::now();
        let written = tokio::time::timeout(LIMIT, store.save(&rows)).await;
        numbers.commit.observe(begun.elapsed().as_secs_f64());
        let result = match written {
            Ok(Ok(())) => Ok(()),
            failed => {
                let error = failed.map_or(Away::late(), |result| result.err().unwrap_or(Away::late()));
                // Those who wait behind would only wait for the same.
                while let Ok(job) = jobs.try_recv() {
                    batch.push(job);
                }
                tracing::warn!(%error, reports = batch.len(), "positions could not be kept");
                Err(Error::Unavailable)
            }
        };
        let kept = std::mem::take(&mut batch);
        if result.is_err() {
            acknowledge(kept, result);
            continue;
        }
        numbers.rows.inc_by(rows.len() as u64);
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store.tell(&rows).await;
            acknowledge(kept, result);
        });
    }
}

fn acknowledge(jobs: Vec<Job>, result: Result<(), Error>) {
    for job in jobs {
        // Whoever has left needs no answer.
        let _ = job.done.send(result);
    }
}

/// One entry per key, in the order of the keys: two nodes that lock rows in one order cannot block each other.
fn newest<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Entry> {
    let mut rows: BTreeMap<&Key, Entry> = BTreeMap::new();
    for entry in entries {
        match rows.get_mut(&entry.key) {
            Some(row) if entry.at >= row.at => {
                let duration = entry.duration.or(row.duration);
                *row = Entry { duration, ..entry.clone() };
            }
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
    use crate::positions::Kind;

    #[test]
    fn of_many_reports_of_one_key_the_newest_is_written_with_the_length_that_any_of_them_knew() {
        let key = |item: &str| Key { user: "u".to_owned(), kind: Kind::Audio, item: item.to_owned() };
        let entry = |item, position, duration, at| Entry { key: key(item), position, duration, at, reported: at };
        let rows = newest(
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
