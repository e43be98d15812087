//! A track's object as a file that the decoder reads and seeks in. It is fetched in ranges as the decoder goes on, and no
//! further: while nobody takes the samples, nothing is read.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use symphonia::core::io::MediaSource;
use tokio::runtime::Handle;

/// Bytes of a range.
const RANGE_BYTES: u64 = 256 << 10;

/// Failure to read a track's object; the text is for the log and for admins, and names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TrackObjectError(pub String);

/// Object of a track, which does not change while it is read.
pub trait TrackObject: Send + Sync {
    /// Returns its size in bytes.
    fn size(&self) -> u64;

    /// Returns the extension of its key, which hints at its format.
    fn extension(&self) -> Option<&str>;

    /// Returns `length` bytes from `offset` on.
    fn read(&self, offset: u64, length: u64) -> BoxFuture<'_, Result<Bytes, TrackObjectError>>;
}

/// Object under a cursor, for a thread that may block.
pub struct ObjectFile {
    object: Arc<dyn TrackObject>,
    runtime: Handle,
    position: u64,
    /// Range that was fetched last, and where it begins.
    range: (u64, Bytes),
}

impl ObjectFile {
    /// Opens the object; `runtime` is where it is fetched.
    pub fn new(object: Arc<dyn TrackObject>, runtime: Handle) -> Self {
        Self { object, runtime, position: 0, range: (0, Bytes::new()) }
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
            let length = RANGE_BYTES.min(size - self.position);
            let read = self.runtime.block_on(self.object.read(self.position, length));
            let bytes = read.map_err(io::Error::other)?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            self.range = (self.position, bytes);
        }
        let (start, bytes) = &self.range;
        let rest = usize::try_from(self.position - start).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
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
