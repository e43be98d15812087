//! Starting, draining and stopping: tasks that shutdown waits for, and the signals that ask for it.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Everything that runs beside the caller. Clones share the same set.
#[derive(Clone, Default)]
pub struct BackgroundTasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl BackgroundTasks {
    /// Runs `task` until it ends by itself; it should end when [`BackgroundTasks::stopping`] resolves.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Work that is not a task of its own but that shutdown waits for, until the token is dropped.
    pub fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Resolves when shutdown begins.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Begins the shutdown and waits up to `grace` for all work to end; false when some did not.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// The signals that the process heeds, from the moment that it is made.
pub struct ProcessSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl ProcessSignals {
    /// Begins to listen: until then a signal has the system's effect, the end of the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Resolves at SIGTERM or SIGINT. SIGHUP is answered in the log; SIGUSR1, which log rotation sends, calls `reopen`.
    pub async fn wait_for_shutdown(&mut self, reopen: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.user.recv() => reopen(),
                _ = self.hangup.recv() => {
                    tracing::warn!(
                        "SIGHUP: reload is not available in this version; restart to change the configuration"
                    );
                }
            }
        }
    }
}
