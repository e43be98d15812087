//! Segment of the index: the landmarks of some tracks in one file, which never changes.
//!
//! Landmarks are ordered by code, so that a question reads some of them and not the file. Times are places on one line, on which
//! the segment's tracks follow each other. The file has blocks of equally many codes; then their offsets, the tracks, and a
//! trailer of fixed length. A block is a row of groups: the distance to the code before, the length in bytes of what follows,
//! and the places in ascending order, all as varints.
//!
//! Blocks are read by position and not through a memory map: the system caches them alike, and a file that is cut off or cannot
//! be read is then an error of one request, where a map would end the process.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::varint;
use crate::landmarks::CODE_BITS;

/// Begin of a trailer, with the version of the form.
const MAGIC: &[u8; 8] = b"TGLAND01";
/// Bytes of a trailer: the magic, six numbers, a checksum.
const TRAILER: usize = 8 + 6 * 8 + 8;
/// Bytes of a block, about.
const BLOCK_BYTES: u64 = 1024;
/// Bytes of a landmark in a file, about.
const LANDMARK_BYTES: u64 = 4;
/// Largest number of blocks, whose offsets are in memory.
const MAX_BLOCK_BITS: u32 = 20;
/// Largest part of a file that is read at once, in bytes; a damaged directory may say anything.
const MAX_BLOCK_BYTES: u64 = 256 << 20;

/// Track of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTrack {
    /// Its id.
    pub id: String,
    /// Version of its object.
    pub version: String,
    /// Its place on the line, in frames.
    pub base: u32,
    /// Its length in frames.
    pub frames: u32,
}

/// Group of a segment: where a code is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeGroup {
    /// The code.
    pub code: u32,
    /// Places on the line, ascending.
    pub places: Vec<u32>,
}

/// Segment that is open to be searched.
#[derive(Debug)]
pub struct Segment {
    file: File,
    /// Codes of a block as a power of two.
    shift: u32,
    offsets: Vec<u64>,
    tracks: Vec<SegmentTrack>,
    landmarks: u64,
}

impl Segment {
    /// Opens a segment; fails where it is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let start = size.checked_sub(TRAILER as u64).ok_or_else(damaged)?;
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, start)?;
        let (head, checksum) = trailer.split_at(TRAILER - 8);
        let number = |at: usize| head.get(8 + 8 * at..16 + 8 * at).and_then(|bytes| bytes.try_into().ok());
        let number = |at| number(at).map(u64::from_le_bytes).ok_or_else(damaged);
        let (shift, blocks, tracks, landmarks) = (number(0)?, number(1)?, number(2)?, number(3)?);
        let is_sound = head.starts_with(MAGIC)
            && shift <= u64::from(CODE_BITS)
            && CODE_BITS as u64 - shift <= u64::from(MAX_BLOCK_BITS)
            && blocks <= tracks
            && tracks <= start;
        if !is_sound {
            return Err(damaged());
        }
        let shift = u32::try_from(shift).map_err(|_| damaged())?;
        let count = (1_usize << (CODE_BITS - shift)) + 1;
        if tracks - blocks != 8 * count as u64 {
            return Err(damaged());
        }
        let mut tables = vec![0; usize::try_from(start - blocks).map_err(|_| damaged())?];
        file.read_exact_at(&mut tables, blocks)?;
        if Sha256::new().chain_update(&tables).chain_update(head).finalize()[..8] != *checksum {
            return Err(damaged());
        }
        let (directory, table) = tables.split_at(8 * count);
        let offsets = directory.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes));
        let offsets: Vec<u64> = offsets.collect();
        let tracks: Vec<SegmentTrack> = serde_json::from_slice(table).map_err(|_| damaged())?;
        let is_ascending = offsets.is_sorted() && offsets.last().is_some_and(|last| *last <= blocks);
        if !is_ascending || !tracks.is_sorted_by_key(|track| track.base) {
            return Err(damaged());
        }
        Ok(Self { file, shift, offsets, tracks, landmarks })
    }

    /// Returns the tracks, in the order of their places.
    pub fn tracks(&self) -> &[SegmentTrack] {
        &self.tracks
    }

    /// Returns the number of landmarks.
    pub fn landmarks(&self) -> u64 {
        self.landmarks
    }

    /// Returns the number of frames of the line.
    pub fn frames(&self) -> u64 {
        self.tracks.last().map_or(0, |last| u64::from(last.base) + u64::from(last.frames))
    }

    /// Returns the index of the track at a place.
    pub fn track_at(&self, place: u32) -> Option<usize> {
        self.tracks.partition_point(|track| track.base <= place).checked_sub(1)
    }

    /// Calls `found` with each of the ascending `codes` that the segment has, and the bytes of its places.
    pub fn look_up(&self, codes: &[u32], mut found: impl FnMut(usize, &[u8])) -> io::Result<()> {
        let mut block = Vec::new();
        let mut at = 0;
        while let Some(code) = codes.get(at) {
            let number = code >> self.shift;
            let end = at + codes[at..].partition_point(|code| code >> self.shift == number);
            self.read_block(number, &mut block)?;
            let mut groups = GroupBytes { bytes: &block, code: number << self.shift };
            let mut group = groups.next();
            while let (Some((code, places)), true) = (group, at < end) {
                match code.cmp(&codes[at]) {
                    std::cmp::Ordering::Less => group = groups.next(),
                    std::cmp::Ordering::Greater => at += 1,
                    std::cmp::Ordering::Equal => {
                        found(at, places);
                        at += 1;
                    }
                }
            }
            at = end;
        }
        Ok(())
    }

    fn read_block(&self, number: u32, block: &mut Vec<u8>) -> io::Result<()> {
        block.clear();
        let number = number as usize;
        let (Some(from), Some(to)) = (self.offsets.get(number), self.offsets.get(number + 1)) else { return Ok(()) };
        if to - from > MAX_BLOCK_BYTES {
            return Err(damaged());
        }
        block.resize(usize::try_from(to - from).map_err(|_| damaged())?, 0);
        self.file.read_exact_at(block, *from)
    }

    /// Returns a reader of all groups in the order of their codes.
    pub fn groups(&self) -> io::Result<GroupReader<'_>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(GroupReader {
            segment: self,
            file: BufReader::with_capacity(256 << 10, file),
            number: 0,
            block: Vec::new(),
            at: 0,
            code: 0,
        })
    }
}

