//! Landmarks of sound: pairs of spectral peaks, after Wang, "An Industrial-Strength Audio Search Algorithm" (ISMIR 2003). Pure.
//!
//! The extractor stands behind a trait, and a test holds what it makes of one sound: other landmarks would make every index that
//! is on a disk useless, which [`LandmarkExtractor::name`] tells it from.

use audiofp::classical::{Wang, WangConfig};
use audiofp::{Fingerprinter, SampleRate};
use track_audio::{ChannelLayout, SoundForm};

/// Form of the sound that landmarks are made of.
pub const SOUND: SoundForm = SoundForm { rate: 8_000, layout: ChannelLayout::Mono };
/// Samples of a frame, the unit of a landmark's time.
pub const FRAME_SAMPLES: usize = 128;
/// Number of bits of a code.
pub const CODE_BITS: u32 = 23;

/// Largest distance of the two peaks in time, in frames, and in frequency, in bins.
const ZONE_FRAMES: u16 = 63;
const ZONE_BINS: u16 = 64;
/// Frames of a piece, of which landmarks are made at a time: a minute and four seconds.
const PIECE_FRAMES: usize = 4_000;
/// Frames before and after a piece that its peaks are compared with: two seconds.
const MARGIN_FRAMES: usize = 125;

/// Two peaks of a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Landmark {
    /// Their frequencies and their distance, in [`CODE_BITS`] bits.
    pub code: u32,
    /// Time of the first one, in frames.
    pub frame: u32,
}

/// Purpose of landmarks, on which their number depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LandmarkPurpose {
    /// To be kept: few.
    Index,
    /// To look for: more than are kept, since it cannot be known which of them are.
    Query,
}

/// Maker of landmarks.
pub trait LandmarkExtractor: Send {
    /// Returns its name and version, which an index keeps.
    fn name(&self) -> &'static str;

    /// Appends the landmarks of samples in the form of [`SOUND`], ordered by time; none for less than two seconds.
    fn extract(&mut self, samples: &[f32], landmarks: &mut Vec<Landmark>);
}

/// Extractor over the crate `audiofp`.
pub struct WangExtractor(Wang);

impl WangExtractor {
    /// Creates an extractor.
    pub fn new(purpose: LandmarkPurpose) -> Self {
        let (peaks_per_sec, fan_out) = match purpose {
            LandmarkPurpose::Index => (30, 5),
            LandmarkPurpose::Query => (40, 10),
        };
        Self(Wang::new(WangConfig {
            fan_out,
            target_zone_t: ZONE_FRAMES,
            target_zone_f: ZONE_BINS,
            peaks_per_sec,
            // Pieces are short.
            max_input_samples: None,
            max_hashes: None,
            ..WangConfig::default()
        }))
    }
}

impl LandmarkExtractor for WangExtractor {
    fn name(&self) -> &'static str {
        "wang-v1/30/5"
    }

    fn extract(&mut self, samples: &[f32], landmarks: &mut Vec<Landmark>) {
        // Too short, or not finite, which the decoder has mended: no landmarks.
        let Ok(found) = self.0.extract(samples, SampleRate::HZ_8000) else { return };
        let pairs = found.hashes.iter();
        landmarks.extend(pairs.filter_map(|pair| Some(Landmark { code: code(pair.hash)?, frame: pair.t_anchor })));
    }
}

/// Returns the code of a hash of `audiofp`, without the bits that are always the same; `None` outside of the zone.
fn code(hash: u32) -> Option<u32> {
    let (from, to, distance) = (hash >> 23, hash >> 14 & 0x1ff, hash & 0x3fff);
    let bins = (to + u32::from(ZONE_BINS)).checked_sub(from).filter(|bins| *bins <= 2 * u32::from(ZONE_BINS))?;
    let is_inside = (1..=u32::from(ZONE_FRAMES)).contains(&distance);
    is_inside.then_some(from << 14 | bins << 6 | distance)
}

/// Landmarks of a sound of any length, in the memory of a piece.
pub struct LandmarkStream<'a> {
    extractor: &'a mut dyn LandmarkExtractor,
    samples: Vec<f32>,
    /// Frame at which the samples begin.
    start: usize,
    /// Frame from which on landmarks are still to be made.
    done: usize,
    landmarks: Vec<Landmark>,
}

impl<'a> LandmarkStream<'a> {
    /// Creates a stream.
    pub fn new(extractor: &'a mut dyn LandmarkExtractor) -> Self {
        Self { extractor, samples: Vec::new(), start: 0, done: 0, landmarks: Vec::new() }
    }

    /// Returns where samples in the form of [`SOUND`] are appended; [`LandmarkStream::advance`] takes them.
    pub fn samples(&mut self) -> &mut Vec<f32> {
        &mut self.samples
    }

    /// Returns the frames that were taken or wait.
    pub fn frames(&self) -> usize {
        self.start + self.samples.len() / FRAME_SAMPLES
    }

