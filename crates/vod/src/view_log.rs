//! Table `stream_sessions`: a row for each view. Rows are written by one task, many at a time, and wait while the
//! database is away; no request waits for them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::metrics::VodMetrics;
use crate::session::FilmView;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::lifecycle::BackgroundTasks;
use server_kit::database::Database;
use server_kit::on;

/// Bytes of the rows that wait, at most; further ones are dropped, and counted.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Approximate bytes of a row besides its texts.
const ROW_OVERHEAD: usize = 256;
/// Longest stored user agent, in bytes.
const MAX_AGENT_BYTES: usize = 512;
/// Rows per statement.
const MAX_BATCH: usize = 500;
/// Time limit of a statement.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Upsert: a row comes when its view begins and again when it ends, and the second one may come alone. Rows come as one
/// JSON text, so that any number of them is one statement.
const WRITE_SQLITE: &str = "INSERT INTO stream_sessions
        (id, user_id, movie_id, started_at, ended_at, duration_seconds, user_agent, ip_address)
    SELECT value ->> 'id', value ->> 'user', value ->> 'movie', value ->> 'started', value ->> 'ended',
        value ->> 'duration', value ->> 'agent', value ->> 'address'
    FROM json_each($1) WHERE true
    ON CONFLICT (id) DO UPDATE SET ended_at = COALESCE(excluded.ended_at, stream_sessions.ended_at),
        duration_seconds = COALESCE(excluded.duration_seconds, stream_sessions.duration_seconds),
        user_agent = COALESCE(stream_sessions.user_agent, excluded.user_agent),
        ip_address = COALESCE(stream_sessions.ip_address, excluded.ip_address)";
const WRITE_POSTGRES: &str = "INSERT INTO stream_sessions
        (id, user_id, movie_id, started_at, ended_at, duration_seconds, user_agent, ip_address)
    SELECT id, \"user\", movie, started, ended, duration, agent, address
    FROM json_to_recordset($1::json) AS views(id text, \"user\" text, movie text, started bigint, ended bigint,
        duration bigint, agent text, address text)
    ON CONFLICT (id) DO UPDATE SET ended_at = COALESCE(excluded.ended_at, stream_sessions.ended_at),
        duration_seconds = COALESCE(excluded.duration_seconds, stream_sessions.duration_seconds),
        user_agent = COALESCE(stream_sessions.user_agent, excluded.user_agent),
        ip_address = COALESCE(stream_sessions.ip_address, excluded.ip_address)";

/// Row of the table.
#[derive(Clone, Debug, Serialize)]
struct ViewRow {
    id: String,
    user: String,
    movie: String,
    started: i64,
    ended: Option<i64>,
    duration: Option<i64>,
    agent: Option<String>,
    address: Option<String>,
}

/// Device of a viewer.
#[derive(Clone, Debug, Default)]
pub struct ViewerDevice {
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
    /// The address.
    pub address: Option<IpAddr>,
}

/// Log of views, where there is a database. Clones share it.
#[derive(Clone)]
pub struct ViewLog {
    rows: Option<mpsc::UnboundedSender<WaitingRow>>,
    free_bytes: Arc<Semaphore>,
    metrics: VodMetrics,
}

struct WaitingRow {
    row: ViewRow,
    _room: OwnedSemaphorePermit,
}

impl ViewLog {
    /// Starts the task that writes to `database`; it ends, with all rows written where that is possible, with `tasks`.
    pub fn start(database: Option<Database>, tasks: &BackgroundTasks, metrics: VodMetrics) -> Self {
        let free_bytes = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        let rows = database.map(|database| {
            // Bounded by the bytes of what is in it, for which each row holds a permit.
            let (rows, waiting) = mpsc::unbounded_channel();
            tasks.spawn(write(waiting, database, tasks.clone(), metrics.clone()));
            rows
        });
        Self { rows, free_bytes, metrics }
    }

    /// Notes that a view has begun.
    pub fn started(&self, view: &FilmView, device: &ViewerDevice) {
        let agent = device.user_agent.as_deref().map(|agent| cut(agent, MAX_AGENT_BYTES).to_owned());
        let address = device.address.map(|address| address.to_string());
        self.add(ViewRow { agent, address, ..row(view) });
    }

