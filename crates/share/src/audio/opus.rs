//! Frames of Opus as hosts send them (RFC 6716), checked before anything of them is kept.

use std::time::Duration;

use bytes::Bytes;

use super::chunk::play_duration;
use super::frame::{self, Codec, FrameError, FrameHeader};
use super::packet_queue::{AudioFormat, AudioPacket};
use primitives::unix_time::UnixMicros;

/// Format of all Opus: a decoder makes 48 kHz stereo of it, whatever the packets hold.
pub const OPUS_FORMAT: AudioFormat = AudioFormat { sample_rate: 48_000, channels: 2 };
/// Sample frames of the shortest Opus frame, and bytes of any (RFC 6716 §2.1.4 and §3.2.1).
const MIN_OPUS_FRAME: usize = 120;
const MAX_OPUS_FRAME_BYTES: usize = 1275;
/// Sample frames of the longest packet: 120 ms.
const MAX_PACKET_FRAMES: usize = 5760;

/// Reads a frame of Opus whose first packet came at `server_time`. Fails for floats and where a packet is not Opus.
pub fn decode_opus_frame(
    frame: Bytes,
    mut server_time: UnixMicros,
) -> Result<(FrameHeader, Vec<AudioPacket>), FrameError> {
    let (header, packets) = frame::decode(frame)?;
    if header.codec != Codec::Opus {
        return Err(FrameError::Packet);
    }
    let mut read = Vec::with_capacity(packets.len());
    for bytes in packets {
        let frames = opusic_c::utils::get_nb_samples(&bytes, opusic_c::SampleRate::Hz48000).ok();
        let frames = frames.filter(|frames| (MIN_OPUS_FRAME..=MAX_PACKET_FRAMES).contains(frames));
        let frames = frames.ok_or(FrameError::Packet)?;
        // Queues are bounded by how long their packets play: packets that are padded would have them grow beyond.
        let opus_frames = frames / MIN_OPUS_FRAME;
        if bytes.len() > opus_frames * MAX_OPUS_FRAME_BYTES + 2 * opus_frames {
            return Err(FrameError::Packet);
        }
        read.push(AudioPacket { bytes, frames: u32::try_from(frames).unwrap_or(0), server_time });
        server_time = server_time + play_duration(frames, OPUS_FORMAT.sample_rate);
    }
    Ok((header, read))
}

/// Returns how long `packets` play.
pub fn packets_duration(packets: &[AudioPacket]) -> Duration {
    packets.iter().map(|packet| play_duration(packet.frames as usize, OPUS_FORMAT.sample_rate)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(codec: Codec, packets: &[&[u8]]) -> Bytes {
        let header = FrameHeader {
            codec,
            discontinuity: false,
            ends_epoch: false,
            sequence: 0,
            server_time: UnixMicros::EPOCH,
            sample_time: 0,
        };
        let packets: Vec<Bytes> = packets.iter().map(|packet| Bytes::copy_from_slice(packet)).collect();
        frame::encode(&header, packets.iter())
    }

    #[test]
    fn packets_have_their_length_and_their_time() {
        // Table of RFC 6716 §3.1: configuration 31 is 20 ms of CELT; code 0 is one frame, code 1 two of equal size.
        let (_, packets) =
            decode_opus_frame(frame(Codec::Opus, &[&[0xfc, 1], &[0xfd, 1, 1]]), UnixMicros::new(7_000)).expect("Opus");
        let read: Vec<_> = packets.iter().map(|packet| (packet.frames, packet.server_time)).collect();
        assert_eq!(read, [(960, UnixMicros::new(7_000)), (1920, UnixMicros::new(27_000))]);
        assert_eq!(packets_duration(&packets), Duration::from_millis(60));
    }

    #[test]
    fn floats_and_packets_that_are_not_opus_are_refused() {
        let padded = [&[0xfc][..], &[0; 20_000]].concat();
        for (frame, what) in [
            (frame(Codec::F32, &[&[0xfc]]), "floats"),
            (frame(Codec::Opus, &[&[]]), "an empty packet"),
            (frame(Codec::Opus, &[&padded]), "more bytes than eight frames of 2.5 ms have"),
        ] {
            assert_eq!(decode_opus_frame(frame, UnixMicros::EPOCH).err(), Some(FrameError::Packet), "{what}");
        }
    }
}
