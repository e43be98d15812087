//! Replacement of the process by a new one of the same program and arguments, which takes over the listening sockets.
//!
//! The running process starts the new one and passes the sockets as systemd does (`LISTEN_FDS`). Standard input of the
//! new process is a socket between the two, on which each writes lines of JSON ([`UpgradeMessage`]): the new one that it
//! is ready, the former that it is to take over, and the new one that it has; until then the former may still go on and end
//! the new one, which for that reason tells nobody else of itself. The former accepts no more connections from then on; later
//! the new one may ask it for what it still holds. The end of this socket is the end of the other process.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use command_fds::{CommandFdExt as _, FdMapping};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use events::{EventPublisher, OutboxHolder, PublishError};
use http_server::listen_sockets::ListenSockets;
use primitives::lifecycle::BackgroundTasks;

/// Variable that says to a process that it replaces the one at the other end of its standard input.
pub const UPGRADE_VARIABLE: &str = "TIDEGATE_UPGRADE";
/// First descriptor of those that are passed (sd_listen_fds(3)).
const FIRST_DESCRIPTOR: i32 = 3;
/// Longest line, in bytes: a commit of events and what JSON adds to it.
const MAX_LINE: u64 = 64 << 20;

/// Reason why a new process did not take over.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The process is the first of its container, which would end with it.
    #[error("this process has the id 1: the container ends with it, so that another one has to take its place")]
    FirstProcess,
    /// The program cannot be started.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// Path of the program.
        program: String,
        /// Error of the system.
        source: io::Error,
    },
    /// The new process ended before it was ready.
    #[error("the new process ended before it was ready ({0}); its reason stands before this in the log")]
    Ended(ExitStatus),
    /// It was not ready in time.
    #[error("the new process was not ready within {0:?} (Server.UpgradeTimeout), and was killed")]
    TimedOut(Duration),
}

/// Message between the two processes of an upgrade.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeMessage {
    /// From the new process: it is ready to take over.
    Ready,
    /// The answer to that: it is to take over.
    TakeOver,
    /// From the new process: it has taken over.
    Serving,
    /// From the new process: events, as lines of JSON, for the outbox that the former process still has.
    Append(Vec<String>),
    /// The answer to that.
    Appended(AppendOutcome),
}

/// Outcome of handing events to the former process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppendOutcome {
    /// They are in the outbox.
    Kept,
    /// The outbox has no room.
    Full,
    /// It cannot be written.
    Disk(String),
    /// It takes no more, for now.
    Busy,
    /// It is about to be closed.
    Ending,
}

/// One end of the socket between the two processes.
pub struct UpgradeChannel {
    lines: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl UpgradeChannel {
    fn new(socket: StdUnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(socket)?.into_split();
        Ok(Self { lines: BufReader::new(read), write })
    }

    /// Sends a message. Fails where the other process has ended.
    pub async fn send(&mut self, message: &UpgradeMessage) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.write.write_all(&line).await
    }

    /// Returns the next message; `None` where the other process has ended, or has sent something else.
    pub async fn receive(&mut self) -> Option<UpgradeMessage> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut line).await;
        read.ok().filter(|length| *length > 0)?;
        serde_json::from_slice(&line).ok()
    }
}

/// Events for the former process, and where its answer goes.
type AppendCall = (Vec<String>, oneshot::Sender<AppendOutcome>);

/// The process that this one replaces, until it has ended. Clones are the same process.
#[derive(Clone)]
pub struct PredecessorProcess {
    calls: mpsc::Sender<AppendCall>,
    steps: HandOverSteps,
    ended: CancellationToken,
}

/// Steps of a hand-over, each set when it is done.
#[derive(Clone, Default)]
struct HandOverSteps {
    /// This process is ready.
    ready: CancellationToken,
    /// The former one has answered that this one is to take over.
    accepted: CancellationToken,
    /// This process has taken over.
    serving: CancellationToken,
}

