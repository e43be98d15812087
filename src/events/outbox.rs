//! The folder in which events wait: segments of lines, written by one [`Appender`] and read in order by one [`Reader`]
//! with a cursor that outlives the process. Knows nothing of where events go.
//!
//! A segment is never appended to by two processes: each start begins a new one, and so does a write that failed. What
//! stands after the last line break of an older segment was acknowledged to nobody, and is passed over.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::metrics::{Dropped, Numbers};
use super::settings::Outbox;
use super::{Event, Refused};

/// Bytes that are read at once; no line is longer.
const CHUNK: usize = 1 << 20;
/// Events that are delivered at once.
const MOST_EVENTS: usize = 1000;
/// Segments that a full outbox has about: what is delivered is deleted by the segment.
const SEGMENTS: u64 = 16;
const LARGEST_SEGMENT: u64 = 16 << 20;
const EXTENSION: &str = "jsonl";

/// Opens the folder, and counts what waits there.
pub fn open(settings: &Outbox, numbers: Numbers) -> io::Result<(Appender, Reader)> {
    fs::create_dir_all(&settings.path)?;
    let lock = File::create(settings.path.join("lock"))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another process uses it"),
        TryLockError::Error(error) => error,
    })?;
    let segments = segments(&settings.path)?;
    let first = segments.first().copied().unwrap_or(1);
    let last = segments.last().copied().unwrap_or(0);
    let folder = Arc::new(Folder {
        path: settings.path.clone(),
        active: AtomicU64::new(last + 1),
        bytes: AtomicU64::new(0),
        _lock: lock,
    });
    let (segment, offset) = folder.cursor().filter(|(segment, _)| *segment >= first).unwrap_or((first, 0));
    for number in segments {
        let path = folder.segment(number);
        if number < segment {
            fs::remove_file(path)?;
            continue;
        }
        folder.bytes.fetch_add(fs::metadata(&path)?.len(), Ordering::Relaxed);
        let (events, bytes) = waiting(&path, if number == segment { offset } else { 0 })?;
        numbers.waits(events, bytes);
    }
    let file = folder.create(last + 1)?;
    let largest = (settings.size / SEGMENTS).min(LARGEST_SEGMENT);
    let appender = Appender { folder: Arc::clone(&folder), file: Some(file), length: 0, largest, limit: settings.size };
    Ok((appender, Reader { folder, segment, offset, numbers }))
}

/// The numbers of the segments in `path`, in order.
fn segments(path: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            numbers.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// How many lines there are in the file at `path` from `offset` on, and how many bytes.
fn waiting(path: &Path, offset: u64) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = vec![0; CHUNK];
    let (mut lines, mut bytes, mut read) = (0, 0, 0);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((lines, bytes));
        }
        let part = &buffer[..count];
        lines += part.iter().filter(|byte| **byte == b'\n').count() as u64;
        if let Some(end) = memchr::memrchr(b'\n', part) {
            bytes = read + end as u64 + 1;
        }
        read += count as u64;
    }
}

struct Folder {
    path: PathBuf,
    /// The segment that is written; all before it are finished.
    active: AtomicU64,
    /// Bytes in all segments, delivered or not.
    bytes: AtomicU64,
    /// Held for as long as the process lives, however that ends.
    _lock: File,
}

impl Folder {
    fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:020}.{EXTENSION}"))
    }

    fn create(&self, number: u64) -> io::Result<File> {
        OpenOptions::new().create_new(true).append(true).open(self.segment(number))
    }

    /// Where reading ended; `None`: at no place that can be told, so it begins anew.
    fn cursor(&self) -> Option<(u64, u64)> {
        let text = fs::read_to_string(self.path.join("cursor")).ok()?;
        let (segment, offset) = text.trim_end().split_once(' ')?;
        Some((segment.parse().ok()?, offset.parse().ok()?))
    }

    fn keep_cursor(&self, segment: u64, offset: u64) -> io::Result<()> {
        let new = self.path.join("cursor.new");
        fs::write(&new, format!("{segment} {offset}\n"))?;
        fs::rename(new, self.path.join("cursor"))
    }
}

