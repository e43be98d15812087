//! Positions in films, written back: acknowledged once Redis has them, and written to the database within a minute, many
//! at a time. Players of films report every few seconds, far more often than a database needs to know.
//!
//! One script writes the value and marks it dirty, so that a process that ends loses nothing: any node writes what is
//! marked. A mark is cleared only while the value is the one that was written. Without Redis the database is written
//! before the answer, and of what both have the newer one counts.

mod merge;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use super::metrics::PositionMetrics;
use super::settings::{Settings, WriteBackSettings};
use super::store::{DatabasePositionStore, PositionListQuery, PositionStore, PositionStoreError};
use super::write_queue::WriteQueue;
use super::{Error, PositionKey, PositionRecord, ProgressPage};
use primitives::clock::{Clock, monotonic_now};
use primitives::failure_log::FailureLog;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use redis::{DirtyPosition, DirtyPositions, SHARDS, SaveReply};

/// Interval at which due positions are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Rows per statement.
const FLUSH_BATCH: usize = 1000;
/// Time limit of a statement.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of the last report of a view, for which a player waits.
const LAST_TIMEOUT: Duration = Duration::from_millis(1500);

/// Positions in films. Clones share it.
#[derive(Clone)]
pub struct WriteBackPositions(Arc<WriteBackState>);

struct WriteBackState {
    dirty: DirtyPositions,
    database: Arc<DatabasePositionStore>,
    /// Writes before the answer, where there is no Redis or no room in it.
    queue: WriteQueue,
    settings: WriteBackSettings,
    clock: Clock,
    metrics: PositionMetrics,
    failures: FailureLog,
}

impl WriteBackPositions {
    /// Starts writing back from `redis` to `database`, until `tasks` stop.
    pub fn start(
        (database, redis): (DatabasePositionStore, server_kit::redis::Redis),
        settings: &Settings,
        clock: &Clock,
        tasks: &BackgroundTasks,
        metrics: &PositionMetrics,
    ) -> Self {
        let database = Arc::new(database);
        let queue = WriteQueue::start(Arc::clone(&database) as Arc<dyn PositionStore>, tasks, metrics.clone());
        let this = Self(Arc::new(WriteBackState {
            dirty: DirtyPositions::new(redis, settings),
            database,
            queue,
            settings: settings.write_back,
            clock: clock.clone(),
            metrics: metrics.clone(),
            failures: FailureLog::default(),
        }));
        tasks.spawn(this.clone().run(tasks.clone()));
        this
    }

    /// Saves a report, of the player's time `at`; it survives the end of this process when this returns. The last of a view is
    /// then in the database too, where that answers.
    pub async fn save(&self, record: PositionRecord, at: Option<UnixMillis>, is_last: bool) -> Result<(), Error> {
        let state = &*self.0;
        let due = self.now() + if is_last { Duration::ZERO } else { state.settings.flush_interval };
        match state.dirty.save(&record, at, due).await {
            Ok(SaveReply::Saved(updated_at)) => {
                state.metrics.kept.inc();
                if is_last {
                    self.write_through(PositionRecord { updated_at, ..record }).await;
                }
                Ok(())
            }
            Ok(SaveReply::Outdated) => {
                state.metrics.kept.inc();
                Ok(())
            }
            // Full: more waits for the database than may wait; it is asked directly, and decides.
            Ok(SaveReply::Full) | Err(_) => state.queue.save(record).await,
        }
    }

    /// Returns the newer of what Redis and the database have of `key`.
    pub async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        let (front, stored) = tokio::join!(self.0.dirty.get(key), self.0.database.get(key));
        match (front, stored) {
            (Ok(front), Ok(stored)) => Ok(newer(front, stored)),
            // One that has it is enough; one that has nothing may have lost what the other has.
            (Ok(Some(found)), Err(_)) | (Err(_), Ok(Some(found))) => Ok(Some(found)),
            (_, Err(error)) | (Err(error), Ok(None)) => Err(error),
        }
    }

    /// Adds what is not in the database yet to a page that is read from it.
    pub async fn add_dirty(&self, listing: &PositionListQuery<'_>, page: ProgressPage) -> ProgressPage {
        // Without Redis the list is that of the database.
        let dirty = self.0.dirty.of_user(listing.user).await.unwrap_or_default();
        merge::merge(listing, page, dirty)
    }

    fn now(&self) -> UnixMillis {
        self.0.clock.unix_millis()
    }

    /// Writes an acknowledged position to the database at once; where that fails it is done later.
    async fn write_through(&self, record: PositionRecord) {
        let rows = std::slice::from_ref(&record);
        let written = tokio::time::timeout(LAST_TIMEOUT, self.0.database.save(rows)).await;
        if matches!(written, Ok(Ok(_))) {
            self.0.metrics.rows.inc();
            let written = [DirtyPosition::of(record)];
            let _ = self.0.dirty.clear(&written, self.now() + self.0.settings.flush_interval).await;
        }
    }

    async fn run(self, tasks: BackgroundTasks) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = tasks.stopping() => return,
            }
            for shard in 0..SHARDS {
                // After an error the marks stay, and the next round tries again.
                while !tasks.is_stopping()
                    && self.flush(shard).await.inspect_err(|error| self.failed(error)).is_ok_and(|n| n == FLUSH_BATCH)
                {
                }
            }
            if let Ok((entries, bytes)) = self.0.dirty.backlog().await {
                self.0.metrics.backlog.set(entries);
                self.0.metrics.backlog_bytes.set(bytes);
            }
        }
    }

    /// Writes those positions of a shard that are due; returns their number.
    async fn flush(&self, shard: u16) -> Result<usize, PositionStoreError> {
        let state = &*self.0;
        let due = state.dirty.take_due(shard, self.now(), FLUSH_BATCH).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let rows: Vec<PositionRecord> = due.iter().filter_map(|dirty| dirty.record.clone()).collect();
        let begun = monotonic_now();
        let written = tokio::time::timeout(FLUSH_TIMEOUT, state.database.save(&rows)).await;
        let outcome = written.map_err(|_| PositionStoreError::timeout())??;
        state.metrics.dropped.inc_by(outcome.dropped.len() as u64);
        state.metrics.rows.inc_by(rows.len() as u64);
        state.metrics.commit.observe(begun.elapsed().as_secs_f64());
        let later = self.now() + state.settings.flush_interval;
        state.dirty.clear(&due, later).await?;
        if state.failures.is_over(monotonic_now()) {
            tracing::info!("positions in films are written to the database again");
        }
        Ok(due.len())
    }

    fn failed(&self, error: &PositionStoreError) {
        let error = error.to_string();
        if self.0.failures.is_news(&error, monotonic_now()) {
            tracing::warn!(error, "positions in films wait to be written to the database");
        }
    }
}

fn newer(one: Option<PositionRecord>, other: Option<PositionRecord>) -> Option<PositionRecord> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.updated_at >= other.updated_at { one } else { other }),
        (one, other) => one.or(other),
    }
}
