//! For tests: inputs of fuzz targets. Samples are kept in a folder beside the code, one a file; a target gets each of them
//! as it is, and then what edits make of them. It must not know what any target does with its input.

use std::ops::{Bound, Deref};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

pub use bolero::check;
use bolero::{Driver, ValueGenerator};

/// Most edits of one input.
const MAX_EDITS: usize = 8;
/// Most bytes of an input.
const MAX_BYTES: usize = 16 * 1024;
/// Most times that one edit repeats a piece of an input.
const MAX_REPEATS: usize = 40;

/// A generator of inputs: samples that were edited at up to eight places.
pub struct FuzzInputs {
    samples: Vec<Sample>,
    tokens: &'static [&'static [u8]],
}

struct Sample {
    file: PathBuf,
    bytes: Vec<u8>,
}

/// An input, which is shown as text with escapes.
#[derive(Clone, PartialEq, Eq)]
pub struct FuzzInput(Vec<u8>);

impl fmt::Debug for FuzzInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

impl Deref for FuzzInput {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl FuzzInputs {
    /// Reads the samples in `fuzz/{target}` of the member whose folder is `member`. Edits insert `tokens`, which are the
    /// words of the format. Panics where there are no samples: that is a mistake of the test.
    pub fn new(member: &str, target: &str, tokens: &'static [&'static [u8]]) -> Self {
        let folder = Path::new(member).join("fuzz").join(target);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self::of_files(entries.flatten().map(|entry| entry.path()), tokens)
    }

    /// Reads the samples from `files`.
    pub fn of_files(files: impl IntoIterator<Item = PathBuf>, tokens: &'static [&'static [u8]]) -> Self {
        let mut files: Vec<PathBuf> = files.into_iter().collect();
        files.sort();
        let read = |file: PathBuf| {
            let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            Sample { file, bytes }
        };
        let samples: Vec<_> = files.into_iter().map(read).collect();
        assert!(!samples.is_empty() && !tokens.is_empty(), "no samples, or no tokens");
        Self { samples, tokens }
    }

    /// Calls `target` with each sample as it is, and names the one at which it panics.
    pub fn each_sample(&self, target: impl Fn(&[u8])) {
        for sample in &self.samples {
            let shown = PanickedSample(&sample.file);
            target(&sample.bytes);
            drop(shown);
        }
    }
}

/// Names its file where it is dropped by a panic.
struct PanickedSample<'a>(&'a Path);

impl Drop for PanickedSample<'_> {
    #[expect(clippy::print_stderr, reason = "the output of a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the sample is {}", self.0.display());
        }
    }
}

impl ValueGenerator for FuzzInputs {
    type Output = FuzzInput;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<FuzzInput> {
        let mut bytes = self.samples[below(self.samples.len(), driver)?].bytes.clone();
        for _ in 0..=below(MAX_EDITS, driver)? {
            self.edit(&mut bytes, driver)?;
            bytes.truncate(MAX_BYTES);
        }
        Some(FuzzInput(bytes))
    }
}

impl FuzzInputs {
    fn edit<D: Driver>(&self, bytes: &mut Vec<u8>, driver: &mut D) -> Option<()> {
        let at = below(bytes.len() + 1, driver)?;
        match below(8, driver)? {
            // Twice as often as the others: what the format means by them is what matters most.
            0 | 1 => {
                let token = self.tokens[below(self.tokens.len(), driver)?];
                bytes.splice(at..at, token.iter().copied());
            }
            2 => {
                let byte = u8::try_from(below(256, driver)?).unwrap_or_default();
                match bytes.get_mut(at) {
                    Some(there) => *there = byte,
                    None => bytes.push(byte),
                }
            }
            3 => {
                if let Some(there) = bytes.get_mut(at) {
                    *there ^= 1 << below(8, driver)?;
                }
            }
            4 => {
                let end = at + below(bytes.len() - at + 1, driver)?;
                bytes.drain(at..end);
            }
            5 => {
                let end = at + below((bytes.len() - at).min(64) + 1, driver)?;
                let repeated = bytes[at..end].repeat(1 + below(MAX_REPEATS, driver)?);
                bytes.splice(at..at, repeated);
            }
            6 => {
                let other = &self.samples[below(self.samples.len(), driver)?].bytes;
                let start = below(other.len() + 1, driver)?;
                let end = start + below(other.len() - start + 1, driver)?;
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            _ => bytes.truncate(at),
        }
        Some(())
    }
}

/// Returns a number below `end`, which is above 0.
fn below<D: Driver>(end: usize, driver: &mut D) -> Option<usize> {
    driver.gen_usize(Bound::Included(&0), Bound::Excluded(&end))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn inputs_are_edited_samples_within_their_limit() {
        let inputs = FuzzInputs::new(env!("CARGO_MANIFEST_DIR"), "example", &[b"<token>"]);
        let mut samples = 0;
        inputs.samples.iter().for_each(|sample| samples += sample.bytes.len());
        assert_eq!(samples, b"first sample\nsecond\n".len());
        let pieces: [&[u8]; 3] = [b"<token>", b"first sample", b"second"];
        let seen = pieces.map(|_| AtomicBool::new(false));
        check!().with_iterations(2000).with_generator(inputs).for_each(|input: &FuzzInput| {
            assert!(input.len() <= MAX_BYTES);
            for (piece, seen) in pieces.iter().zip(&seen) {
                seen.fetch_or(input.windows(piece.len()).any(|window| window == *piece), Ordering::Relaxed);
            }
        });
        assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed)));
    }
}
