//! Opus in Ogg (RFC 7845): packets to stereo at 48 kHz, without the frames before the beginning and after the end, at the level that the
//! head says.

use opusic_c::{Channels, Decoder, SampleRate};
use symphonia::core::packet::Packet;

use crate::decoder::DecodeError;
use crate::packet_decoder::{DecodedFormat, PacketFault};

/// Sample rate and channels of what is decoded.
const SAMPLE_RATE: u32 = 48_000;
const CHANNELS: usize = 2;

/// Frames of the longest packet: 120 ms (RFC 6716 §3.2.5).
const MAX_PACKET_FRAMES: usize = 5760;
/// Bytes of the identification header without a mapping table (RFC 7845 §5.1).
const HEAD_BYTES: usize = 19;
/// Mapping family of mono and stereo (RFC 7845 §5.1.1.1).
const MONO_OR_STEREO: u8 = 0;

/// Decoder of one track.
pub struct OpusTrackDecoder {
    opus: Decoder,
    /// Frames at the beginning that are still to be left out.
    skip: usize,
    gain: f32,
}

impl OpusTrackDecoder {
    /// Creates a decoder for a track with this identification header.
    pub fn new(head: &[u8]) -> Result<Self, DecodeError> {
        let format = |what: &str| DecodeError::Format(what.to_owned());
        let head = head.first_chunk::<HEAD_BYTES>().filter(|head| head.starts_with(b"OpusHead"));
        let head = head.ok_or_else(|| format("its Opus header is none"))?;
        if head[18] != MONO_OR_STEREO || !matches!(head[9], 1 | 2) {
            return Err(format("Opus of more than two channels"));
        }
        // Mono is decoded as stereo, too.
        let opus = Decoder::new(Channels::Stereo, SampleRate::Hz48000).map_err(|_| format("libopus does not start"))?;
        let skip = usize::from(u16::from_le_bytes([head[10], head[11]]));
        let decibels = f32::from(i16::from_le_bytes([head[16], head[17]])) / 256.0;
        Ok(Self { opus, skip, gain: 10_f32.powf(decibels / 20.0) })
    }

    /// Decodes a packet into `samples`.
    pub fn decode(&mut self, packet: &Packet, samples: &mut Vec<f32>) -> Result<DecodedFormat, PacketFault> {
        samples.clear();
        samples.resize(CHANNELS * MAX_PACKET_FRAMES, 0.0);
        let frames = self.opus.decode_float_to_slice(&packet.data, samples, false);
        let frames = frames.map_err(|_| PacketFault::Packet("a packet of Opus is damaged".to_owned()))?;
        // What the container counts beyond the end; the beginning is counted here, since it may be longer than a packet.
        let end = frames.saturating_sub(usize::try_from(packet.trim_end.get()).unwrap_or(usize::MAX));
        let begin = self.skip.min(end);
        self.skip -= self.skip.min(frames);
        samples.truncate(CHANNELS * end);
        samples.drain(..CHANNELS * begin);
        samples.iter_mut().for_each(|sample| *sample *= self.gain);
        Ok(DecodedFormat { rate: SAMPLE_RATE, channels: CHANNELS })
    }
}

#[cfg(test)]
mod tests {
    use opusic_c::{Application, Encoder};
    use symphonia::core::units::{Duration, Timestamp};

    use super::*;
    use crate::decoder::TrackDecoder;
    use crate::{ChannelLayout, SoundForm};

    /// Frames that an encoder is behind.
    const PRE_SKIP: u16 = 312;

    fn head(channels: u8, family: u8, gain: i16) -> Vec<u8> {
        let mut head = b"OpusHead\x01".to_vec();
        head.push(channels);
        head.extend(PRE_SKIP.to_le_bytes());
        head.extend(48_000_u32.to_le_bytes());
        head.extend(gain.to_le_bytes());
        head.push(family);
        head
    }

