//! A file of which some ranges are known. Reading in a gap fails, and the gap is remembered.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};

use bytes::Bytes;

/// Most reads and seeks of one parse: a file that has its parser go round in circles ends there.
const MAX_OPERATIONS: u32 = 2_000_000;

/// A file with gaps.
#[derive(Debug)]
pub struct SparseReader {
    /// Known ranges by their beginnings, in their order, without overlaps.
    known: Vec<(u64, Bytes)>,
    size: u64,
    position: u64,
    missing: Option<u64>,
    operations: u32,
}

impl SparseReader {
    /// A file of `size` bytes of which nothing is known.
    pub fn new(size: u64) -> Self {
        Self { known: Vec::new(), size, position: 0, missing: None, operations: 0 }
    }

    /// Adds the bytes from `start` on.
    pub fn insert(&mut self, start: u64, bytes: Bytes) {
        let at = self.known.partition_point(|(known, _)| *known < start);
        self.known.insert(at, (start, bytes));
    }

    /// Returns the first byte that was wanted and is not known, and begins anew.
    pub fn take_missing(&mut self) -> Option<u64> {
        (self.position, self.operations) = (0, 0);
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
        match self.operations > MAX_OPERATIONS {
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
        file.read_to_end(&mut all).expect("all is known");
        assert_eq!((all.as_slice(), file.take_missing()), (&b"0123456789"[..], None));
        assert!(file.seek(SeekFrom::Current(-1)).is_err());
    }
}
