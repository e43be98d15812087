//! An open connection as the rest of the server counts it, waits for it and ends it.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::connection_counts::{ClientPermit, ConnectionPermit};
use crate::workers::{WorkerActivity, WorkerAssignment};
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;

/// An open connection: it is counted, and shutdown waits for it, until this is dropped.
pub struct ConnectionGuard {
    metrics: Arc<Metrics>,
    tasks: BackgroundTasks,
    assignment: WorkerAssignment,
    _permit: ConnectionPermit,
    /// Empty until the client is known.
    client: OnceLock<ClientPermit>,
    /// Cancelled when the client's certificate is no longer good; empty where it has shown none.
    revoked: OnceLock<CancellationToken>,
    _under_way: TaskTrackerToken,
}

impl ConnectionGuard {
    /// Counts a connection that was admitted by these permits.
    pub fn new(
        (permit, client): (ConnectionPermit, Option<ClientPermit>),
        assignment: WorkerAssignment,
        tasks: &BackgroundTasks,
        metrics: &Arc<Metrics>,
    ) -> Self {
        metrics.connections().inc();
        let client = client.map_or_else(OnceLock::new, OnceLock::from);
        let (metrics, tasks, token) = (Arc::clone(metrics), tasks.clone(), tasks.token());
        Self { metrics, tasks, assignment, _permit: permit, client, revoked: OnceLock::new(), _under_way: token }
    }

    /// Keeps the place of the connection among those of its client, once that is known.
    pub fn set_client(&self, permit: ClientPermit) {
        // A connection has one header, and so one client.
        let _ = self.client.set(permit);
    }

    /// Returns the worker that serves the connection.
    pub fn assignment(&self) -> &WorkerAssignment {
        &self.assignment
    }

    /// Returns the connection's own activity.
    pub fn activity(&self) -> &WorkerActivity {
        self.assignment.activity()
    }

    /// Makes the activity of one of its streams.
    pub fn stream_activity(&self) -> WorkerActivity {
        self.assignment.stream_activity()
    }

    /// Counts an HTTP/2 connection that is ended because of its frames of this kind, one of a closed set.
    pub fn http2_flood(&self, kind: &str) {
        self.metrics.http2_flood(kind);
    }

    /// Returns the token by which the connection ends when the client's certificate is no longer good.
    pub fn revoked(&self) -> &CancellationToken {
        self.revoked.get_or_init(CancellationToken::new)
    }

    /// Returns true where the client's certificate is no longer good: no more of its requests are answered.
    pub fn is_revoked(&self) -> bool {
        self.revoked.get().is_some_and(CancellationToken::is_cancelled)
    }

    /// Returns true where the connection ends with the answer under way: a shutdown has begun, or the drain before it, or
    /// the client's certificate is no longer good.
    pub fn is_draining(&self) -> bool {
        self.tasks.is_draining() || self.is_revoked()
    }

    /// Resolves when shutdown begins, or the client's certificate is no longer good.
    pub async fn stopping(&self) {
        self.or_revoked(self.tasks.stopping()).await;
    }

    /// Resolves when new connections are no longer taken, since those that can send a client elsewhere do so, or the
    /// client's certificate is no longer good.
    pub async fn closing(&self) {
        self.or_revoked(self.tasks.closing()).await;
    }

    async fn or_revoked(&self, end: impl Future<Output = ()>) {
        match self.revoked.get() {
            None => end.await,
            Some(revoked) => {
                tokio::select! {
                    () = end => {}
                    () = revoked.cancelled() => {}
                }
            }
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.connections().dec();
    }
}
