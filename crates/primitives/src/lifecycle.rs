//! Starting, draining and stopping: tasks that shutdown waits for, and the signals that ask for it.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Tasks that run beside the caller and that shutdown waits for. Clones share the same set.
///
/// The end of a process has two stages. In the drain work goes on, but whoever keeps a connection ends it with the next
/// answer. In the shutdown nothing new is begun, and what is under way ends.
#[derive(Clone, Default)]
pub struct BackgroundTasks {
    tracker: TaskTracker,
    drain: CancellationToken,
    hand_over: CancellationToken,
    stop: CancellationToken,
}

impl BackgroundTasks {
    /// Returns the tasks of one part of the process, which can be drained and stopped while the rest goes on. Shutdown
    /// waits for them as for all others, and what begins for all begins for the part too.
    pub fn part(&self) -> Self {
        Self {
            tracker: self.tracker.clone(),
            drain: self.drain.child_token(),
            hand_over: self.hand_over.child_token(),
            stop: self.stop.child_token(),
        }
    }

    /// Runs `task` until it ends by itself; it should end when [`BackgroundTasks::stopping`] resolves.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Returns a token for work that is not a task of its own: shutdown waits until the token is dropped.
    pub fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Begins the drain that comes before a shutdown.
    pub fn begin_drain(&self) {
        self.drain.cancel();
    }

    /// Begins the drain, and has new work left to the process that replaces this one. Tasks run on until
    /// [`BackgroundTasks::shutdown`].
    pub fn hand_over(&self) {
        self.drain.cancel();
        self.hand_over.cancel();
    }

    /// Begins the end of a [`part`](BackgroundTasks::part), without waiting for it.
    pub fn begin_stop(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }

    /// Resolves when new work is left to another process.
    pub async fn handed_over(&self) {
        self.hand_over.cancelled().await;
    }

    /// Resolves when new connections are no longer taken: at a shutdown, or when they are left to another process.
    pub async fn closing(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.hand_over.cancelled() => {}
        }
    }

    /// Returns true where a drain or a shutdown has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves when [`BackgroundTasks::shutdown`] is called; a drain alone does not resolve it.
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
        self.begin_stop();
        // `wait` resolves only for a closed tracker. Tasks can still be added to it.
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// Request of an operator or supervisor, made by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSignal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open files again that log rotation has moved away.
    ReopenFiles,
    /// SIGUSR2: have a new process take over.
    Upgrade,
}

/// Signals that the process handles, from the moment that this is made.
pub struct ProcessSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    reopen: Signal,
    upgrade: Signal,
}

impl ProcessSignals {
    /// Begins to listen; until then a signal ends the process. Needs a tokio runtime; fails where the system registers
    /// no handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Returns the next signal that has come. Can be dropped and called again.
    pub async fn next(&mut self) -> ProcessSignal {
        tokio::select! {
            _ = self.terminate.recv() => ProcessSignal::Stop,
            _ = self.interrupt.recv() => ProcessSignal::Stop,
            _ = self.reopen.recv() => ProcessSignal::ReopenFiles,
            _ = self.upgrade.recv() => ProcessSignal::Upgrade,
            _ = self.hangup.recv() => ProcessSignal::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_ends_by_itself_and_with_the_rest() {
        let all = BackgroundTasks::default();
        let (one, other) = (all.part(), all.part());
        let of_one = one.token();
        one.begin_stop();
        one.stopping().await;
        one.closing().await;
        assert!(one.is_draining() && !other.is_draining() && !all.is_stopping());
        other.hand_over();
        other.closing().await;
        assert!(other.is_draining() && !other.is_stopping() && !all.is_draining());
        assert!(!all.shutdown(Duration::ZERO).await, "it waits for parts too");
        assert!(other.is_stopping());
        drop(of_one);
        assert!(all.shutdown(Duration::from_secs(60)).await);
    }
}
