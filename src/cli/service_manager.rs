//! Notifications to the service manager, systemd (sd_notify(3)). Without one (`NOTIFY_SOCKET`) they do nothing.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, interval};
use tracing::warn;

/// Shortest time between two signs of life.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Tells that the process serves.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells that the configuration is read again, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // Both in one message: `Type=notify-reload` takes a reload without its time for a failure.
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the service manager is not told of the reload"),
    }
}

/// Tells that the process stops.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells that the process of this id is the service's main process from now on.
pub fn replaced_by(process: u32) {
    notify(&[NotifyState::MainPid(process)]);
}

/// Times of the signs of life that the service manager wants (`WatchdogSec=`).
pub struct ServiceWatchdog(Option<Interval>);

impl ServiceWatchdog {
    /// Starts with the next sign; twice within the limit, as sd_watchdog_enabled(3) recommends.
    pub fn start() -> Self {
        Self(sd_notify::watchdog_enabled().map(|limit| interval((limit / 2).max(SHORTEST_INTERVAL))))
    }

    /// Resolves when a sign is due; never where none is wanted. Can be dropped and called again.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => pending().await,
        }
    }
}

/// Gives a sign of life.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager (NOTIFY_SOCKET) cannot be told anything");
    }
}
