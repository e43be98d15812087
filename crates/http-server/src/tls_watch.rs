//! The watch over the files of TLS: certificates are renewed on disk while the server runs.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use primitives::blocking_calls::{BlockingCallError, BlockingCalls};
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::tls::unix_now;
use crate::tls_server::TlsServer;

/// Time between two looks at the files. Written ones are loaded at the second look that finds them the same.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// Time for a look at the files of one listener, which may be on a file system that hangs.
const READ_TIME: Duration = Duration::from_secs(10);

/// TLS of a listener, with the listener's number in the settings.
pub type NumberedTls = (usize, Arc<TlsServer>);

/// Files of one listener.
struct WatchedListener {
    number: usize,
    server: Arc<TlsServer>,
    calls: BlockingCalls,
    /// Why they cannot be used, as it was logged: it is not logged again at each look.
    told: Mutex<Option<String>>,
    /// Warnings about OCSP responses, likewise.
    told_of_staples: Mutex<Vec<String>>,
}

/// Loads files that were written again, until shutdown; `servers` are those of the configuration in force. Files are read
/// beside the runtime's own threads, and those of one listener hold up no other.
pub async fn watch_files(
    mut servers: watch::Receiver<Vec<NumberedTls>>,
    metrics: Arc<Metrics>,
    tasks: BackgroundTasks,
) {
    let looks = async {
        loop {
            let listeners: Vec<_> = servers.borrow_and_update().iter().cloned().map(WatchedListener::new).collect();
            // The numbers of listeners that are no more are no longer told.
            metrics.listeners().clear_ends();
            tokio::select! {
                () = look_at(&listeners, &metrics) => {}
                () = changed(&mut servers) => {}
            }
        }
    };
    tokio::select! {
        () = looks => {}
        () = tasks.stopping() => {}
    }
}

/// Resolves when another configuration is in force.
async fn changed(servers: &mut watch::Receiver<Vec<NumberedTls>>) {
    if servers.changed().await.is_err() {
        // Nobody is left who could change it.
        std::future::pending::<()>().await;
    }
}

async fn look_at(listeners: &[WatchedListener], metrics: &Metrics) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    join_all(listeners.iter().map(|listener| listener.record_expiry(metrics))).await;
    loop {
        ticks.tick().await;
        join_all(listeners.iter().map(|listener| listener.refresh(metrics))).await;
        listeners.iter().for_each(|listener| listener.tell_of_staples(metrics));
    }
}

impl WatchedListener {
    fn new((number, server): NumberedTls) -> Self {
        // The start, or the reload, has logged what holds by then.
        let told_of_staples = Mutex::new(server.staple_warnings(unix_now()));
        Self { number, server, calls: BlockingCalls::new(READ_TIME), told: Mutex::default(), told_of_staples }
    }

    async fn refresh(&self, metrics: &Metrics) {
        let (number, server) = (self.number, Arc::clone(&self.server));
        let refreshed = self.calls.run(move || server.refresh().map(|loaded| loaded.map_err(|e| e.to_string()))).await;
        match refreshed {
            Ok(None) => {}
            Ok(Some(Ok(()))) => {
                *self.told.lock() = None;
                metrics.listeners().certificates_loaded(true);
                self.record_expiry(metrics).await;
                tracing::info!(
                    listener = number,
                    "the files of TLS of Listeners[{number}] have changed, and were loaded"
                );
            }
            Ok(Some(Err(error))) => self.tell(error, metrics),
            Err(BlockingCallError::TimedOut) => {
                self.tell(format!("they were not read within {READ_TIME:?}; does their file system answer?"), metrics);
            }
            // Counted and logged elsewhere.
            Err(BlockingCallError::Panicked) => {}
        }
    }

    /// Warns of files that cannot be used, once for each reason.
    fn tell(&self, error: String, metrics: &Metrics) {
        let mut told = self.told.lock();
        if told.as_ref() == Some(&error) {
            return;
        }
        metrics.listeners().certificates_loaded(false);
        let number = self.number;
        tracing::warn!(
            listener = number,
            "the files of TLS of Listeners[{number}] have changed, and cannot be used: {error}; \
             those that were loaded before stay in use, and these are tried again"
        );
        *told = Some(error);
    }

    /// Warns of OCSP responses that are not shown, or soon will not be, once for each reason.
    fn tell_of_staples(&self, metrics: &Metrics) {
        let (number, now) = (self.number, self.server.staple_warnings(unix_now()));
        if let Some(end) = self.server.first_staple_end() {
            metrics.listeners().set_staple_end(number, end);
        }
        let mut told = self.told_of_staples.lock();
        for warning in now.iter().filter(|warning| !told.contains(warning)) {
            tracing::warn!(listener = number, "{warning}");
        }
        *told = now;
    }

    async fn record_expiry(&self, metrics: &Metrics) {
        let server = Arc::clone(&self.server);
        if let Ok(Some(expiry)) = self.calls.run(move || server.read_first_expiry()).await {
            metrics.listeners().set_certificate_expiry(self.number, expiry);
        }
    }
}
