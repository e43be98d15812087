//! Opening the table, and making it anew: from what an open file still holds after somebody removed it, or from what
//! can be read of a damaged one. A file that is damaged, or is not ours, is set aside and never deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::table::{OutboxTable, is_damage, wal_path};
use super::{DropReason, OutboxError, OutboxLock, OutboxState, legacy_segments, remove};

/// Counts of a copy from one table to another.
#[derive(Default)]
struct CopyCounts {
    rows: u64,
    /// Rows that could not be read.
    lost: u64,
}

impl OutboxState {
    /// Opens the table, counts what waits, and takes over what an older version left.
    pub(super) async fn open(&mut self) -> Result<(), OutboxError> {
        let path = self.path();
        self.finish_rebuild().await?;
        match OutboxTable::open(&path).await {
            Err(error) if is_damage(&error) => self.rebuild(true).await?,
            table => self.table = Some(table?),
        }
        // Counting reads every row, so it finds damage that opening does not.
        let counted = self.count_rows().await;
        if counted.as_ref().is_err_and(OutboxError::is_damage) {
            self.rebuild(true).await?;
        } else {
            counted?;
        }
        legacy_segments::take_over(self).await
    }

    async fn count_rows(&mut self) -> Result<(), OutboxError> {
        let delivered = self.delivered;
        let (rows, bytes, last) = self.table()?.count(delivered).await?;
        self.waiting = (rows, bytes);
        self.last = self.last.max(last);
        Ok(())
    }

    /// Makes sure that the lock and the table's files are there: data written to a removed file is lost with the
    /// process.
    pub(super) async fn restore_files(&mut self) -> Result<(), OutboxError> {
        let mut locked = Ok(());
        if !self.lock.identity.is_in_place() {
            locked = OutboxLock::take(&self.folder).map(|lock| self.lock = lock);
        }
        match &self.table {
            // SQLite's own lock is enough here, whoever holds the other one now.
            Some(table) if table.is_in_place() => Ok(()),
            None => {
                locked?;
                self.open().await
            }
            Some(_) => {
                locked?;
                self.rebuild(false).await?;
                tracing::error!("the outbox's files (Events.Outbox) were removed or replaced: they are written again");
                Ok(())
            }
        }
    }

    /// Makes the table anew from what the open one still holds. One that `is_damaged` is set aside.
    pub(super) async fn rebuild(&mut self, is_damaged: bool) -> Result<(), OutboxError> {
        let (path, new) = (self.path(), self.new_path());
        // Left by a rebuild that was broken off.
        remove(&wal_path(&new))?;
        remove(&new)?;
        let mut table = OutboxTable::open(&new).await?;
        let copied = match &mut self.table {
            Some(old) => copy(old, &mut table, self.delivered).await,
            None => Ok(CopyCounts { lost: 1, ..CopyCounts::default() }),
        };
        table.close().await;
        let copied = copied?;
        check_no_wal(&new)?;
        // Until here the old table is open, and delivers what it can.
        let is_ours = self.table.as_ref().is_none_or(OutboxTable::has_its_file);
        if let Some(old) = self.table.take() {
            old.close().await;
        }
        if (is_damaged || !is_ours) && path.exists() {
            self.set_aside(&path)?;
        }
        if is_damaged {
            // Of what was counted before the damage, all that could not be copied is lost.
            let (kept, lost) = (copied.rows, copied.lost.max(self.waiting.0.saturating_sub(copied.rows)));
            self.metrics.record_dropped(DropReason::Damaged, lost);
            tracing::error!(kept, lost, "the outbox (Events.Outbox) was damaged: what could be read is in a new file");
        }
        // Where it could not be closed cleanly: SQLite would take its log for the new file's.
        remove(&wal_path(&path))?;
        fs::rename(&new, &path)?;
        self.table = Some(OutboxTable::open(&path).await?);
        self.removed = self.delivered;
        self.count_rows().await
    }

    fn new_path(&self) -> PathBuf {
        self.folder.join("outbox.new")
    }

    /// Finishes the rebuild of a process that was killed while the new file was whole and no file was at the path.
    async fn finish_rebuild(&self) -> Result<(), OutboxError> {
        let (path, new) = (self.path(), self.new_path());
        // While the old file is there, the new one may not be whole: it is not used.
        if path.exists() || !new.exists() {
            return Ok(());
        }
        OutboxTable::open(&new).await?.close().await;
        check_no_wal(&new)?;
        // That of another file: SQLite would take it for this one's.
        remove(&wal_path(&path))?;
        Ok(fs::rename(new, path)?)
    }

    /// Renames the file at `path`, and its log, to the first free name of the form `outbox.damaged.N`.
    fn set_aside(&self, path: &Path) -> io::Result<()> {
        let named = |number: u32| self.folder.join(format!("outbox.damaged.{number}"));
        let aside = (1..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(0));
        tracing::error!(file = %aside.display(), "a file that is damaged or not ours was at the outbox's place: kept aside");
        fs::rename(path, &aside)?;
        match fs::rename(wal_path(path), wal_path(&aside)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Fails where the file at `path`, which is closed, has left some of itself in its log: the disk had no room.
fn check_no_wal(path: &Path) -> io::Result<()> {
    if wal_path(path).exists() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Copies the rows after `after` that can be read: from the first one on, and where that ends, from the last one back.
async fn copy(old: &mut OutboxTable, new: &mut OutboxTable, after: i64) -> Result<CopyCounts, OutboxError> {
    let (mut copied, mut last, mut first) = (CopyCounts::default(), after, i64::MAX);
    loop {
        let (rows, is_forward) = match old.read(last).await {
            Ok(rows) if rows.is_empty() => return Ok(copied),
            Ok(rows) => (rows, true),
            Err(error) if is_damage(&error) => (old.read_back(last, first).await.unwrap_or_default(), false),
            Err(error) => return Err(error.into()),
        };
        let Some(end) = rows.last() else {
            // Without a row before the damage and one behind it nobody knows how many there were.
            let is_known = last > after && first < i64::MAX;
            copied.lost = if is_known { (first - last - 1).unsigned_abs() } else { 1 };
            return Ok(copied);
        };
        if is_forward {
            last = end.seq;
        } else {
            first = end.seq;
        }
        copied.rows += rows.len() as u64;
        new.copy(&rows).await?;
    }
}
