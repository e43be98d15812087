//! The objects that are asked for: their files in the origin's bucket folder, and the requests for them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::rc::Rc;

use anyhow::Result;

use crate::load::Request;
use crate::servers::Target;

/// The bucket's name.
pub const BUCKET: &str = "audio";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Objects of one size, named `<name>-<number>`.
#[derive(Clone, Copy)]
pub struct Objects {
    name: &'static str,
    count: usize,
    size: u64,
}

/// Small ones: the cost of a request without its body.
pub const SMALL: Objects = Objects { name: "small", count: 64, size: KIB };
/// Whole tracks.
pub const TRACKS: Objects = Objects { name: "track", count: 8, size: 8 * MIB };
/// A long one, read in ranges.
pub const LONG: Objects = Objects { name: "long", count: 1, size: 256 * MIB };
/// Larger than any cache keeps whole; nothing but holes, which a store sends like bytes.
pub const HUGE: Objects = Objects { name: "huge", count: 256, size: 1_000_000_000 };
/// What a paused reader asked for.
pub const PAUSED: Objects = Objects { name: "paused", count: 1, size: 20_000_000 };

impl Objects {
    /// How many there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// A GET for each of them.
    pub fn whole(self, target: &Target) -> Rc<[Request]> {
        (0..self.count).map(|number| target.get(&self.key(number), None, self.size)).collect()
    }

    /// A GET for each aligned range of `length` bytes, in their order.
    pub fn ranges(self, target: &Target, length: u64) -> Rc<[Request]> {
        let ranges = move |number| {
            (0..self.size / length).map(move |range| target.get(&self.key(number), Some(range * length), length))
        };
        (0..self.count).flat_map(ranges).collect()
    }

    /// A GET for `length` bytes of each, `before_end` from its end.
    pub fn near_end(self, target: &Target, before_end: u64, length: u64) -> Rc<[Request]> {
        (0..self.count).map(|number| self.near_end_of(number, target, before_end, length)).collect()
    }

    /// The same for the one with this number.
    pub fn near_end_of(self, number: usize, target: &Target, before_end: u64, length: u64) -> Request {
        target.get(&self.key(number), Some(self.size - before_end), length)
    }

    /// The key of the one with this number.
    pub fn key(self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }
}

/// Makes what is missing in `folder`, but for the holes: random bytes, so that nothing on the way can make them smaller.
pub fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for objects in [SMALL, TRACKS, LONG, PAUSED] {
        for number in 0..objects.count {
            let path = folder.join(objects.key(number));
            if fs::metadata(&path).is_ok_and(|found| found.len() == objects.size) {
                continue;
            }
            let mut file = BufWriter::new(File::create(path)?);
            for _ in 0..objects.size / 8 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                file.write_all(&random.to_le_bytes())?;
            }
            file.flush()?;
        }
    }
    for number in 0..HUGE.count {
        File::create(folder.join(HUGE.key(number)))?.set_len(HUGE.size)?;
    }
    Ok(())
}
