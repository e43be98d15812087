//! The watch over the files of TLS: certificates are renewed on disk while the server runs.

use std::sync::Arc;
use std::time::Duration;

use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;
use tokio::time::MissedTickBehavior;

use crate::tls_server::TlsServer;

/// Time between two looks at the files. Written ones are loaded at the second look that finds them the same.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// TLS of a listener, with the listener's number in the settings.
pub type NumberedTls = (usize, Arc<TlsServer>);

/// Loads files that were written again, until shutdown. Files are read beside the runtime's own threads: they may be on a
/// file system that hangs.
pub async fn watch(servers: Vec<NumberedTls>, metrics: Arc<Metrics>, tasks: BackgroundTasks) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let servers = Arc::new(servers);
    for (number, server) in servers.iter() {
        record_expiry(*number, server, &metrics);
    }
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tasks.stopping() => return,
        }
        let (servers, metrics) = (Arc::clone(&servers), Arc::clone(&metrics));
        let look = tokio::task::spawn_blocking(move || {
            for (number, server) in servers.iter() {
                refresh(*number, server, &metrics);
            }
        });
        tokio::select! {
            // It fails only where it panics, which is counted and logged elsewhere.
            _ = look => {}
            () = tasks.stopping() => return,
        }
    }
}

fn refresh(number: usize, server: &TlsServer, metrics: &Metrics) {
    match server.refresh() {
        None => {}
        Some(Ok(())) => {
            metrics.listeners().certificates_loaded(true);
            record_expiry(number, server, metrics);
            tracing::info!(listener = number, "the files of TLS of Listeners[{number}] have changed, and were loaded");
        }
        Some(Err(error)) => {
            metrics.listeners().certificates_loaded(false);
            tracing::warn!(
                listener = number,
                "the files of TLS of Listeners[{number}] have changed, and cannot be used: {error}; \
                 those that were loaded before stay in use"
            );
        }
    }
}

fn record_expiry(number: usize, server: &TlsServer, metrics: &Metrics) {
    if let Some(expiry) = server.read_first_expiry() {
        metrics.listeners().set_certificate_expiry(number, expiry);
    }
}
