//! The access log in a file. No request waits for the disk: lines go through a queue of bounded size to a thread that writes
//! them. Those that cannot be kept or written are lost, which is counted, and said in the log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use primitives::clock::monotonic_now;
use primitives::failure_log::FailureLog;
use primitives::lifecycle::BackgroundTasks;
use prometheus::{IntCounter, Registry};
use rustix::fs::OFlags;
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes of lines that wait to be written: a second or two at the highest rates, in which a disk can stand still.
const MAX_WAITING: usize = 8 * 1024 * 1024;
/// Memory of a waiting line besides its text, in bytes, approximately.
const LINE_OVERHEAD: usize = 64;
/// Bytes that are written at once, where as many wait.
const BATCH_BYTES: usize = 64 * 1024;
/// Mode of a new file: others are no readers of who has asked for what.
const FILE_MODE: u32 = 0o640;
/// Time between two looks whether the queue has overflowed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Name of the file in messages.
const NAME: &str = "the access log (Telemetry.AccessLog.File)";

/// Failure to open the file at the start.
#[derive(Debug, thiserror::Error)]
#[error("the access log (Telemetry.AccessLog.File: {path}) cannot be opened: {source}")]
pub struct AccessLogOpenError {
    path: PathBuf,
    source: io::Error,
}

/// The file of the access log. Clones are the same file.
#[derive(Clone)]
pub struct AccessLogFile {
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

impl AccessLogFile {
    /// Opens the file at `path`, to be written on at its end; makes it where it is missing. Fails where the system does.
    pub fn open(path: &Path) -> Result<Self, AccessLogOpenError> {
        let failed = |source| AccessLogOpenError { path: path.to_owned(), source };
        let file = open_to_append(path).map_err(failed)?;
        let lost = IntCounter::new(
            "tidegate_access_log_lost_lines_total",
            "Lines of the access log's file that could not be written",
        );
        let lost = lost.map_err(|error| failed(io::Error::other(error)))?;
        let queue = Arc::new(LineQueue { waiting: AtomicUsize::new(0), lost, overflowed: AtomicUsize::new(0) });
        let (commands, received) = mpsc::channel();
        let writer = LineWriter {
            file: AppendedFile { path: path.to_owned(), file: Some(file), is_torn: false },
            batch: Vec::new(),
            batch_size: 0,
            failures: FailureLog::default(),
            queue: Arc::clone(&queue),
        };
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writer.run(&received)).map_err(failed)?;
        Ok(Self { commands, queue })
    }

    /// Has lost lines counted in `registry`, and said in the log, until `tasks` stop.
    pub fn watch(&self, registry: &Registry, tasks: &BackgroundTasks) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.queue.lost.clone()))?;
        tasks.spawn(self.clone().watch_overflow(tasks.clone()));
        Ok(())
    }

    /// Opens the file anew, after log rotation has moved it.
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
                tracing::error!(
                    "{NAME} is not written as fast as lines come, and some are lost; does the disk answer?"
                );
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
pub struct QueueWriter<'a>(&'a AccessLogFile);

impl Write for QueueWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for AccessLogFile {
    type Writer = QueueWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        QueueWriter(self)
    }
}

/// State of the thread that writes.
struct LineWriter {
    file: AppendedFile,
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
        match self.file.append(&self.batch) {
            Ok(()) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("{NAME} is written again");
                }
            }
            Err(AppendError { lost, source }) => {
                self.queue.lost.inc_by(lost);
                let error = source.to_string();
                if self.failures.is_news(&error, monotonic_now()) {
                    tracing::error!(%error, "{NAME} cannot be written, and its lines are lost: {error}");
                }
            }
        }
        self.queue.waiting.fetch_sub(std::mem::take(&mut self.batch_size), Ordering::Relaxed);
        self.batch.clear();
    }

    fn reopen(&mut self) {
        match self.file.reopen() {
            Ok(()) => tracing::info!("{NAME} is open anew"),
            Err(error) => {
                tracing::error!(%error, "{NAME} cannot be opened anew, and the file that was open is written on")
            }
        }
    }
}

