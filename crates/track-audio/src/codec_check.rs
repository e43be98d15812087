//! Judgement of what a file says of its sound, before a decoder is made by it, pure: a few bytes may ask for gigabytes.

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_VORBIS;

use crate::decoder::DecodeError;

/// Sign at which a codebook of Vorbis begins, at any bit.
const CODEBOOK_SYNC: u64 = 0x56_4342;
/// Bits of that sign, of the dimensions, and of the entries, which follow each other.
const SYNC_BITS: u32 = 24;
const DIMENSIONS_BITS: u32 = 16;
const ENTRIES_BITS: u32 = 24;
/// Largest codebook that the decoder takes; it refuses a file with a larger one by itself.
const MAX_DIMENSIONS: u64 = 32;
const MAX_ENTRIES: u64 = 128 << 10;
/// Numbers that an entry takes besides its vector: its codeword, and its share of the tables that it is found by.
const NUMBERS_PER_ENTRY: u64 = 32;
/// Most numbers of all codebooks of a file, of four bytes each. Files of the reference encoder have about a million.
const MAX_NUMBERS: u64 = 4 << 20;
/// Longest setup of a codec, in bytes.
const MAX_SETUP_BYTES: usize = 1 << 20;

/// Returns parameters by which a decoder takes no more memory than a track may; refuses those by which it would.
pub fn bounded_parameters(parameters: &AudioCodecParameters) -> Result<AudioCodecParameters, DecodeError> {
    let setup = parameters.extra_data.as_deref().unwrap_or_default();
    let is_large = parameters.codec == CODEC_ID_VORBIS && codebook_numbers(setup) > MAX_NUMBERS;
    if setup.len() > MAX_SETUP_BYTES || is_large {
        return Err(DecodeError::Damaged("the setup of its codec is too large".to_owned()));
    }
    // Only room that is made ahead follows from it; without it a decoder makes room by the packets there are.
    Ok(AudioCodecParameters { max_frames_per_packet: None, ..parameters.clone() })
}

/// Returns at least the numbers that the codebooks of a setup of Vorbis have. Whatever looks like the beginning of one counts,
/// wherever it stands: bytes that look so by chance are too rare to matter.
fn codebook_numbers(setup: &[u8]) -> u64 {
    let header_bits = SYNC_BITS + DIMENSIONS_BITS + ENTRIES_BITS;
    let field = |bits: u128, at: u32, length: u32| (bits >> at) as u64 & ((1 << length) - 1);
    // Bits are read from the lowest of each byte on. Behind the end stand zeros, with which no codebook begins.
    let byte = |at: usize| u128::from(setup.get(at).copied().unwrap_or_default());
    let mut numbers = 0_u64;
    for start in 0..setup.len() {
        let window = (0..=header_bits as usize / 8).fold(0_u128, |window, at| window | (byte(start + at) << (8 * at)));
        for shift in 0..8 {
            if field(window, shift, SYNC_BITS) != CODEBOOK_SYNC {
                continue;
            }
            let dimensions = field(window, shift + SYNC_BITS, DIMENSIONS_BITS);
            let entries = field(window, shift + SYNC_BITS + DIMENSIONS_BITS, ENTRIES_BITS);
            if dimensions <= MAX_DIMENSIONS && entries <= MAX_ENTRIES {
                numbers = numbers.saturating_add(entries * (dimensions + NUMBERS_PER_ENTRY));
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use symphonia::core::codecs::audio::well_known::CODEC_ID_PCM_S16BE;

    use super::*;

    /// Setup with so many codebooks, each of them at another bit of a byte.
    fn setup(codebooks: usize, dimensions: u64, entries: u64) -> Vec<u8> {
        let mut bits = Vec::new();
        for _ in 0..codebooks {
            for (value, length) in [(CODEBOOK_SYNC, 24), (dimensions, 16), (entries, 24), (0, 21)] {
                bits.extend((0..length).map(|at| (value >> at) & 1 == 1));
            }
        }
        let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | (u8::from(*bit) << at));
        [b"\x05vorbis\xff".to_vec(), bits.chunks(8).map(byte).collect()].concat()
    }

    fn judged(codec: AudioCodecParameters, setup: Vec<u8>) -> Result<AudioCodecParameters, DecodeError> {
        bounded_parameters(&AudioCodecParameters { extra_data: Some(setup.into()), ..codec })
    }

    #[test]
    fn codebooks_that_are_too_large_together_are_refused() {
        let vorbis = AudioCodecParameters { codec: CODEC_ID_VORBIS, ..Default::default() };
        for (codebooks, dimensions, entries, is_taken) in [
            (40, 4, 1000, true),
            (1, 8, 6561, true),
            (256, 32, 131_072, false),
            (2, 32, 131_072, false),
            (256, 1, 131_072, false),
            // The decoder refuses these before it makes room.
            (256, 33, 131_072, true),
            (256, 32, 131_073, true),
        ] {
            let taken = judged(vorbis.clone(), setup(codebooks, dimensions, entries)).is_ok();
            assert_eq!(taken, is_taken, "{codebooks} of {entries} with {dimensions}");
        }
        assert_eq!(codebook_numbers(&setup(3, 5, 100)), 3 * 100 * 37);
    }

    #[test]
    fn no_room_is_made_ahead_and_no_setup_is_of_any_length() {
        let pcm = AudioCodecParameters {
            codec: CODEC_ID_PCM_S16BE,
            max_frames_per_packet: Some(u64::from(u32::MAX)),
            ..Default::default()
        };
        let taken = judged(pcm.clone(), vec![0; 100]).expect("nothing is wrong with it");
        assert_eq!(taken.max_frames_per_packet, None);
        assert!(judged(pcm, vec![0; MAX_SETUP_BYTES + 1]).is_err());
    }
}
