//! The folder in which events wait: a table ([`table`]) and a lock. Takes events, returns them in order, and removes
//! those that are delivered. Knows nothing of sinks.
//!
//! Delivery needs no space. Where the disk is too full to delete rows, the number of the last delivered row is
//! remembered, and once nothing waits the file itself is removed. Files that somebody removed, or that are damaged, are
//! made anew from what can still be read.

mod legacy_segments;
mod rebuild;
mod table;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use self::table::{FileIdentity, OutboxRow, OutboxTable, is_busy, is_damage, is_full, wal_path};
use super::metrics::{DropReason, EventMetrics};
use super::{Event, settings};

/// Approximate bytes of a row besides its event.
const ROW_OVERHEAD_BYTES: u64 = 16;
/// Bytes above which the file is removed when nothing waits in it: SQLite does not shrink it by itself.
const LARGE_FILE_BYTES: u64 = 16 << 20;

/// Reason why the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Another process has it.
    #[error("another process uses it")]
    InUse,
    /// Its folder, or a file in it, cannot be used.
    #[error(transparent)]
    Folder(#[from] io::Error),
    /// Its table cannot be used.
    #[error(transparent)]
    Table(sqlx::Error),
    /// The table is not open; the reason was logged when opening it failed.
    #[error("it is not open")]
    Closed,
}

impl From<sqlx::Error> for OutboxError {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) { Self::InUse } else { Self::Table(error) }
    }
}

impl OutboxError {
    fn is_damage(&self) -> bool {
        matches!(self, Self::Table(error) if is_damage(error))
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Table(error) => is_full(error),
            Self::Folder(error) => error.kind() == io::ErrorKind::StorageFull,
            Self::InUse | Self::Closed => false,
        }
    }
}

/// The events that wait to be delivered, on disk.
pub struct Outbox {
    state: Mutex<OutboxState>,
    /// Bytes of what waits, as they count against [`settings::OutboxSettings::size`].
    used: AtomicU64,
    limit: u64,
    metrics: EventMetrics,
}

/// State that one task at a time works with.
struct OutboxState {
    folder: PathBuf,
    lock: OutboxLock,
    /// The open table; `None` after it could not be opened, which is tried again.
    table: Option<OutboxTable>,
    /// Number of the last row. No number is given twice in a process, so that a batch which is being delivered keeps
    /// its meaning.
    last: i64,
    /// Number of the last row that is delivered.
    delivered: i64,
    /// Number of the last row that is removed; less than `delivered` where the disk was too full for it.
    removed: i64,
    /// Rows that wait, and their bytes.
    waiting: (u64, u64),
    metrics: EventMetrics,
}

/// File lock that keeps other processes away for as long as this one lives, however that ends.
struct OutboxLock {
    _file: File,
    identity: FileIdentity,
}

impl OutboxLock {
    fn take(folder: &Path) -> Result<Self, OutboxError> {
        fs::create_dir_all(folder)?;
        let path = folder.join("lock");
        // The system frees the lock with the process, after `kill -9` too; the file may stay.
        let file = File::create(&path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OutboxError::InUse,
            TryLockError::Error(error) => OutboxError::Folder(error),
        })?;
        Ok(Self { _file: file, identity: FileIdentity::of(path)? })
    }
}

/// Events in their order.
#[derive(Default)]
pub struct EventBatch {
    /// The events.
    pub events: Vec<Event>,
    /// For each event, with the unreadable rows beside it: the number of its last row, how many rows, and their bytes.
    rows: Vec<(i64, u64, u64)>,
}

impl Outbox {
    /// Opens the folder, and counts what waits there. Fails where another process has it or its files cannot be used. A
    /// full disk is no failure: new events are refused until there is room.
    pub async fn open(settings: &settings::OutboxSettings, numbers: EventMetrics) -> Result<Self, OutboxError> {
        let lock = OutboxLock::take(&settings.path)?;
        let folder = settings.path.clone();
        let mut state = OutboxState {
            folder,
            lock,
            table: None,
            last: 0,
            delivered: 0,
            removed: 0,
            waiting: (0, 0),
            metrics: numbers.clone(),
        };
        match state.open().await {
            // Streams need no events: they are refused until there is room.
            Err(trouble) if trouble.is_full() => tracing::error!("the outbox cannot be opened: {trouble}"),
            opened => opened?,
        }
        let this = Self { state: Mutex::new(state), used: AtomicU64::new(0), limit: settings.size, metrics: numbers };
        this.update_backlog(&*this.state.lock().await);
        Ok(this)
    }

    /// Returns true where `events` events of `bytes` bytes in all fit in.
    pub fn has_room(&self, events: u64, bytes: u64) -> bool {
        self.used.load(Ordering::Relaxed) + bytes + ROW_OVERHEAD_BYTES * events <= self.limit
    }

    /// Takes all of `events` or none; once it returns they survive the end of the process. Fails where the files cannot
    /// be written or restored.
    pub async fn append(&self, events: &[String]) -> Result<(), OutboxError> {
        let mut state = self.state.lock().await;
        // First, because what is written to a removed file is lost with the process.
        state.restore_files().await?;
        let outcome = state.append(events).await;
        if outcome.as_ref().is_err_and(OutboxError::is_damage) {
            state.rebuild(true).await?;
            state.append(events).await?;
        } else {
            outcome?;
        }
        self.update_backlog(&state);
        Ok(())
    }