    /// Makes the landmarks of whole pieces.
    pub fn advance(&mut self) {
        while self.frames() >= self.done + PIECE_FRAMES + 2 * MARGIN_FRAMES {
            let end = self.done + PIECE_FRAMES;
            self.make(end);
            // The next piece wants the margin before it.
            let from = end - MARGIN_FRAMES;
            self.samples.drain(..(from - self.start) * FRAME_SAMPLES);
            (self.start, self.done) = (from, end);
        }
    }

    /// Makes the rest; returns all landmarks, ordered by time, and the number of frames.
    pub fn finish(mut self) -> (Vec<Landmark>, usize) {
        self.advance();
        let frames = self.frames();
        self.make(usize::MAX);
        (self.landmarks, frames)
    }

    fn make(&mut self, end: usize) {
        let wanted = end.saturating_add(2 * MARGIN_FRAMES).saturating_sub(self.start);
        let length = wanted.saturating_mul(FRAME_SAMPLES).min(self.samples.len());
        let mut made = Vec::new();
        self.extractor.extract(&self.samples[..length], &mut made);
        let start = u32::try_from(self.start).unwrap_or(u32::MAX);
        let own = self.done..end;
        let placed = made.into_iter().map(|made| Landmark { frame: made.frame.saturating_add(start), ..made });
        self.landmarks.extend(placed.filter(|made| own.contains(&(made.frame as usize))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sound of seconds in which three tones move, with some noise: the same for the same seed.
    fn sound(seed: u32, seconds: usize) -> Vec<f32> {
        let mut state = seed;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24)
        };
        let mut samples = Vec::new();
        for _ in 0..seconds * 4 {
            let tones = [random(), random(), random()].map(|share| 200.0 + 3_000.0 * share);
            samples.extend((0..2_000).map(|at| {
                let time = f64::from(at) / 8_000.0;
                let tone: f64 = tones.iter().map(|tone| (std::f64::consts::TAU * tone * time).sin()).sum();
                (tone * (-4.0 * time).exp() * 0.3 + (random() - 0.5) * 0.02) as f32
            }));
        }
        samples
    }

    fn landmarks(samples: &[f32], purpose: LandmarkPurpose) -> (Vec<Landmark>, usize) {
        let mut extractor = WangExtractor::new(purpose);
        let mut stream = LandmarkStream::new(&mut extractor);
        for block in samples.chunks(1_000) {
            stream.samples().extend_from_slice(block);
            stream.advance();
        }
        stream.finish()
    }

    /// Digest of landmarks, FNV-1a: the codes and frames of an index that is on a disk.
    fn digest(landmarks: &[Landmark]) -> u64 {
        let bytes = landmarks.iter().flat_map(|mark| [mark.code, mark.frame]).flat_map(u32::to_le_bytes);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// If this fails, the extractor makes other landmarks than those that are on disks: give it another name, so that indexes are made anew.
    #[test]
    fn one_sound_has_the_landmarks_that_it_had() {
        let (made, frames) = landmarks(&sound(7, 20), LandmarkPurpose::Index);
        assert_eq!(frames, 1250);
        assert_eq!((made.len(), digest(&made)), (GOLDEN_COUNT, GOLDEN_DIGEST));
    }

    const GOLDEN_COUNT: usize = 721;
    const GOLDEN_DIGEST: u64 = 1_379_668_736_822_614_583;

    #[test]
    fn a_long_sound_has_the_landmarks_of_its_parts() {
        let samples = sound(3, 150);
        let (made, frames) = landmarks(&samples, LandmarkPurpose::Index);
        assert_eq!(frames, 150 * 125 / 2);
        assert!(made.is_sorted_by_key(|mark| mark.frame));
        let mut whole = Vec::new();
        WangExtractor::new(LandmarkPurpose::Index).extract(&samples, &mut whole);
        let same = whole
            .iter()
            .filter(|mark| made.binary_search_by_key(&(mark.frame, mark.code), |mark| (mark.frame, mark.code)).is_ok());
        let same = same.count();
        assert!(same * 100 >= whole.len() * 97, "{same} of {}", whole.len());
        assert!(made.len().abs_diff(whole.len()) * 100 <= whole.len());
    }

    #[test]
    fn a_question_has_the_landmarks_that_are_kept() {
        let samples = sound(5, 30);
        let (kept, _) = landmarks(&samples, LandmarkPurpose::Index);
        let (asked, _) = landmarks(&samples, LandmarkPurpose::Query);
        let found = kept.iter().filter(|mark| asked.contains(mark)).count();
        assert!(asked.len() > kept.len() && found * 100 >= kept.len() * 95, "{found} of {}", kept.len());
    }

    #[test]
    fn codes_have_their_bits_and_no_others() {
        let hash = |from: u32, to: u32, distance: u32| from << 23 | to << 14 | distance;
        assert_eq!(code(hash(100, 120, 5)), Some(100 << 14 | 84 << 6 | 5));
        assert_eq!(code(hash(511, 511, 63)).map(|code| code >> CODE_BITS), Some(0));
        assert_eq!(code(hash(0, 64, 1)), Some(128 << 6 | 1));
        for (from, to, distance) in [(100, 165, 5), (100, 35, 5), (100, 100, 0), (100, 100, 64)] {
            assert_eq!(code(hash(from, to, distance)), None);
        }
    }
}