/// Writes to the outbox.
pub struct Appender {
    folder: Arc<Folder>,
    /// The active segment; `None` after a write to it failed.
    file: Option<File>,
    length: u64,
    largest: u64,
    limit: u64,
}

impl Appender {
    /// Whether `bytes` more fit in.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.folder.bytes.load(Ordering::Relaxed) + bytes as u64 <= self.limit
    }

    /// Writes whole lines; once it returns they survive the end of the process.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Refused> {
        let count = lines.len() as u64;
        let full = self.length > 0 && self.length + count > self.largest;
        let mut file = match self.file.take() {
            Some(file) if !full => file,
            _ => self.roll().map_err(|error| Refused::Disk(error.kind()))?,
        };
        if let Err(error) = file.write_all(lines) {
            // What of it is on the disk counts; the next write begins a new segment.
            let torn = file.metadata().map_or(0, |metadata| metadata.len().saturating_sub(self.length));
            self.folder.bytes.fetch_add(torn, Ordering::Relaxed);
            return Err(Refused::Disk(error.kind()));
        }
        self.file = Some(file);
        self.length += count;
        self.folder.bytes.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn roll(&mut self) -> io::Result<File> {
        let next = self.folder.active.load(Ordering::Relaxed) + 1;
        let file = self.folder.create(next)?;
        self.length = 0;
        // Only now: whoever reads takes all before it for finished.
        self.folder.active.store(next, Ordering::Release);
        Ok(file)
    }
}

/// Reads the outbox.
pub struct Reader {
    folder: Arc<Folder>,
    segment: u64,
    offset: u64,
    numbers: Numbers,
}

/// Events in their order.
#[derive(Default)]
pub struct Batch {
    /// The events.
    pub events: Vec<Event>,
    /// Where each of them ends in the segment.
    ends: Vec<u64>,
}

