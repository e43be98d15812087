//! The table of the events that wait: an SQLite file that this process has to itself, with a write-ahead log.
//!
//! One connection writes and reads, in SQLite's exclusive mode: no other process can open the file, and there is no
//! file of shared memory that a full disk could take away. A statement is done whole or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

/// Most rows that are read at once.
const MAX_ROWS: usize = 1000;
/// Bytes that are read at once, one row more at most.
const MAX_READ_BYTES: usize = 1 << 20;
/// Time that another process may take to close the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

const CREATE: &str = "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, event TEXT NOT NULL)";
/// Rows come as one JSON text, so that a commit of any size is one prepared statement.
const APPEND: &str = "INSERT INTO events (seq, event) SELECT $1 + 1 + key, value FROM json_each($2)";
const COPY: &str = "INSERT INTO events (seq, event) VALUES ($1, $2)";
/// Reads bytes, because a damaged event need not be text.
const FORWARD: &str = "SELECT seq, CAST(event AS BLOB) FROM events WHERE seq > $1 AND seq < $2 ORDER BY seq";
const BACKWARD: &str = "SELECT seq, CAST(event AS BLOB) FROM events WHERE seq > $1 AND seq < $2 ORDER BY seq DESC";
const REMOVE: &str = "DELETE FROM events WHERE seq <= $1";
const COUNT: &str = "SELECT count(*), coalesce(sum(length(CAST(event AS BLOB))), 0), coalesce(max(seq), 0)
    FROM events WHERE seq > $1";

/// The open table.
pub struct OutboxTable {
    connection: SqliteConnection,
    /// The file and its log, as they were when they were opened.
    files: [FileIdentity; 2],
}

/// A row of the table.
pub struct OutboxRow {
    /// Number of the row, which gives the order.
    pub seq: i64,
    /// JSON of the event; empty where it is NULL, which only damage leaves.
    pub event: Vec<u8>,
}

/// Identity of a file: its path, device and inode.
pub struct FileIdentity {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl FileIdentity {
    /// Returns the identity of the file that is at `path` now; fails where there is none.
    pub fn of(path: PathBuf) -> io::Result<Self> {
        let id = id(&path)?;
        Ok(Self { path, id })
    }

    /// Returns true where the same file is still at the path.
    pub fn is_in_place(&self) -> bool {
        id(&self.path).is_ok_and(|id| id == self.id)
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns the path of the write-ahead log of the file at `path`.
pub fn wal_path(path: &Path) -> PathBuf {
    let mut log = path.to_owned().into_os_string();
    log.push("-wal");
    log.into()
}

/// Returns SQLite's primary result code (sqlite.org/rescode.html).
fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    // An extended code has the primary one in its lowest byte.
    Some(code & 0xff)
}

/// Returns true where the file is damaged, or never was a database: `SQLITE_CORRUPT`, `SQLITE_NOTADB`.
pub fn is_damage(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(11 | 26))
}

/// Returns true where the disk has no room: `SQLITE_FULL`.
pub fn is_full(error: &sqlx::Error) -> bool {
    code(error) == Some(13)
}

/// Returns true where another process has the file: `SQLITE_BUSY`.
pub fn is_busy(error: &sqlx::Error) -> bool {
    code(error) == Some(5)
}

impl OutboxTable {
    /// Opens the file at `path`, which is made where there is none. Fails where another process has it, it is damaged,
    /// or the disk is full.
    pub async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            // What was committed survives the end of the process; only a loss of power may lose the last commits.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            // Temporary data on a full disk would keep even a deletion from working.
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        sqlx::query(CREATE).execute(&mut connection).await?;
        // After the first statement, which makes the log.
        let files = [FileIdentity::of(path.to_owned())?, FileIdentity::of(wal_path(path))?];
        Ok(Self { connection, files })
    }

    /// Returns true where its files are still where they were opened: data written elsewhere is lost with the process.
    pub fn is_in_place(&self) -> bool {
        self.files.iter().all(FileIdentity::is_in_place)
    }

    /// Returns true where the file at its path is still the one that was opened.
    pub fn has_its_file(&self) -> bool {
        self.files[0].is_in_place()
    }

    /// Adds `events` under the numbers after `last`, all or none. Once it returns they survive the end of the process,
    /// but the last ones may be lost with the power.
    pub async fn append(&mut self, last: i64, events: &[String]) -> Result<(), sqlx::Error> {
        let rows = serde_json::to_string(events).expect("texts have a JSON form");
        sqlx::query(APPEND).bind(last).bind(rows).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Returns the first rows after `seq`, in their order; an error only where no row comes before it.
    pub async fn read(&mut self, seq: i64) -> Result<Vec<OutboxRow>, sqlx::Error> {
        self.rows(FORWARD, seq, i64::MAX).await
    }

    /// Returns the last rows between `after` and `before`, the last one first; an error only where no row comes before
    /// it.
    pub async fn read_back(&mut self, after: i64, before: i64) -> Result<Vec<OutboxRow>, sqlx::Error> {
        self.rows(BACKWARD, after, before).await
    }

    async fn rows(&mut self, query: &'static str, after: i64, before: i64) -> Result<Vec<OutboxRow>, sqlx::Error> {
        let query = sqlx::query_as::<_, (i64, Option<Vec<u8>>)>(query).bind(after).bind(before);
        let mut stream = query.fetch(&mut self.connection);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < MAX_ROWS && bytes < MAX_READ_BYTES {
            match stream.try_next().await {
                Ok(Some((seq, event))) => {
                    let event = event.unwrap_or_default();
                    bytes += event.len();
                    rows.push(OutboxRow { seq, event });
                }
                Ok(None) => break,
                // The rows before the error are good; the next read begins at it and reports it.
                Err(_) if !rows.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }

    /// Adds rows of another table under their own numbers.
    pub async fn copy(&mut self, rows: &[OutboxRow]) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        for row in rows {
            let event = String::from_utf8_lossy(&row.event);
            sqlx::query(COPY).bind(row.seq).bind(event.as_ref()).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Removes the rows up to `seq`.
    pub async fn remove(&mut self, seq: i64) -> Result<(), sqlx::Error> {
        sqlx::query(REMOVE).bind(seq).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Returns the number of rows after `seq`, their bytes, and the number of the last one; 0 where there is none.
    pub async fn count(&mut self, seq: i64) -> Result<(u64, u64, i64), sqlx::Error> {
        let (rows, bytes, last): (i64, i64, i64) =
            sqlx::query_as(COUNT).bind(seq).fetch_one(&mut self.connection).await?;
        Ok((rows.unsigned_abs(), bytes.unsigned_abs(), last))
    }

    /// Closes the table; the log is written into the file where there is room.
    pub async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the outbox was not closed cleanly: nothing is lost by it");
        }
    }
}