    /// Returns the next events; none where all are delivered. They stay until [`Outbox::mark_done`]. Rows that cannot
    /// be read are counted and passed over.
    pub async fn read(&self) -> Result<EventBatch, OutboxError> {
        let mut state = self.state.lock().await;
        // What cannot be restored may still be read.
        let restored = state.restore_files().await;
        loop {
            let after = state.delivered;
            let rows = state.table()?.read(after).await;
            if rows.as_ref().is_err_and(is_damage) {
                state.rebuild(true).await?;
                continue;
            }
            let rows = rows?;
            let Some(last) = rows.last().map(|row| row.seq) else {
                restored?;
                state.shrink_empty().await?;
                self.update_backlog(&state);
                return Ok(EventBatch::default());
            };
            let (batch, broken) = parse(rows);
            if broken.0 > 0 {
                self.metrics.record_dropped(DropReason::Damaged, broken.0);
                tracing::error!(events = broken.0, "events in the outbox (Events.Outbox) cannot be read: passed over");
            }
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            // A full disk is no reason to stay here: what is delivered is known.
            let _ = state.mark_delivered(last, broken).await;
            self.update_backlog(&state);
        }
    }

    /// Removes the events of `batch` up to the end of `range`, for good; must be called in their order. An error means that the disk still has them, and
    /// that a new process would deliver them again.
    pub async fn mark_done(&self, batch: &EventBatch, range: std::ops::Range<usize>) -> Result<(), OutboxError> {
        let Some(rows) = batch.rows.get(range) else { return Ok(()) };
        let Some((last, ..)) = rows.last() else { return Ok(()) };
        let sum = rows.iter().fold((0, 0), |sum, (_, rows, bytes)| (sum.0 + rows, sum.1 + bytes));
        let mut state = self.state.lock().await;
        let forgotten = state.mark_delivered(*last, sum).await;
        self.update_backlog(&state);
        forgotten
    }

    /// Makes sure that the files are there and open; restores them where they are not.
    pub async fn check(&self) -> Result<(), OutboxError> {
        let mut state = self.state.lock().await;
        let restored = state.restore_files().await;
        self.update_backlog(&state);
        restored
    }

    /// Closes the files.
    pub async fn close(&self) {
        if let Some(table) = self.state.lock().await.table.take() {
            table.close().await;
        }
    }

    fn update_backlog(&self, state: &OutboxState) {
        let (events, bytes) = state.waiting;
        self.used.store(bytes + ROW_OVERHEAD_BYTES * events, Ordering::Relaxed);
        self.metrics.set_backlog(events, bytes);
    }
}

impl OutboxState {
    fn path(&self) -> PathBuf {
        self.folder.join("outbox.db")
    }

    fn table(&mut self) -> Result<&mut OutboxTable, OutboxError> {
        self.table.as_mut().ok_or(OutboxError::Closed)
    }

    /// Adds `events` to the table, all or none.
    async fn append(&mut self, events: &[String]) -> Result<(), OutboxError> {
        let last = self.last;
        self.table()?.append(last, events).await?;
        self.last += i64::try_from(events.len()).unwrap_or(i64::MAX);
        self.waiting.0 += events.len() as u64;
        self.waiting.1 += events.iter().map(|event| event.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Notes that the rows up to `last` wait no longer, and removes them.
    async fn mark_delivered(&mut self, last: i64, (rows, bytes): (u64, u64)) -> Result<(), OutboxError> {
        self.delivered = last;
        self.waiting.0 = self.waiting.0.saturating_sub(rows);
        self.waiting.1 = self.waiting.1.saturating_sub(bytes);
        // Last: where the disk is full and this fails, `delivered` still keeps the rows from being read again.
        self.table()?.remove(last).await?;
        self.removed = last;
        Ok(())
    }

    /// Removes the file and makes a new one, where it is large or cannot be emptied. Only for a table in which nothing
    /// waits.
    async fn shrink_empty(&mut self) -> Result<(), OutboxError> {
        self.waiting = (0, 0);
        let path = self.path();
        let is_empty = self.removed == self.delivered || self.mark_delivered(self.delivered, (0, 0)).await.is_ok();
        let is_large = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LARGE_FILE_BYTES);
        if is_empty && !is_large {
            return Ok(());
        }
        if let Some(table) = self.table.take() {
            table.close().await;
        }
        // The log first: without it the file says what was delivered, not what never was.
        remove(&wal_path(&path))?;
        remove(&path)?;
        self.removed = self.delivered;
        self.open().await
    }
}

/// Parses `rows`; returns the events, and the number and bytes of rows that could not be read.
fn parse(rows: Vec<OutboxRow>) -> (EventBatch, (u64, u64)) {
    let (mut batch, mut broken, mut before) = (EventBatch::default(), (0, 0), (0, 0));
    for OutboxRow { seq, event } in rows {
        let bytes = event.len() as u64;
        if let Ok(event) = serde_json::from_slice(&event) {
            batch.events.push(event);
            batch.rows.push((seq, 1 + before.0, bytes + before.1));
            before = (0, 0);
            continue;
        }
        broken = (broken.0 + 1, broken.1 + bytes);
        match batch.rows.last_mut() {
            // Goes with the event before it.
            Some(last) => *last = (seq, last.1 + 1, last.2 + bytes),
            None => before = (before.0 + 1, before.1 + bytes),
        }
    }
    (batch, broken)
}

/// Removes the file at `path`, if there is one.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