impl Reader {
    /// The next events; none where all are delivered.
    pub fn read(&mut self) -> io::Result<Batch> {
        loop {
            let is_active = self.segment >= self.folder.active.load(Ordering::Acquire);
            let bytes = self.chunk()?;
            let Some(end) = memchr::memrchr(b'\n', &bytes) else {
                if bytes.len() == CHUNK {
                    // No event is as long: whatever this is, the rest of it will not be one either.
                    self.offset += CHUNK as u64;
                } else if is_active {
                    return Ok(Batch::default());
                } else {
                    self.next_segment()?;
                }
                continue;
            };
            let batch = self.parse(&bytes[..=end]);
            if !batch.events.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// What stands at the cursor; nothing where the segment is not there.
    fn chunk(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match File::open(self.folder.segment(self.segment)) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(self.offset))?;
                file.take(CHUNK as u64).read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(bytes)
    }

    /// The events of these lines; where the first lines cannot be read the cursor moves past them.
    fn parse(&mut self, lines: &[u8]) -> Batch {
        let (mut batch, mut end, mut broken) = (Batch::default(), self.offset, 0);
        for line in lines.split_inclusive(|byte| *byte == b'\n').take(MOST_EVENTS) {
            end += line.len() as u64;
            match serde_json::from_slice(line) {
                Ok(event) => {
                    batch.events.push(event);
                    batch.ends.push(end);
                }
                Err(_) => {
                    broken += 1;
                    if let Some(last) = batch.ends.last_mut() {
                        // Goes with the event before it.
                        *last = end;
                    } else {
                        self.numbers.leaves(0, line.len() as u64);
                        self.offset = end;
                    }
                }
            }
        }
        if broken > 0 {
            self.numbers.leaves(broken, 0);
            self.numbers.dropped(Dropped::Broken, broken);
            let segment = self.segment;
            tracing::error!(segment, lines = broken, "lines of the outbox (Events.Outbox) cannot be read: passed over");
        }
        batch
    }

    /// The first `count` events of `batch` are done with, for good.
    pub fn done(&mut self, batch: &Batch, count: usize) -> io::Result<()> {
        let Some(end) = count.checked_sub(1).and_then(|last| batch.ends.get(last)) else { return Ok(()) };
        self.numbers.leaves(count as u64, end - self.offset);
        self.offset = *end;
        self.folder.keep_cursor(self.segment, self.offset)
    }

    fn next_segment(&mut self) -> io::Result<()> {
        let old = self.folder.segment(self.segment);
        (self.segment, self.offset) = (self.segment + 1, 0);
        self.folder.keep_cursor(self.segment, 0)?;
        let length = fs::metadata(&old).map_or(0, |metadata| metadata.len());
        match fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.folder.bytes.fetch_sub(length, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use uuid::Uuid;

    use super::*;

    fn event(number: u128) -> Event {
        Event::new(Uuid::from_u128(number), "topic".into(), "alice", &"x".repeat(1000)).expect("a text is JSON")
    }

    fn open(folder: &Path) -> (Appender, Reader, Numbers) {
        let numbers = Numbers::new(&Registry::new(), "file").expect("an empty registry");
        let settings = Outbox { path: folder.to_owned(), size: 1 << 20 };
        let (appender, reader) = super::open(&settings, numbers.clone()).expect("the outbox opens");
        (appender, reader, numbers)
    }

    fn ids(batch: &Batch) -> Vec<u128> {
        batch.events.iter().map(|event| Uuid::parse_str(&event.id).expect("a UUID").as_u128()).collect()
    }

    fn files(folder: &Path) -> usize {
        segments(folder).expect("the folder is readable").len()
    }

    #[test]
    fn what_is_appended_is_read_in_order_across_segments_and_their_files_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut appender, mut reader, numbers) = open(folder.path());
        let mut read = Vec::new();
        for round in 0..10 {
            for number in 0..100 {
                appender.append(&event(round * 100 + number).line()).expect("there is room");
                numbers.waits(1, event(0).line().len() as u64);
            }
            loop {
                let batch = reader.read().expect("it is readable");
                if batch.events.is_empty() {
                    break;
                }
                read.extend(ids(&batch));
                reader.done(&batch, batch.events.len()).expect("the cursor is kept");
            }
        }
        assert_eq!(read, (0..1000).collect::<Vec<_>>());
        assert_eq!(files(folder.path()), 1);
        assert_eq!((numbers.backlog_events.get(), numbers.backlog_bytes.get()), (0, 0));
    }

    #[test]
    fn reading_goes_on_after_the_last_event_that_was_done_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut appender, mut reader, _) = open(folder.path());
        let lines: Vec<u8> = (0..10).flat_map(|number| event(number).line()).collect();
        appender.append(&lines).expect("there is room");
        let batch = reader.read().expect("it is readable");
        reader.done(&batch, 4).expect("the cursor is kept");
        drop((appender, reader));
        let (_, mut reader, numbers) = open(folder.path());
        assert_eq!(numbers.backlog_events.get(), 6);
        assert_eq!(ids(&reader.read().expect("it is readable")), (4..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_outbox_has_room_again_once_a_segment_is_delivered() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut appender, mut reader, _) = open(folder.path());
        let line = event(1).line();
        while appender.has_room(line.len()) {
            appender.append(&line).expect("there is room");
        }
        let batch = reader.read().expect("it is readable");
        reader.done(&batch, batch.events.len()).expect("the cursor is kept");
        reader.read().expect("it is readable");
        assert!(appender.has_room(line.len()));
    }

    #[test]
    fn only_one_process_uses_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let _first = open(folder.path());
        let numbers = Numbers::new(&Registry::new(), "file").expect("an empty registry");
        let settings = Outbox { path: folder.path().to_owned(), size: 1 << 20 };
        assert!(super::open(&settings, numbers).is_err());
    }
}
