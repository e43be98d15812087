//! Bound of what is read of a file for nothing: a file whose parts hold no sound would be read to its end, and be silence.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use symphonia::core::io::MediaSource;

use primitives::clock::monotonic_now;

/// Bytes in a row that may hold no sound: pictures in the head of a file, and tables.
const MAX_SILENT_BYTES: u64 = 64 << 20;
/// Time that reading may take without sound.
const MAX_SILENT_MILLIS: u64 = 60_000;

/// What was read since there was sound.
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

/// File that is read while its budget lasts.
pub struct BudgetedSource {
    file: Box<dyn MediaSource>,
    budget: Arc<ReadBudget>,
}

impl BudgetedSource {
    /// Bounds what is read of a file.
    pub fn new(file: Box<dyn MediaSource>, budget: Arc<ReadBudget>) -> Self {
        Self { file, budget }
    }
}

impl Read for BudgetedSource {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let begin = monotonic_now();
        let count = self.file.read(into)?;
        if self.budget.take(count as u64, monotonic_now().saturating_duration_since(begin)) {
            Ok(count)
        } else {
            Err(io::Error::other("too much of it brings no sound"))
        }
    }
}

impl Seek for BudgetedSource {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl MediaSource for BudgetedSource {
    fn is_seekable(&self) -> bool {
        self.file.is_seekable()
    }

    fn byte_len(&self) -> Option<u64> {
        self.file.byte_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::TrackDecoder;
    use crate::{ChannelLayout, SoundForm};

    /// File of any size: a head, and zeros behind it.
    struct EndlessFile {
        head: Vec<u8>,
        position: u64,
        read: Arc<AtomicU64>,
    }

    impl Read for EndlessFile {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into.fill(0);
            let head = self.head.get(self.position as usize..).unwrap_or_default();
            let count = head.len().min(into.len());
            into[..count].copy_from_slice(&head[..count]);
            self.position += into.len() as u64;
            self.read.fetch_add(into.len() as u64, Ordering::SeqCst);
            Ok(into.len())
        }
    }

    impl Seek for EndlessFile {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            match to {
                SeekFrom::Start(at) => self.position = at,
                SeekFrom::Current(by) => self.position = self.position.saturating_add_signed(by),
                SeekFrom::End(by) => self.position = (4_u64 << 30).saturating_add_signed(by),
            }
            Ok(self.position)
        }
    }

    impl MediaSource for EndlessFile {
        fn is_seekable(&self) -> bool {
            true
        }

        fn byte_len(&self) -> Option<u64> {
            Some(4 << 30)
        }
    }

    #[test]
    fn what_holds_no_sound_is_read_no_further() {
        // FLAC of 48 kHz that has nothing but zeros behind its head.
        let mut head = b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0b\xb8\x02\xf0\0\0\0\0".to_vec();
        head.extend([0; 16]);
        head.extend(b"\x81\0\0\0");
        let read = Arc::new(AtomicU64::new(0));
        let file = Box::new(EndlessFile { head, position: 0, read: Arc::clone(&read) });
        let form = SoundForm { rate: 48_000, layout: ChannelLayout::Stereo };
        let (mut ready, mut is_over) = (Vec::new(), false);
        if let Ok(mut decoder) = TrackDecoder::open(file, None, form) {
            while !is_over {
                is_over = decoder.read(&mut ready).is_err();
            }
        }
        let read = read.load(Ordering::SeqCst);
        assert!(read > 1 << 20 && read < 100 << 20, "{read}");
    }
}
