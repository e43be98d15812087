//! The access log in a file, on standard output, or sent to syslog. No request waits for it: lines go through a queue of
//! bounded size to a thread that writes them. Those that cannot be kept or written are lost, which is counted, and said in
//! the log.

pub mod line_template;
mod sink;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use primitives::clock::monotonic_now;
use primitives::failure_log::FailureLog;
use primitives::lifecycle::BackgroundTasks;
use prometheus::{IntCounter, Registry};
use tracing_subscriber::fmt::MakeWriter;

use self::sink::{AppendError, AppendedFile, LineSink, SyslogSender};
use super::settings::AccessLogOutput;

/// Most bytes of lines that wait to be written: a second or two at the highest rates, in which a disk can stand still.
const MAX_WAITING: usize = 8 * 1024 * 1024;
/// Memory of a waiting line besides its text, in bytes, approximately.
const LINE_OVERHEAD: usize = 64;
/// Bytes that are written at once, where as many wait.
const BATCH_BYTES: usize = 64 * 1024;
/// Time between two looks whether the queue has overflowed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Failure to begin the access log.
#[derive(Debug, thiserror::Error)]
#[error("the access log{place} cannot be opened: {source}")]
pub struct AccessLogOpenError {
    /// The setting and the path of a file.
    place: String,
    source: io::Error,
}

/// The access log, where it is apart from the rest of the log. Clones are the same.
#[derive(Clone)]
pub struct AccessLogQueue {
    name: &'static str,
    commands: Sender<WriterCommand>,
    queue: Arc<LineQueue>,
}

/// Counts of the queue.
struct LineQueue {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines that were not written.
    lost: IntCounter,
    /// Those among them for which the queue had no room.
    overflowed: AtomicUsize,
}

/// Command to the thread that writes.
enum WriterCommand {
    /// A whole line.
    Line(Vec<u8>),
    /// Open the file anew.
    Reopen,
    /// Say when everything before this was written.
    Flush(SyncSender<()>),
}

impl AccessLogQueue {
    /// Opens `output`; `None` where lines go to standard error with all others. Fails where the system does.
    pub fn open(output: &AccessLogOutput) -> Result<Option<Self>, AccessLogOpenError> {
        let sink = match output {
            AccessLogOutput::Stderr => return Ok(None),
            AccessLogOutput::Stdout => LineSink::Stdout,
            AccessLogOutput::Syslog(address) => LineSink::Syslog(SyslogSender::new(address.clone())),
            AccessLogOutput::File(path) => {
                let place = || format!(" (Telemetry.AccessLog.File: {})", path.display());
                let opened = AppendedFile::open(path);
                LineSink::File(opened.map_err(|source| AccessLogOpenError { place: place(), source })?)
            }
        };
        Self::start(sink).map(Some).map_err(|source| AccessLogOpenError { place: String::new(), source })
    }

    /// Starts the thread that writes to `sink`.
    fn start(sink: LineSink) -> io::Result<Self> {
        let lost = IntCounter::new(
            "tidegate_access_log_lost_lines_total",
            "Lines of the access log that could not be written to its file, to standard output or to syslog",
        );
        let lost = lost.map_err(io::Error::other)?;
        let queue = Arc::new(LineQueue { waiting: AtomicUsize::new(0), lost, overflowed: AtomicUsize::new(0) });
        let (commands, received) = mpsc::channel();
        let name = sink.name();
        let writer = LineWriter {
            sink,
            batch: Vec::new(),
            batch_size: 0,
            failures: FailureLog::default(),
            queue: Arc::clone(&queue),
        };
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writer.run(&received))?;
        Ok(Self { name, commands, queue })
    }

    /// Has lost lines counted in `registry`, and said in the log, until `tasks` stop.
    pub fn watch(&self, registry: &Registry, tasks: &BackgroundTasks) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.queue.lost.clone()))?;
        tasks.spawn(self.clone().watch_overflow(tasks.clone()));
        Ok(())
    }

    /// Opens a file anew, after log rotation has moved it.
    pub fn reopen(&self) {
        // The thread runs for as long as the process.
        let _ = self.commands.send(WriterCommand::Reopen);
    }

    /// Waits until all lines were written, which blocks, for `limit` at most.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = mpsc::sync_channel(1);
        if self.commands.send(WriterCommand::Flush(done)).is_ok() {
            // A disk that hangs keeps no process from its end.
            let _ = written.recv_timeout(limit);
        }
    }

    /// Says in the log, once a minute at most, that lines are lost because the disk does not keep up, or hangs, until
    /// `tasks` stop. The thread that writes may be stuck, and says nothing then.
    async fn watch_overflow(self, tasks: BackgroundTasks) {
        let (mut ticks, failures, mut before) = (tokio::time::interval(WATCH_INTERVAL), FailureLog::default(), 0);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = tasks.stopping() => return,
            }
            let now = self.queue.overflowed.load(Ordering::Relaxed);
            if now != before && failures.is_news("overflow", monotonic_now()) {
                let name = self.name;
                tracing::error!("{name} is not written as fast as lines come, and some are lost; is it stuck?");
            }
            before = now;
        }
    }

    /// Hands a line to the thread that writes, or drops it where too many wait.
    fn push(&self, line: &[u8]) {
        let size = line.len() + LINE_OVERHEAD;
        let waiting = self.queue.waiting.fetch_add(size, Ordering::Relaxed);
        let is_taken = waiting + size <= MAX_WAITING && self.commands.send(WriterCommand::Line(line.to_vec())).is_ok();
        if !is_taken {
            self.queue.waiting.fetch_sub(size, Ordering::Relaxed);
            self.queue.overflowed.fetch_add(1, Ordering::Relaxed);
            self.queue.lost.inc();
        }
    }
}

