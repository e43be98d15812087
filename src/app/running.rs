//! The server while it runs, and its end: by a stop, or by another process that has taken over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::reload::ConfigReloader;
use super::storage::StateStorage;
use super::upgrade::{self, SuccessorProcess};
use crate::proxy::runtime::Runtime;
use events::EventPublisher;
use http_server::bind::BoundAddress;
use http_server::listen_sockets::ListenSockets;
use http_server::workers::Workers;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::config_reload::ConfigReload;
use server_kit::telemetry::access_log::AccessLogQueue;

/// Time for the running requests of the admin listener and the embedded stores, at the end of a shutdown.
const SERVICES_GRACE: Duration = Duration::from_secs(1);
/// Time in which idle connections may still send a request after another process has taken over. Closed at once, some
/// would be closed under a request that is on its way.
const HANDED_OVER_IDLE_TIME: Duration = Duration::from_secs(5);
/// Time between two looks whether connections are left.
const CONNECTIONS_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Time for the workers to drop the requests that they still serve.
const WORKERS_TIME: Duration = Duration::from_secs(1);
/// Time for the disk cache to write its last slices.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// A server that runs.
pub struct RunningServer {
    /// Addresses of the public listeners, in the order of the settings.
    pub listeners: Vec<BoundAddress>,
    /// Address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// The threads that serve clients.
    pub(super) workers: Arc<Workers>,
    /// Listening sockets, to be handed over.
    pub(super) sockets: ListenSockets,
    /// Tasks that graceful shutdown waits for.
    pub(super) tasks: BackgroundTasks,
    /// Tasks that outlive it: the operator's view of the drain, and embedded stores.
    pub(super) services: BackgroundTasks,
    /// Runtime in force, whose settings say how long a stop may take.
    pub(super) runtime: Arc<ArcSwap<Runtime>>,
    pub(super) storage: StateStorage,
    pub(super) files: ReopenableFiles,
    pub(super) reloader: Option<Arc<ConfigReloader>>,
}

/// Files that are opened anew after log rotation has moved them. Clones are the same files.
#[derive(Clone)]
pub struct ReopenableFiles {
    pub(super) events: Option<EventPublisher>,
    pub(super) access_log: Option<AccessLogQueue>,
}

impl ReopenableFiles {
    /// Opens them anew, where events and access lines go to files.
    pub fn reopen(&self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
        if let Some(events) = &self.events {
            events.reopen();
        }
    }
}

impl RunningServer {
    /// Returns the reloader of the configuration file, if there is one.
    pub fn reloader(&self) -> Option<Arc<dyn ConfigReload>> {
        self.reloader.clone().map(|reloader| reloader as Arc<dyn ConfigReload>)
    }

    /// Returns the files to reopen at a signal.
    pub fn files(&self) -> ReopenableFiles {
        self.files.clone()
    }

    /// Says that the node is not ready, stops accepting after the settings' delay, and lets streams end for as long as
    /// they say or until `hurry`; false when some were cut. After `hurry` nothing is waited for but the access lines of
    /// what is cut.
    pub async fn stop(self, hurry: impl Future<Output = ()>) -> bool {
        self.tasks.begin_drain();
        let delay = self.runtime.load().server.http.shutdown_delay;
        let delayed = async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        };
        self.stop_after(delayed, hurry).await
    }

    /// As [`RunningServer::stop`], after `successor` has taken over: it gets the new connections at once, and idle ones
    /// have some seconds for their next request.
    pub async fn stop_for(self, successor: SuccessorProcess, hurry: impl Future<Output = ()>) -> bool {
        self.tasks.hand_over();
        let _channel = match self.files.events.clone() {
            Some(events) => {
                self.services.spawn(upgrade::take_events(successor.channel, events, self.services.clone()));
                None
            }
            // Kept open: its end tells the other process that this one has ended.
            None => Some(successor.channel),
        };
        let workers = Arc::clone(&self.workers);
        let unused = async move {
            while workers.connections() > 0 {
                tokio::time::sleep(CONNECTIONS_CHECK_INTERVAL).await;
            }
        };
        // One that ends early costs nothing; that some are left is no error.
        let left = async { drop(tokio::time::timeout(HANDED_OVER_IDLE_TIME, unused).await) };
        self.stop_after(left, hurry).await
    }

    /// Returns the listening sockets, for a process that takes them over.
    pub fn sockets(&self) -> ListenSockets {
        self.sockets.clone()
    }

    async fn stop_after(self, before: impl Future<Output = ()>, hurry: impl Future<Output = ()>) -> bool {
        let drained = async {
            before.await;
            let grace = self.runtime.load().server.http.shutdown_grace;
            self.tasks.shutdown(grace).await
        };
        let whole = tokio::select! {
            biased;
            whole = drained => whole,
            () = hurry => {
                self.workers.stop(WORKERS_TIME).await;
                return false;
            }
        };
        self.workers.stop(WORKERS_TIME).await;
        if let Some(cache) = self.runtime.load().cache.clone() {
            // What a dying disk does not take in time is fetched anew after the start.
            let _ = tokio::time::timeout(CLOSE_TIME, cache.close()).await;
        }
        self.services.shutdown(SERVICES_GRACE).await;
        self.storage.close().await;
        whole
    }
}