    /// A file of a tone of 500 Hz at half of full scale, of so many frames.
    fn file(frames: usize, gain: i16) -> Vec<u8> {
        let mut encoder =
            Encoder::new(Channels::Stereo, SampleRate::Hz48000, Application::Audio).expect("libopus starts");
        let sample = |at: usize| 0.5 * (std::f32::consts::TAU * 500.0 * at as f32 / 48_000.0).sin();
        let packets = (frames + usize::from(PRE_SKIP)).div_ceil(960);
        let mut bytes = Vec::new();
        let mut writer = ogg::PacketWriter::new(&mut bytes);
        let tags = b"OpusTags\x04\0\0\0test\0\0\0\0".to_vec();
        for part in [head(2, 0, gain), tags] {
            writer.write_packet(part, 7, ogg::PacketWriteEndInfo::EndPage, 0).expect("it is written");
        }
        for number in 0..packets {
            let block: Vec<f32> = (0..960).flat_map(|at| [sample(number * 960 + at); 2]).collect();
            let mut packet = vec![0; 4000];
            let length = encoder.encode_float_to_slice(&block, &mut packet).expect("it is encoded");
            packet.truncate(length);
            let is_last = number + 1 == packets;
            let end = match is_last {
                true => ogg::PacketWriteEndInfo::EndStream,
                false if number % 10 == 9 => ogg::PacketWriteEndInfo::EndPage,
                false => ogg::PacketWriteEndInfo::NormalPacket,
            };
            let position = ((number + 1) * 960).min(frames + usize::from(PRE_SKIP));
            writer.write_packet(packet, 7, end, position as u64).expect("it is written");
        }
        bytes
    }

    fn level(samples: &[f32]) -> f32 {
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        (middle.iter().map(|sample| sample * sample).sum::<f32>() / middle.len() as f32).sqrt()
    }

    /// The samples of a file, and the length that its head says.
    fn decoded(bytes: Vec<u8>, extension: &str) -> (Vec<f32>, Option<std::time::Duration>) {
        let form = SoundForm { rate: SAMPLE_RATE, layout: ChannelLayout::Stereo };
        let file = Box::new(std::io::Cursor::new(bytes));
        let mut decoder = TrackDecoder::open(file, Some(extension), form).expect("it is a track");
        let mut samples = Vec::new();
        while decoder.read(&mut samples).expect("it is decoded") {}
        (samples, decoder.length())
    }

    #[test]
    fn a_track_of_opus_has_its_frames_and_the_level_that_its_head_says() {
        let frames = 100_003;
        let (samples, length) = decoded(file(frames, 0), "opus");
        assert_eq!(samples.len(), CHANNELS * frames);
        assert_eq!(length.map(|length| length.as_millis()), Some(2083));
        assert!((level(&samples) - 0.5 / 2_f32.sqrt()).abs() < 0.02, "{}", level(&samples));
        let (softer, _) = decoded(file(frames, -6 * 256), "ogg");
        assert!((level(&softer) / level(&samples) - 0.501).abs() < 0.01, "six decibels less");
    }

    #[test]
    fn a_head_that_is_none_or_of_many_channels_is_refused() {
        assert!(OpusTrackDecoder::new(&head(1, 0, 0)).is_ok());
        for bad in [head(6, 1, 0), head(3, 0, 0), head(0, 0, 0), b"OpusHead".to_vec(), Vec::new(), vec![0; 40]] {
            assert!(matches!(OpusTrackDecoder::new(&bad), Err(DecodeError::Format(_))), "{bad:?}");
        }
    }

    #[test]
    fn packets_that_are_none_do_no_harm() {
        let mut decoder = OpusTrackDecoder::new(&head(2, 0, 0)).expect("a head");
        let mut samples = Vec::new();
        for bytes in [vec![], vec![0xff; 3], vec![0x03], vec![0xfc; 70_000], vec![0x1b, 0xff]] {
            let packet = Packet::new(0, Timestamp::ZERO, Duration::ZERO, bytes);
            if let Ok(format) = decoder.decode(&packet, &mut samples) {
                assert_eq!(format.channels, CHANNELS);
                assert!(samples.len() <= CHANNELS * MAX_PACKET_FRAMES);
            }
        }
    }
}
