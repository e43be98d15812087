//! A track's object as a file that the decoder reads and seeks in. It is fetched in ranges as the decoder goes on, and no
//! further: while nobody takes the samples, nothing is read.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use symphonia::core::io::MediaSource;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use super::decoder::DecodedBlock;
use primitives::clock::monotonic_now;

/// Bytes of a range.
const RANGE_BYTES: u64 = 256 << 10;
/// Bytes in a row that may hold no sound: pictures in the head of a file, and tables.
const MAX_SILENT_BYTES: u64 = 64 << 20;
/// Time that fetching may take without sound.
const MAX_SILENT_MILLIS: u64 = 60_000;

/// Failure to read a track's object; the text is for the log and for admins, and names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TrackObjectError(pub String);

/// Object of a track, which does not change while it is read.
#[async_trait]
pub trait TrackObject: Send + Sync {
    /// Returns its size in bytes.
    fn size(&self) -> u64;

    /// Returns the extension of its key, which hints at its format.
    fn extension(&self) -> Option<&str>;

    /// Returns `length` bytes from `offset` on.
    async fn read(&self, offset: u64, length: u64) -> Result<Bytes, TrackObjectError>;
}

/// What may be read of an object for nothing: a file whose parts hold no sound would be read to its end, and be silence.
#[derive(Debug, Default)]
pub struct ReadBudget {
    bytes: AtomicU64,
    millis: AtomicU64,
}

impl ReadBudget {
    /// Begins anew: there was sound in what was read.
    pub fn renew(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.millis.store(0, Ordering::Relaxed);
    }

    /// Notes what a read has taken; returns false where there was too much without sound.
    fn take(&self, bytes: u64, time: Duration) -> bool {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let add = |to: &AtomicU64, more: u64| to.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        add(&self.bytes, bytes) <= MAX_SILENT_BYTES && add(&self.millis, millis) <= MAX_SILENT_MILLIS
    }
}

/// Object under a cursor, for a thread that may block.
pub struct ObjectFile {
    object: Arc<dyn TrackObject>,
    runtime: Handle,
    position: u64,
    /// Range that was fetched last, and where it begins.
    range: (u64, Bytes),
    budget: Arc<ReadBudget>,
    wanted_by: Sender<DecodedBlock>,
}

impl ObjectFile {
    /// Opens the object; `runtime` is where it is fetched. It is read while `budget` lasts and somebody waits for what
    /// `wanted_by` sends.
    pub fn new(
        object: Arc<dyn TrackObject>,
        runtime: Handle,
        budget: Arc<ReadBudget>,
        wanted_by: Sender<DecodedBlock>,
    ) -> Self {
        Self { object, runtime, position: 0, range: (0, Bytes::new()), budget, wanted_by }
    }

    /// Returns the extension of the object's key.
    pub fn extension(&self) -> Option<&str> {
        self.object.extension()
    }

    /// Fetches the range that begins at the cursor.
    fn fetch(&mut self, length: u64) -> io::Result<()> {
        if self.wanted_by.is_closed() {
            return Err(io::Error::other("nobody wants it any more"));
        }
        let begin = monotonic_now();
        let (object, wanted_by) = (&self.object, &self.wanted_by);
        let read = self.runtime.block_on(async {
            tokio::select! {
                read = object.read(self.position, length) => Some(read),
                () = wanted_by.closed() => None,
            }
        });
        let bytes = read.ok_or_else(|| io::Error::other("nobody wants it any more"))?.map_err(io::Error::other)?;
        if bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if !self.budget.take(0, monotonic_now().saturating_duration_since(begin)) {
            return Err(io::Error::other("no sound came of it in time"));
        }
        self.range = (self.position, bytes);
        Ok(())
    }
}

impl Read for ObjectFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.object.size();
        if self.position >= size || into.is_empty() {
            return Ok(0);
        }
        let (start, bytes) = &self.range;
        let is_inside = self.position >= *start && self.position - start < bytes.len() as u64;
        if !is_inside {
            self.fetch(RANGE_BYTES.min(size - self.position))?;
        }
        let (start, bytes) = &self.range;
        let rest = usize::try_from(self.position - start).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        if !self.budget.take(count as u64, Duration::ZERO) {
            return Err(io::Error::other("there is too much in it without sound"));
        }
        Ok(count)
    }
}

impl Seek for ObjectFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.object.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl MediaSource for ObjectFile {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.object.size())
    }
}
