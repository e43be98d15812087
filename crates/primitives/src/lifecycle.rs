//! Starting, draining and stopping: tasks that shutdown waits for, and the signals that ask for it.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Tasks that run beside the caller and that shutdown waits for. Clones share the same set.
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

    /// Returns a token for work that is not a task of its own: shutdown waits until the token is dropped.
    pub fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Resolves when shutdown begins.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Returns true where shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Begins the shutdown and waits up to `grace` for all work to end. Returns false where some did not end; it is not
    /// cancelled.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stop.cancel();
        // `wait` resolves only for a closed tracker. Tasks can still be added to it.
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// Signal that asks for something other than the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSignal {
    /// SIGUSR1, which log rotation sends: open files anew.
    ReopenFiles,
    /// SIGHUP: reload the configuration.
    Reload,
}

/// Signals that the process handles, from the moment that this is made.
pub struct ProcessSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl ProcessSignals {
    /// Begins to listen; until then a signal ends the process. Needs a tokio runtime; fails where the system registers
    /// no handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Resolves at SIGTERM or SIGINT; `handle` is called with the others.
    pub async fn wait_for_shutdown(&mut self, handle: impl Fn(ProcessSignal)) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.user.recv() => handle(ProcessSignal::ReopenFiles),
                _ = self.hangup.recv() => handle(ProcessSignal::Reload),
            }
        }
    }
}