    /// Notes that a view has ended, with its last report.
    pub fn ended(&self, view: &FilmView) {
        let ended = view.last_seen_at.max(view.started_at);
        let duration = (ended - view.started_at).as_secs();
        let duration = i64::try_from(duration).ok();
        self.add(ViewRow { ended: Some(ended.as_millis()), duration, ..row(view) });
    }

    fn add(&self, row: ViewRow) {
        let Some(rows) = &self.rows else { return };
        let texts = [Some(&row.user), Some(&row.movie), row.agent.as_ref(), row.address.as_ref()];
        let bytes = ROW_OVERHEAD + texts.into_iter().flatten().map(String::len).sum::<usize>();
        let room =
            u32::try_from(bytes).ok().and_then(|bytes| Arc::clone(&self.free_bytes).try_acquire_many_owned(bytes).ok());
        match room.is_some_and(|_room| rows.send(WaitingRow { row, _room }).is_ok()) {
            true => self.metrics.waiting_rows.inc(),
            false => self.metrics.dropped_rows.inc(),
        }
    }
}

fn row(view: &FilmView) -> ViewRow {
    ViewRow {
        id: view.id.to_string(),
        user: view.user.as_str().to_owned(),
        movie: view.movie.as_str().to_owned(),
        started: view.started_at.as_millis(),
        ended: None,
        duration: None,
        agent: None,
        address: None,
    }
}

/// Returns the beginning of `text`, at most `most` bytes, that ends at a character.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

async fn write(
    mut rows: mpsc::UnboundedReceiver<WaitingRow>,
    database: Database,
    tasks: BackgroundTasks,
    metrics: VodMetrics,
) {
    let failures = FailureLog::default();
    let mut batch = Vec::new();
    loop {
        let count = tokio::select! {
            count = rows.recv_many(&mut batch, MAX_BATCH) => count,
            () = tasks.stopping() => {
                rows.close();
                rows.recv_many(&mut batch, MAX_BATCH).await
            }
        };
        if count == 0 {
            return;
        }
        while let Err(error) = write_batch(&database, &batch).await {
            if failures.is_news(&error, monotonic_now()) {
                tracing::warn!(error, "rows of stream_sessions wait for the database");
            }
            if tasks.is_stopping() {
                // One try more was made; shutdown must not wait for a database that is away.
                return;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        if failures.is_over(monotonic_now()) {
            tracing::info!("rows of stream_sessions are written again");
        }
        metrics.waiting_rows.sub(i64::try_from(count).unwrap_or(i64::MAX));
        batch.clear();
    }
}

async fn write_batch(database: &Database, batch: &[WaitingRow]) -> Result<(), String> {
    // A statement may name a row once: of one that begins and ends in the same batch the end is written alone.
    let mut rows: Vec<ViewRow> = Vec::with_capacity(batch.len());
    for WaitingRow { row, .. } in batch {
        match rows.iter_mut().find(|known| known.id == row.id) {
            Some(known) => {
                known.ended = row.ended.or(known.ended);
                known.duration = row.duration.or(known.duration);
            }
            None => rows.push(row.clone()),
        }
    }
    // In one order, so that two nodes cannot wait for each other's rows.
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    let text = serde_json::to_string(&rows).map_err(|error| error.to_string())?;
    let sql = match database {
        Database::Sqlite(_) => WRITE_SQLITE,
        Database::Postgres(_) => WRITE_POSTGRES,
    };
    let written = async { on!(database, pool => sqlx::query(sql).bind(text).execute(pool).await.map(drop)) };
    let outcome = tokio::time::timeout(WRITE_TIMEOUT, written).await;
    outcome
        .map_err(|_| "the database: no answer in time".to_owned())?
        .map_err(|error| format!("the database: {}", line(&chain(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_user_agent_is_cut_at_a_character() {
        assert_eq!(cut("abc", 512), "abc");
        assert_eq!(cut("aüb", 2), "a");
    }
}