/// Groups of a block as bytes.
struct GroupBytes<'a> {
    bytes: &'a [u8],
    code: u32,
}

impl<'a> GroupBytes<'a> {
    fn next(&mut self) -> Option<(u32, &'a [u8])> {
        self.code = self.code.checked_add(varint::read(&mut self.bytes)?)?;
        let length = varint::read(&mut self.bytes)? as usize;
        let (places, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some((self.code, places))
    }
}

/// Reader of a whole segment. Only one at a time reads a segment: they share the file's position.
pub struct GroupReader<'a> {
    segment: &'a Segment,
    file: BufReader<File>,
    /// Number of the block that is read next.
    number: usize,
    block: Vec<u8>,
    at: usize,
    code: u32,
}

impl GroupReader<'_> {
    /// Returns the next group.
    pub fn next(&mut self) -> io::Result<Option<CodeGroup>> {
        while self.at >= self.block.len() {
            let offsets = &self.segment.offsets;
            let (Some(from), Some(to)) = (offsets.get(self.number), offsets.get(self.number + 1)) else {
                return Ok(None);
            };
            if to - from > MAX_BLOCK_BYTES {
                return Err(damaged());
            }
            self.block.resize(usize::try_from(to - from).map_err(|_| damaged())?, 0);
            self.file.read_exact(&mut self.block)?;
            self.code = u32::try_from(self.number).map_err(|_| damaged())? << self.segment.shift;
            (self.number, self.at) = (self.number + 1, 0);
        }
        let mut groups = GroupBytes { bytes: &self.block[self.at..], code: self.code };
        let (code, places) = groups.next().ok_or_else(damaged)?;
        let places = varint::read_ascending(places).collect();
        (self.at, self.code) = (self.block.len() - groups.bytes.len(), code);
        Ok(Some(CodeGroup { code, places }))
    }
}

/// Writer of a segment.
pub struct SegmentWriter {
    file: BufWriter<File>,
    shift: u32,
    offsets: Vec<u64>,
    written: u64,
    code: u32,
    landmarks: u64,
    bytes: Vec<u8>,
    places: Vec<u8>,
}

impl SegmentWriter {
    /// Creates a file for about so many landmarks.
    pub fn create(path: &Path, landmarks: u64) -> io::Result<Self> {
        let blocks = (landmarks.saturating_mul(LANDMARK_BYTES) / BLOCK_BYTES).max(16);
        let bits = blocks.next_power_of_two().ilog2().min(MAX_BLOCK_BITS);
        let file = File::options().write(true).create(true).truncate(true).open(path)?;
        Ok(Self {
            file: BufWriter::with_capacity(256 << 10, file),
            shift: CODE_BITS - bits,
            offsets: vec![0],
            written: 0,
            code: 0,
            landmarks: 0,
            bytes: Vec::new(),
            places: Vec::new(),
        })
    }

    /// Appends a group, whose code is larger than those before.
    pub fn push(&mut self, group: &CodeGroup) -> io::Result<()> {
        if group.places.is_empty() {
            return Ok(());
        }
        self.begin_block(group.code >> self.shift);
        self.places.clear();
        varint::write_ascending(&group.places, &mut self.places);
        self.bytes.clear();
        varint::write(group.code - self.code, &mut self.bytes);
        varint::write(u32::try_from(self.places.len()).map_err(|_| damaged())?, &mut self.bytes);
        self.code = group.code;
        self.file.write_all(&self.bytes)?;
        self.file.write_all(&self.places)?;
        self.written += (self.bytes.len() + self.places.len()) as u64;
        self.landmarks += group.places.len() as u64;
        Ok(())
    }

    /// Ends the blocks before the one with this number.
    fn begin_block(&mut self, number: u32) {
        while self.offsets.len() <= number as usize {
            self.offsets.push(self.written);
            self.code = number << self.shift;
        }
    }

    /// Writes the rest and makes the file safe.
    pub fn finish(mut self, tracks: &[SegmentTrack]) -> io::Result<()> {
        let blocks = 1_usize << (CODE_BITS - self.shift);
        self.offsets.resize(blocks + 1, self.written);
        let mut tables: Vec<u8> = self.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        let table = self.written + tables.len() as u64;
        serde_json::to_writer(&mut tables, tracks)?;
        let mut head = MAGIC.to_vec();
        for number in [u64::from(self.shift), self.written, table, self.landmarks, 0, 0] {
            head.extend(number.to_le_bytes());
        }
        let checksum = Sha256::new().chain_update(&tables).chain_update(&head).finalize();
        self.file.write_all(&tables)?;
        self.file.write_all(&head)?;
        self.file.write_all(&checksum[..8])?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file is damaged")
}