impl PredecessorProcess {
    /// Connects to it by standard input. Needs a tokio runtime; fails where standard input is no socket.
    pub fn connect() -> io::Result<Self> {
        let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Any other kind of file has no peer.
        socket.peer_addr()?;
        let (calls, asked) = mpsc::channel(1);
        let (steps, ended) = (HandOverSteps::default(), CancellationToken::new());
        // Not among the tasks that shutdown waits for: it ends with the other process, or with this one.
        let serving = serve_calls(UpgradeChannel::new(socket)?, steps.clone(), asked);
        BackgroundTasks::default().spawn(serving.map({
            let ended = ended.clone();
            move |()| ended.cancel()
        }));
        Ok(Self { calls, steps, ended })
    }

    /// Tells it that this process is ready, and waits until it answers that this one is to take over, or has ended.
    pub async fn hand_over(&self) {
        self.steps.ready.cancel();
        tokio::select! {
            () = self.steps.accepted.cancelled() => {}
            () = self.ended.cancelled() => {}
        }
    }

    /// Tells it that this process has taken over.
    pub fn tell_serving(&self) {
        self.steps.serving.cancel();
    }

    /// Resolves when it has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

#[async_trait]
impl OutboxHolder for PredecessorProcess {
    async fn append(&mut self, events: Vec<String>) -> Option<Result<(), PublishError>> {
        let (done, outcome) = oneshot::channel();
        self.calls.send((events, done)).await.ok()?;
        match outcome.await.ok()? {
            AppendOutcome::Kept => Some(Ok(())),
            AppendOutcome::Full => Some(Err(PublishError::Full)),
            AppendOutcome::Disk(cause) => Some(Err(PublishError::Disk(cause.into()))),
            AppendOutcome::Busy => Some(Err(PublishError::Busy)),
            AppendOutcome::Ending => None,
        }
    }

    async fn ended(&mut self) {
        self.ended.cancelled().await;
    }
}

/// Takes over from the former process, and then makes calls to it, one after the other, until it has ended.
async fn serve_calls(mut channel: UpgradeChannel, steps: HandOverSteps, mut asked: mpsc::Receiver<AppendCall>) {
    // First: until then the former process waits for nothing else.
    if take_over(&mut channel, &steps).await.is_none() {
        return;
    }
    loop {
        let (events, done) = tokio::select! {
            call = asked.recv() => match call {
                Some(call) => call,
                None => return,
            },
            _ = channel.receive() => return,
        };
        if channel.send(&UpgradeMessage::Append(events)).await.is_err() {
            return;
        }
        let Some(UpgradeMessage::Appended(outcome)) = channel.receive().await else { return };
        // Whoever asked may have gone.
        let _ = done.send(outcome);
    }
}

/// Takes over from the former process; `None` where it has ended.
async fn take_over(channel: &mut UpgradeChannel, steps: &HandOverSteps) -> Option<()> {
    tokio::select! {
        () = steps.ready.cancelled() => {}
        // Unasked it sends nothing: this is its end.
        _ = channel.receive() => return None,
    }
    channel.send(&UpgradeMessage::Ready).await.ok()?;
    let Some(UpgradeMessage::TakeOver) = channel.receive().await else { return None };
    steps.accepted.cancel();
    tokio::select! {
        () = steps.serving.cancelled() => {}
        _ = channel.receive() => return None,
    }
    channel.send(&UpgradeMessage::Serving).await.ok()
}

/// Takes events of the new process into the outbox, which this one has until its end.
pub async fn take_events(mut channel: UpgradeChannel, events: EventPublisher, tasks: BackgroundTasks) {
    loop {
        let message = tokio::select! {
            // First: what comes after it would not be kept.
            biased;
            () = tasks.stopping() => return,
            message = channel.receive() => message,
        };
        let Some(UpgradeMessage::Append(lines)) = message else { return };
        let outcome = match events.publish_lines(lines).await {
            Ok(()) => AppendOutcome::Kept,
            Err(_) if events.is_closed() => AppendOutcome::Ending,
            Err(PublishError::Full) => AppendOutcome::Full,
            Err(PublishError::Disk(cause)) => AppendOutcome::Disk(cause.to_string()),
            Err(PublishError::Busy) => AppendOutcome::Busy,
        };
        if channel.send(&UpgradeMessage::Appended(outcome)).await.is_err() {
            return;
        }
    }
}

/// Program and arguments of this process, to be started anew.
pub struct UpgradeLauncher {
    program: PathBuf,
    arguments: Vec<OsString>,
    time_limit: Duration,
}

/// Process that has taken over.
pub struct SuccessorProcess {
    /// Its process id.
    pub process: u32,
    /// The socket to it.
    pub channel: UpgradeChannel,
}

/// New process before it is ready. It is killed where it is not waited for any longer.
struct StartingProcess(Option<Child>);

impl Drop for StartingProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // One that has ended meanwhile needs no signal.
            let _ = child.start_kill();
        }
    }
}