/// Failure to append lines.
struct AppendError {
    /// Number of lines that were not written, or not whole.
    lost: u64,
    source: io::Error,
}

/// A file that lines are appended to.
struct AppendedFile {
    path: PathBuf,
    /// `None` after it failed: it is opened anew.
    file: Option<File>,
    /// The last line was written in part.
    is_torn: bool,
}

impl AppendedFile {
    /// Appends whole lines.
    fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        let mut left = lines;
        let written = self.append_from(&mut left);
        written.map_err(|source| {
            // The next try finds another file, or the same with room.
            self.file = None;
            let is_whole = left.len() == lines.len() || lines[..lines.len() - left.len()].ends_with(b"\n");
            self.is_torn |= !is_whole;
            AppendError { lost: left.iter().filter(|byte| **byte == b'\n').count() as u64, source }
        })
    }

    /// Appends lines, and takes what was written off `left`.
    fn append_from(&mut self, left: &mut &[u8]) -> io::Result<()> {
        let file = self.open()?;
        if self.is_torn {
            // What follows begins a line of its own.
            (&file).write_all(b"\n")?;
            self.is_torn = false;
        }
        while !left.is_empty() {
            match (&file).write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Takes the file that is open. One that was removed is made anew: its lines would be for nobody.
    fn open(&mut self) -> io::Result<File> {
        match self.file.take() {
            Some(file) if file.metadata().is_ok_and(|it| it.nlink() > 0) => Ok(file),
            Some(_) | None => open_to_append(&self.path),
        }
    }

    /// Opens the file at the path; keeps the one that is open where that fails.
    fn reopen(&mut self) -> io::Result<()> {
        self.file = Some(open_to_append(&self.path)?);
        self.is_torn = false;
        Ok(())
    }
}

/// Opens the file without waiting: a pipe that nobody reads would else hold whoever opens it, and whoever writes.
fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).map_err(io::Error::other)?;
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> AppendedFile {
        AppendedFile { path: path.to_owned(), file: None, is_torn: false }
    }

    #[test]
    fn what_is_lost_are_the_lines_that_were_not_written_whole() {
        // Every write to it fails for want of space.
        let mut full = file(Path::new("/dev/full"));
        let Err(AppendError { lost, source }) = full.append(b"one\ntwo\n") else { panic!("it is full") };
        assert_eq!((lost, source.kind()), (2, io::ErrorKind::StorageFull));
        assert!(!full.is_torn, "nothing of a line was written");
    }

    #[test]
    fn a_line_after_one_that_was_torn_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut torn = file(&path);
        torn.append(b"half a li").ok().unwrap();
        torn.is_torn = true;
        torn.append(b"whole\n").ok().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a li\nwhole\n");
    }

    #[test]
    fn a_file_that_was_removed_is_made_anew_and_one_that_was_moved_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut log = file(&path);
        log.append(b"one\n").ok().unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.append(b"two\n").ok().unwrap();
        log.reopen().unwrap();
        log.append(b"three\n").ok().unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        std::fs::remove_file(&path).unwrap();
        log.append(b"four\n").ok().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
    }

    #[test]
    fn lines_that_wait_are_bounded_in_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(AccessLogFile::open(&fifo).is_err(), "nobody reads it");
        // Nobody takes lines out of this queue.
        let (commands, _received) = mpsc::channel();
        let lost = IntCounter::new("lost", "lines").unwrap();
        let queue = Arc::new(LineQueue { waiting: AtomicUsize::new(0), lost, overflowed: AtomicUsize::new(0) });
        let log = AccessLogFile { commands, queue };
        let line = [b'x'; 1024 - LINE_OVERHEAD];
        for _ in 0..MAX_WAITING / 1024 + 10 {
            log.push(&line);
        }
        assert_eq!(log.queue.lost.get(), 10);
        assert_eq!(log.queue.waiting.load(Ordering::Relaxed), MAX_WAITING);
    }
}
