//! A file of which some ranges are known. Reading in a gap fails, and the gap is remembered.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::time::{Duration, Instant};

use bytes::Bytes;

use primitives::clock::monotonic_now;

/// Most reads and seeks of one parse: a file that has its parser go round in circles ends there.
const MAX_OPERATIONS: u32 = 2_000_000;
/// Time of all parses of one file together: one whose reads are large ends there.
const MAX_PARSE_TIME: Duration = Duration::from_secs(2);

/// A file with gaps.
#[derive(Debug)]
pub struct SparseReader {
    /// Known ranges by their beginnings, in their order, without overlaps.
    known: Vec<(u64, Bytes)>,
    size: u64,
    position: u64,
    missing: Option<u64>,
    operations: u32,
    /// Time that parses have left.
    time_left: Duration,
    deadline: Option<Instant>,
    is_too_slow: bool,
}

impl SparseReader {
    /// A file of `size` bytes of which nothing is known.
    pub fn new(size: u64) -> Self {
        Self {
            known: Vec::new(),
            size,
            position: 0,
            missing: None,
            operations: 0,
            time_left: MAX_PARSE_TIME,
            deadline: None,
            is_too_slow: false,
        }
    }

    /// Returns what `parse` makes of the file. Where all parses together take longer than [`MAX_PARSE_TIME`] reading fails, and
    /// nothing is missing any more.
    pub fn parse<T>(&mut self, parse: impl FnOnce(&mut Self) -> T) -> T {
        let deadline = monotonic_now() + self.time_left;
        (self.position, self.operations, self.deadline) = (0, 0, Some(deadline));
        let parsed = parse(self);
        self.time_left = deadline.saturating_duration_since(monotonic_now());
        if self.is_too_slow {
            self.missing = None;
        }
        parsed
    }

    /// Returns true if the time of the parses was not enough.
    pub fn is_too_slow(&self) -> bool {
        self.is_too_slow
    }

    /// Adds the bytes from `start` on.
    pub fn insert(&mut self, start: u64, bytes: Bytes) {
        let at = self.known.partition_point(|(known, _)| *known < start);
        self.known.insert(at, (start, bytes));
    }

    /// Returns the first byte that was wanted and is not known.
    pub fn take_missing(&mut self) -> Option<u64> {
        self.missing.take()
    }

    /// Returns the end of the gap in which `position` is.
    pub fn end_of_gap(&self, position: u64) -> u64 {
        self.known.iter().map(|(start, _)| *start).find(|start| *start > position).unwrap_or(self.size)
    }

    /// Returns the number of bytes that are known.
    pub fn known_bytes(&self) -> u64 {
        self.known.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn count_operation(&mut self) -> Result<()> {
        self.operations += 1;
        self.is_too_slow |= self.deadline.is_some_and(|deadline| monotonic_now() >= deadline);
        match self.is_too_slow || self.operations > MAX_OPERATIONS {
            true => Err(Error::other("too many reads")),
            false => Ok(()),
        }
    }
}

impl Read for SparseReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.count_operation()?;
        if buffer.is_empty() || self.position >= self.size {
            return Ok(0);
        }
        let position = self.position;
        let known = self.known.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(position.checked_sub(*start)?).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        });
        let Some(rest) = known else {
            // The first one: what a parser tries after that is a guess.
            self.missing.get_or_insert(position);
            return Err(Error::new(ErrorKind::Unsupported, "these bytes were not read"));
        };
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for SparseReader {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.count_operation()?;
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = to.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_ranges_are_read_and_gaps_are_told() {
        let mut file = SparseReader::new(10);
        file.insert(7, Bytes::from_static(b"789"));
        file.insert(0, Bytes::from_static(b"012"));
        let mut buffer = [0; 3];
        file.read_exact(&mut buffer).expect("the head is known");
        assert_eq!(&buffer, b"012");
        assert!(file.read_exact(&mut buffer).is_err());
        assert!(file.seek(SeekFrom::End(-1)).is_ok());
        assert_eq!(file.read(&mut buffer).expect("the tail is known"), 1);
        assert_eq!((file.take_missing(), file.end_of_gap(3), file.known_bytes()), (Some(3), 7, 6));
        file.insert(3, Bytes::from_static(b"3456"));
        let mut all = Vec::new();
        file.parse(|file| file.read_to_end(&mut all)).expect("all is known, from the beginning on");
        assert_eq!((all.as_slice(), file.take_missing()), (&b"0123456789"[..], None));
        assert!(file.seek(SeekFrom::Current(-11)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn all_parses_of_a_file_have_one_time() {
        let mut file = SparseReader::new(1 << 20);
        file.insert(0, Bytes::from_static(b"012"));
        let mut buffer = [0; 3];
        assert!(file.parse(|file| file.read_exact(&mut buffer)).is_ok());
        assert!(file.parse(|file| file.seek(SeekFrom::Start(9)).and_then(|_| file.read_exact(&mut buffer))).is_err());
        assert_eq!((file.take_missing(), file.is_too_slow()), (Some(9), false));
        let slow = file.parse(|file| {
            file.deadline = Some(monotonic_now());
            file.read_exact(&mut buffer)
        });
        assert!(slow.is_err());
        assert_eq!((file.take_missing(), file.is_too_slow()), (None, true), "no more of it is asked for");
        assert!(file.parse(|file| file.read_exact(&mut buffer)).is_err(), "the next one has no more time");
    }
}