/// Takes lines, each whole in one write.
pub struct QueueWriter<'a>(&'a AccessLogQueue);

impl Write for QueueWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for AccessLogQueue {
    type Writer = QueueWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        QueueWriter(self)
    }
}

/// State of the thread that writes.
struct LineWriter {
    sink: LineSink,
    /// Lines that are written next.
    batch: Vec<u8>,
    /// What they count in the queue.
    batch_size: usize,
    failures: FailureLog,
    queue: Arc<LineQueue>,
}

impl LineWriter {
    /// Writes lines until nobody can send any more.
    fn run(mut self, commands: &Receiver<WriterCommand>) {
        while let Ok(command) = commands.recv() {
            let mut next = Some(command);
            // Whatever else waits goes with it in one write.
            while let Some(command) = next {
                match command {
                    WriterCommand::Line(line) => {
                        self.batch_size += line.len() + LINE_OVERHEAD;
                        self.batch.extend_from_slice(&line);
                    }
                    WriterCommand::Reopen => {
                        self.write_batch();
                        self.reopen();
                    }
                    WriterCommand::Flush(done) => {
                        self.write_batch();
                        // Whoever asked may have given up.
                        let _ = done.try_send(());
                    }
                }
                next = if self.batch.len() < BATCH_BYTES { commands.try_recv().ok() } else { None };
            }
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let name = self.sink.name();
        match self.sink.append(&self.batch) {
            Ok(()) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("{name} is written again");
                }
            }
            Err(AppendError { lost, source }) => {
                self.queue.lost.inc_by(lost);
                let error = source.to_string();
                if self.failures.is_news(&error, monotonic_now()) {
                    tracing::error!(%error, "{name} cannot be written, and its lines are lost: {error}");
                }
            }
        }
        self.queue.waiting.fetch_sub(std::mem::take(&mut self.batch_size), Ordering::Relaxed);
        self.batch.clear();
    }

    fn reopen(&mut self) {
        let name = self.sink.name();
        match self.sink.reopen() {
            Ok(()) if self.sink.is_file() => tracing::info!("{name} is open anew"),
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, "{name} cannot be opened anew, and the file that was open is written on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_wait_are_bounded_in_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(AccessLogQueue::open(&AccessLogOutput::File(fifo)).is_err(), "nobody reads it");
        // Nobody takes lines out of this queue.
        let (commands, _received) = mpsc::channel();
        let lost = IntCounter::new("lost", "lines").unwrap();
        let queue = Arc::new(LineQueue { waiting: AtomicUsize::new(0), lost, overflowed: AtomicUsize::new(0) });
        let log = AccessLogQueue { name: "the access log", commands, queue };
        let line = [b'x'; 1024 - LINE_OVERHEAD];
        for _ in 0..MAX_WAITING / 1024 + 10 {
            log.push(&line);
        }
        assert_eq!(log.queue.lost.get(), 10);
        assert_eq!(log.queue.waiting.load(Ordering::Relaxed), MAX_WAITING);
    }
}
