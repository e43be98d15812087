//! WAVE with floats as they came, of a length that nobody knows, for debugging: IBM and Microsoft, "Multimedia Programming
//! Interface and Data Specifications 1.0", and Microsoft's `WAVE_FORMAT_IEEE_FLOAT`.

use super::packet_queue::AudioFormat;

/// Bytes of a sample.
const SAMPLE: u16 = 4;
/// Length of a stream that has no known end.
const ENDLESS: u32 = u32::MAX;
/// Format code of little-endian floats.
const IEEE_FLOAT: u16 = 3;

/// Returns the header before the samples.
pub fn wav_header(format: AudioFormat) -> Vec<u8> {
    let frame = format.channels * SAMPLE;
    let mut head = Vec::with_capacity(58);
    head.extend(b"RIFF");
    head.extend(ENDLESS.to_le_bytes());
    head.extend(b"WAVEfmt ");
    head.extend(18_u32.to_le_bytes());
    head.extend(IEEE_FLOAT.to_le_bytes());
    head.extend(format.channels.to_le_bytes());
    head.extend(format.sample_rate.to_le_bytes());
    head.extend((format.sample_rate * u32::from(frame)).to_le_bytes());
    head.extend(frame.to_le_bytes());
    head.extend((8 * SAMPLE).to_le_bytes());
    // No extension; formats other than PCM say how many frames there are.
    head.extend(0_u16.to_le_bytes());
    head.extend(b"fact");
    head.extend(4_u32.to_le_bytes());
    head.extend(ENDLESS.to_le_bytes());
    head.extend(b"data");
    head.extend(ENDLESS.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_says_what_the_samples_are() {
        let head = wav_header(AudioFormat { sample_rate: 44_100, channels: 2 });
        let expected = [
            &b"RIFF\xff\xff\xff\xffWAVEfmt \x12\0\0\0\x03\0\x02\0\x44\xac\0\0"[..],
            b"\x20\x62\x05\0\x08\0\x20\0\0\0fact\x04\0\0\0\xff\xff\xff\xffdata\xff\xff\xff\xff",
        ];
        assert_eq!(head, expected.concat());
    }
}