impl UpgradeLauncher {
    /// Reads this process's own command line. To be called before the program's file is replaced: a relative path starts
    /// at the folder that the process is in.
    pub fn of_this_process(time_limit: Duration) -> Self {
        let mut arguments = std::env::args_os();
        let name = PathBuf::from(arguments.next().unwrap_or_default());
        // As it was given, not as it is resolved: a link may point to another version by the time of the upgrade. A name
        // without a folder is looked for in `PATH` again.
        let has_folder = name.parent().is_some_and(|folder| !folder.as_os_str().is_empty());
        let program = if has_folder { std::path::absolute(&name).unwrap_or(name) } else { name };
        Self { program, arguments: arguments.collect(), time_limit }
    }

    /// Starts the new process with `sockets`, and waits until it has taken over. Where it fails, nothing of it is left. Can
    /// be dropped.
    pub async fn start(&self, sockets: &ListenSockets) -> Result<SuccessorProcess, UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::FirstProcess);
        }
        let failed = |source| UpgradeError::Start { program: self.program.display().to_string(), source };
        let (child, channel) = self.spawn(sockets).map_err(failed)?;
        let process = child.id().unwrap_or_default();
        let (mut starting, mut channel) = (StartingProcess(Some(child)), channel);
        tracing::info!(process, "upgrade: the new process {process} starts");
        let serving = timeout(self.time_limit, until_serving(&mut starting, &mut channel)).await;
        match serving {
            Ok(Ok(())) => {
                // From now on it is on its own.
                drop(starting.0.take());
                Ok(SuccessorProcess { process, channel })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                if let Some(child) = &mut starting.0 {
                    // Waited for, so that nothing of it is left when the failure is told.
                    let _ = child.kill().await;
                }
                Err(UpgradeError::TimedOut(self.time_limit))
            }
        }
    }

    fn spawn(&self, sockets: &ListenSockets) -> io::Result<(Child, UpgradeChannel)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let (mut names, mut mappings) = (Vec::new(), Vec::new());
        for (child_fd, (name, parent_fd)) in (FIRST_DESCRIPTOR..).zip(sockets.duplicate()?) {
            names.push(name);
            mappings.push(FdMapping { parent_fd, child_fd });
        }
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::from(OwnedFd::from(theirs)));
        command.env(UPGRADE_VARIABLE, "1");
        // Without `LISTEN_PID`: the id of the new process is not known yet. `WATCHDOG_PID` names this one.
        command.env_remove("LISTEN_PID").env_remove("WATCHDOG_PID").env_remove("LISTEN_FDS_FIRST_FD");
        command.env("LISTEN_FDS", mappings.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        let child = tokio::process::Command::from(command).spawn()?;
        Ok((child, UpgradeChannel::new(ours)?))
    }
}

/// Resolves when the new process has taken over. Fails where it ends.
async fn until_serving(starting: &mut StartingProcess, channel: &mut UpgradeChannel) -> Result<(), UpgradeError> {
    if let Some(UpgradeMessage::Ready) = channel.receive().await
        && channel.send(&UpgradeMessage::TakeOver).await.is_ok()
        && let Some(UpgradeMessage::Serving) = channel.receive().await
    {
        return Ok(());
    }
    match &mut starting.0 {
        Some(child) => match child.wait().await {
            Ok(status) => Err(UpgradeError::Ended(status)),
            Err(source) => Err(UpgradeError::Start { program: "the new process".to_owned(), source }),
        },
        None => Ok(()),
    }
}
