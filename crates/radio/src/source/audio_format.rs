//! Formats of sound, found out from the first bytes of a stream: what a server says in `Content-Type` is often wrong, and
//! never passed on to a browser. Pure.

/// Codec of a stream, with its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioCodec {
    /// MPEG audio, layer I to III.
    Mp3,
    /// AAC in ADTS frames.
    Aac,
    /// Opus in Ogg.
    Opus,
    /// Vorbis in Ogg.
    Vorbis,
    /// FLAC in Ogg.
    Flac,
}

impl AudioCodec {
    const ALL: [Self; 5] = [Self::Mp3, Self::Aac, Self::Opus, Self::Vorbis, Self::Flac];

    /// Returns the name as the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mp3 => "mp3",
            Self::Aac => "aac",
            Self::Opus => "opus",
            Self::Vorbis => "vorbis",
            Self::Flac => "flac",
        }
    }

    /// Returns the codec of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Returns the media type that listeners get.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Aac => "audio/aac",
            Self::Opus | Self::Vorbis | Self::Flac => "audio/ogg",
        }
    }

    /// Returns true where the stream is made of Ogg pages (RFC 3533), whose header pages a listener needs first.
    pub fn is_ogg(self) -> bool {
        match self {
            Self::Mp3 | Self::Aac => false,
            Self::Opus | Self::Vorbis | Self::Flac => true,
        }
    }
}

/// Format of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// The codec.
    pub codec: AudioCodec,
    /// Bit rate in kbit/s, where the first frame says it.
    pub bitrate_kbps: Option<u32>,
}

/// Bytes within which two frames of MPEG audio or AAC follow each other.
pub const SNIFF_BYTES: usize = 16 * 1024;

/// Returns the format of a stream that begins with `bytes`, perhaps in the middle of a frame; `None` where it is none that
/// is known, or too few bytes are there.
pub fn detect_format(bytes: &[u8]) -> Option<AudioFormat> {
    if bytes.starts_with(b"OggS") {
        // The first page has the identification of its codec after a head of 27 bytes and one length.
        let codec = match bytes.get(28..)? {
            rest if rest.starts_with(b"OpusHead") => AudioCodec::Opus,
            rest if rest.starts_with(b"\x01vorbis") => AudioCodec::Vorbis,
            rest if rest.starts_with(b"\x7fFLAC") => AudioCodec::Flac,
            _ => return None,
        };
        return Some(AudioFormat { codec, bitrate_kbps: None });
    }
    let bytes = &bytes[..bytes.len().min(SNIFF_BYTES)];
    (0..bytes.len())
        .find_map(|at| {
            frame_at(&bytes[at..]).filter(|(format, length)| {
                // A pattern of twelve bits stands anywhere by chance: two more frames of the format must follow.
                let second = frame_at(bytes.get(at + length..).unwrap_or_default());
                second.is_some_and(|(second, further)| {
                    let third = frame_at(bytes.get(at + length + further..).unwrap_or_default());
                    second.codec == format.codec && third.is_some_and(|(third, _)| third.codec == format.codec)
                })
            })
        })
        .map(|(format, _)| format)
}

/// Returns true where a frame of MPEG audio or AAC begins here.
pub fn begins_with_frame(bytes: &[u8]) -> bool {
    frame_at(bytes).is_some()
}

/// Returns the format and the length of a frame that begins here.
fn frame_at(bytes: &[u8]) -> Option<(AudioFormat, usize)> {
    let head: &[u8; 6] = bytes.first_chunk()?;
    if head[0] != 0xFF || head[1] & 0xE0 != 0xE0 {
        return None;
    }
    // ADTS has layer 0 (ISO/IEC 13818-7 §6.2), which MPEG audio reserves.
    if head[1] & 0xF6 == 0xF0 { adts_frame(head) } else { mpeg_frame(head) }
}

fn adts_frame(head: &[u8; 6]) -> Option<(AudioFormat, usize)> {
    if (head[2] >> 2) & 0x0F > 12 {
        return None;
    }
    let length = usize::from(head[3] & 0x03) << 11 | usize::from(head[4]) << 3 | usize::from(head[5] >> 5);
    (length > 7).then_some((AudioFormat { codec: AudioCodec::Aac, bitrate_kbps: None }, length))
}

/// Bit rates in kbit/s of layer III, MPEG-1 and MPEG-2 (ISO/IEC 11172-3 §2.4.2.3, 13818-3).
const LAYER3_V1: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const LAYER3_V2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const LAYER2_V1: [u32; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];

fn mpeg_frame(head: &[u8; 6]) -> Option<(AudioFormat, usize)> {
    let (version, layer) = ((head[1] >> 3) & 3, (head[1] >> 1) & 3);
    let (is_v1, is_v25) = (version == 3, version == 0);
    // Version 1 is reserved; layer 0 too, and layer I (3) is not broadcast.
    if version == 1 || !matches!(layer, 1 | 2) {
        return None;
    }
    let table = match (is_v1, layer) {
        (true, 2) => LAYER2_V1,
        (true, _) => LAYER3_V1,
        (false, _) => LAYER3_V2,
    };
    let kbps = *table.get(usize::from(head[2] >> 4)).filter(|kbps| **kbps > 0)?;
    let rate = *[44_100_usize, 48_000, 32_000].get(usize::from((head[2] >> 2) & 3))?;
    let rate = match (is_v1, is_v25) {
        (true, _) => rate,
        (_, true) => rate / 4,
        (..) => rate / 2,
    };
    let samples_over_8 = if !is_v1 && layer == 1 { 72 } else { 144 };
    let length = samples_over_8 * kbps as usize * 1000 / rate + usize::from((head[2] >> 1) & 1);
    Some((AudioFormat { codec: AudioCodec::Mp3, bitrate_kbps: Some(kbps) }, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mp3(frames: usize) -> Vec<u8> {
        // MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes.
        let mut frame = vec![0xFF, 0xFB, 0x90, 0x00];
        frame.resize(417, 0x55);
        frame.repeat(frames)
    }

    fn adts(frames: usize) -> Vec<u8> {
        let length = 200_usize;
        let mut frame =
            vec![0xFF, 0xF1, 0x50, 0x80 | (length >> 11) as u8, (length >> 3) as u8, ((length & 7) << 5) as u8, 0];
        frame.resize(length, 0x11);
        frame.repeat(frames)
    }

    #[test]
    fn frames_are_found_in_the_middle_of_a_stream() {
        let found = detect_format(&mp3(5)[100..]).expect("MP3");
        assert_eq!((found.codec, found.bitrate_kbps), (AudioCodec::Mp3, Some(128)));
        assert_eq!(detect_format(&adts(5)[33..]).expect("AAC").codec, AudioCodec::Aac);
        let mut page = b"OggS\0\x02".to_vec();
        page.resize(28, 0);
        page.extend(b"OpusHead");
        assert_eq!(detect_format(&page).expect("Opus").codec, AudioCodec::Opus);
    }

    #[test]
    fn what_is_no_sound_is_none() {
        let noise: Vec<u8> = (0..20_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for bytes in [&b"<!DOCTYPE html><html>"[..], b"", &noise, &mp3(1), b"OggS", &[0xFF; 5000]] {
            assert_eq!(detect_format(bytes), None);
        }
    }
}
