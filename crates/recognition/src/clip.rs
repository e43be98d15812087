//! Clips that users send: told by their content, and decoded within bounds of length and time.

use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;

use crate::landmarks::{FRAME_SAMPLES, Landmark, LandmarkPurpose, LandmarkStream, SOUND, WangExtractor};
use primitives::clock::monotonic_now;
use track_audio::decoder::{DecodeError, TrackDecoder};

/// Time for which a clip is decoded at most. A minute of music takes a tenth of a second.
const MAX_DECODE_TIME: Duration = Duration::from_secs(5);
/// Frames below which there is too little to tell tracks apart: two seconds.
const MIN_FRAMES: usize = 2 * SOUND.rate as usize / FRAME_SAMPLES;

/// Format of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipFormat {
    /// MPEG audio, layer II or III.
    Mp3,
    /// WAVE.
    Wave,
    /// Ogg.
    Ogg,
    /// MPEG-4.
    M4a,
}

/// Reason for which a clip has no landmarks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// Its sound cannot be decoded.
    #[error("the file cannot be decoded: {0}")]
    Undecodable(DecodeError),
    /// It has less than two seconds of sound.
    #[error("the file has less than two seconds of sound")]
    TooShort,
    /// Decoding it takes too long.
    #[error("decoding the file takes too long")]
    TooSlow,
}

impl ClipFormat {
    /// Tells the format by the first bytes; `None` for others.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"OggS") {
            return Some(Self::Ogg);
        }
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") {
            return Some(Self::Wave);
        }
        if bytes.get(4..8) == Some(b"ftyp") {
            return Some(Self::M4a);
        }
        (bytes.starts_with(b"ID3") || is_mpeg_audio(bytes)).then_some(Self::Mp3)
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Mp3 => "mp3",
            Self::Wave => "wav",
            Self::Ogg => "ogg",
            Self::M4a => "m4a",
        }
    }
}

/// Returns true for the head of a frame (ISO/IEC 11172-3, 2.4.1.3) of layer II or III: a byte order mark of UTF-16 looks like one
/// of layer I.
fn is_mpeg_audio(bytes: &[u8]) -> bool {
    let [first, second, third, ..] = *bytes else { return false };
    let (version, layer, bit_rate, sample_rate) = (second >> 3 & 3, second >> 1 & 3, third >> 4, third >> 2 & 3);
    first == 0xff && second >> 5 == 7 && version != 1 && matches!(layer, 1 | 2) && bit_rate != 15 && sample_rate != 3
}

/// Returns the landmarks of the beginning of a clip, at most `length` of it. It blocks.
pub fn landmarks(bytes: Bytes, format: ClipFormat, length: Duration) -> Result<Vec<Landmark>, ClipError> {
    let began = monotonic_now();
    let mut decoder = TrackDecoder::open(Box::new(Cursor::new(bytes)), Some(format.extension()), SOUND)
        .map_err(ClipError::Undecodable)?;
    let most = usize::try_from(u128::from(SOUND.rate) * length.as_millis() / 1000).unwrap_or(usize::MAX);
    let mut samples = Vec::new();
    while samples.len() < most {
        match decoder.read(&mut samples) {
            Ok(true) => {}
            Ok(false) => break,
            // A clip that was cut off has what comes before.
            Err(_) if samples.len() >= MIN_FRAMES * FRAME_SAMPLES => break,
            Err(error) => return Err(ClipError::Undecodable(error)),
        }
        if monotonic_now() - began > MAX_DECODE_TIME {
            return Err(ClipError::TooSlow);
        }
    }
    samples.truncate(most);
    if samples.len() < MIN_FRAMES * FRAME_SAMPLES {
        return Err(ClipError::TooShort);
    }
    let mut extractor = WangExtractor::new(LandmarkPurpose::Query);
    let mut stream = LandmarkStream::new(&mut extractor);
    *stream.samples() = samples;
    Ok(stream.finish().0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_are_told_by_content_alone() {
        let table: &[(&[u8], Option<ClipFormat>)] = &[
            (b"OggS\0\x02", Some(ClipFormat::Ogg)),
            (b"RIFF\x24\x08\0\0WAVEfmt ", Some(ClipFormat::Wave)),
            (b"RIFF\x24\x08\0\0AVI LIST", None),
            (b"\0\0\0\x20ftypM4A \0\0", Some(ClipFormat::M4a)),
            (b"ID3\x04\0\0\0\0", Some(ClipFormat::Mp3)),
            (b"\xff\xfb\x90\x64", Some(ClipFormat::Mp3)),
            (b"\xff\xf3\x40\xc0", Some(ClipFormat::Mp3)),
            // ADTS, a byte order mark, impossible rates.
            (b"\xff\xf1\x50\x80", None),
            (b"\xff\xfeh\0i\0", None),
            (b"\xff\xfb\xf0\x64", None),
            (b"\xff\xfb\x9c\x64", None),
            (b"fLaC\0\0\0\x22", None),
            (b"a text", None),
            (b"", None),
        ];
        for (bytes, format) in table {
            assert_eq!(ClipFormat::of(bytes), *format, "{bytes:?}");
        }
    }

    /// WAVE of 16-bit mono at 8 kHz.
    fn wave(samples: impl ExactSizeIterator<Item = i16>) -> Vec<u8> {
        let data = u32::try_from(samples.len() * 2).expect("a size");
        let mut file = b"RIFF".to_vec();
        file.extend((36 + data).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        file.extend(8_000_u32.to_le_bytes());
        file.extend(16_000_u32.to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend(data.to_le_bytes());
        file.extend(samples.flat_map(i16::to_le_bytes));
        file
    }

    #[test]
    fn a_clip_is_at_least_two_seconds_and_is_read_no_further_than_the_limit() {
        let noise = |seconds: u32| {
            let mut state = 1_u32;
            let bytes = wave((0..seconds as usize * 8_000).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 18) as i16
            }));
            landmarks(bytes.into(), ClipFormat::Wave, Duration::from_secs(10))
        };
        assert_eq!(noise(1), Err(ClipError::TooShort));
        let (short, long) = (noise(9).expect("a clip"), noise(60).expect("a clip"));
        assert!(!short.is_empty());
        assert!(long.iter().all(|mark| mark.frame < 10 * 8_000 / 128), "read beyond ten seconds");
    }

    #[test]
    fn silence_has_no_landmarks() {
        let bytes = wave((0..40_000).map(|_| 0));
        assert_eq!(landmarks(bytes.into(), ClipFormat::Wave, Duration::from_secs(10)), Ok(Vec::new()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn nothing_that_is_sent_panics(
            begin in prop::sample::select(vec![&b"ID3\x04\0\0\0\0\x7f\x7f"[..], b"RIFF\0\x10\0\0WAVEfmt ", b"OggS\0\x02",
                b"\xff\xfb\x90\x64", b"\0\0\0\x18ftypM4A \0\0\0\0moov", b"\0\0\0\x18ftypM4A \0\0\x10\0moov"]),
            rest in prop::collection::vec(any::<u8>(), 0..4000),
        ) {
            let bytes = [begin, rest.as_slice()].concat();
            let format = ClipFormat::of(&bytes);
            prop_assert!(format.is_some());
            if let Some(format) = format {
                let _ = landmarks(bytes.into(), format, Duration::from_secs(10));
            }
        }
    }
}
