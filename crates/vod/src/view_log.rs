//! Table `stream_sessions`: a row for each view. Rows are written by one task, many at a time, and wait while the
//! database is away; no request waits for them. A view that has ended stays in its session until it is written, so that with
//! sessions in Redis another node, or the next process, writes it where this one ends before.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use crate::metrics::VodMetrics;
use crate::session::{FilmSessions, FilmView, SessionId};
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::lifecycle::BackgroundTasks;
use server_kit::database::Database;
use server_kit::on;

/// Bytes of the rows that wait, at most; further ones are dropped, and counted.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Approximate bytes of a row besides its texts.
const ROW_OVERHEAD: usize = 320;
/// Views that are finished at the same time, once they are written.
const MAX_FINISHES: usize = 16;
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
    agent: Option<Box<str>>,
    address: Option<String>,
}

/// Log of views, where there is a database. Clones share it.
#[derive(Clone)]
pub struct ViewLog {
    rows: Option<mpsc::UnboundedSender<WaitingRow>>,
    ended: Arc<Mutex<HashSet<Uuid>>>,
    free_bytes: Arc<Semaphore>,
    metrics: VodMetrics,
}

struct WaitingRow {
    row: ViewRow,
    /// The view and its session, where it has ended: it is finished when the row is written.
    ended: Option<(SessionId, Uuid)>,
    _room: OwnedSemaphorePermit,
}

/// What the task that writes works with.
struct ViewWriter {
    database: Database,
    sessions: FilmSessions,
    ended: Arc<Mutex<HashSet<Uuid>>>,
    tasks: BackgroundTasks,
    metrics: VodMetrics,
}

impl ViewLog {
    /// Starts the task that writes to `database` and then finishes views in `sessions`; it ends, with all rows written where
    /// that is possible, with `tasks`.
    pub fn start(
        database: Option<Database>,
        sessions: FilmSessions,
        tasks: &BackgroundTasks,
        metrics: VodMetrics,
    ) -> Self {
        let free_bytes = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        let ended = Arc::<Mutex<HashSet<Uuid>>>::default();
        let rows = database.map(|database| {
            // Bounded by the bytes of what is in it, for which each row holds a permit.
            let (rows, waiting) = mpsc::unbounded_channel();
            let (ended, metrics) = (Arc::clone(&ended), metrics.clone());
            let writer = ViewWriter { database, sessions, ended, tasks: tasks.clone(), metrics };
            tasks.spawn(writer.run(waiting));
            rows
        });
        Self { rows, ended, free_bytes, metrics }
    }

    /// Returns true if there is a database that views are written to.
    pub fn is_kept(&self) -> bool {
        self.rows.is_some()
    }

    /// Has a view written that has begun.
    pub fn started(&self, view: &FilmView) {
        self.add(row(view), None);
    }

    /// Has a view written that has ended, with its last report, unless it waits for that already. Where it finds no room, it has
    /// to be tried again.
    pub fn ended(&self, view: &FilmView) {
        if !self.ended.lock().insert(view.id) {
            return;
        }
        let ended = view.last_seen_at.max(view.started_at);
        let duration = (ended - view.started_at).as_secs();
        let row = ViewRow { ended: Some(ended.as_millis()), duration: i64::try_from(duration).ok(), ..row(view) };
        if !self.add(row, Some((view.session, view.id))) {
            self.ended.lock().remove(&view.id);
        }
    }

    /// Returns false if there is no room.
    fn add(&self, row: ViewRow, ended: Option<(SessionId, Uuid)>) -> bool {
        let Some(rows) = &self.rows else { return false };
        let is_end = ended.is_some();
        let texts = [Some(row.user.len()), Some(row.movie.len()), row.agent.as_ref().map(|agent| agent.len())];
        let bytes = ROW_OVERHEAD + texts.into_iter().flatten().sum::<usize>();
        let room =
            u32::try_from(bytes).ok().and_then(|bytes| Arc::clone(&self.free_bytes).try_acquire_many_owned(bytes).ok());
        let is_added = room.is_some_and(|_room| rows.send(WaitingRow { row, ended, _room }).is_ok());
        match (is_added, is_end) {
            (true, _) => self.metrics.waiting_rows.inc(),
            // The end is tried again, with the whole row.
            (false, true) => {}
            (false, false) => self.metrics.dropped_rows.inc(),
        }
        is_added
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
        agent: view.device.user_agent.clone(),
        address: view.device.address.map(|address| address.to_string()),
    }
}

impl ViewWriter {
    async fn run(self, mut rows: mpsc::UnboundedReceiver<WaitingRow>) {
        let failures = FailureLog::default();
        let mut batch = Vec::new();
        loop {
            let count = tokio::select! {
                count = rows.recv_many(&mut batch, MAX_BATCH) => count,
                () = self.tasks.stopping() => {
                    rows.close();
                    rows.recv_many(&mut batch, MAX_BATCH).await
                }
            };
            if count == 0 {
                return;
            }
            while let Err(error) = write_batch(&self.database, &batch).await {
                if failures.is_news(&error, monotonic_now()) {
                    tracing::warn!(error, "rows of stream_sessions wait for the database");
                }
                if self.tasks.is_stopping() {
                    // One try more was made; shutdown must not wait for a database that is away.
                    return;
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            if failures.is_over(monotonic_now()) {
                tracing::info!("rows of stream_sessions are written again");
            }
            self.metrics.waiting_rows.sub(i64::try_from(count).unwrap_or(i64::MAX));
            let ended = batch.drain(..).filter_map(|row| row.ended);
            stream::iter(ended).for_each_concurrent(MAX_FINISHES, |view| self.finish(view)).await;
        }
    }

    /// Finishes a view that is written. Where Redis does not answer it is written once more, which changes nothing.
    async fn finish(&self, (session, view): (SessionId, Uuid)) {
        let _ = self.sessions.finish_view(session, view).await;
        self.ended.lock().remove(&view);
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
