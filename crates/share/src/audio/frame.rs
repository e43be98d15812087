//! The binary frame of pushed audio, in both directions. Big endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | type: 1, audio |
//! | 1 | flags: bit 0 discontinuity, bit 1 last of its epoch, bit 4 floats instead of Opus |
//! | 2 | number of packets |
//! | 4 | sequence number of the first packet |
//! | 8 | server time of the first packet, microseconds since the Unix epoch, signed |
//! | 4 | sample time: frames since the epoch began, wrapping |
//! | 2 × packets | length of each packet |
//! | … | the packets |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

use primitives::unix_time::UnixMicros;

/// Bytes before the lengths.
const HEADER_BYTES: usize = 20;
const AUDIO: u8 = 1;
const DISCONTINUITY: u8 = 1;
const LAST: u8 = 1 << 1;
const FLOATS: u8 = 1 << 4;
/// Longest packet.
pub const MAX_PACKET_BYTES: usize = u16::MAX as usize;

/// Codec of pushed audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Opus (RFC 6716), 48 kHz.
    Opus,
    /// 32-bit floats, little-endian, interleaved.
    F32,
}

/// Header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Codec of the packets.
    pub codec: Codec,
    /// True where the first packet does not follow the one that was sent before.
    pub discontinuity: bool,
    /// True where the epoch ends with this frame.
    pub ends_epoch: bool,
    /// Sequence number of the first packet.
    pub sequence: u32,
    /// Server time of the first packet.
    pub server_time: UnixMicros,
    /// Sample frames since the epoch began, wrapping.
    pub sample_time: u32,
}

/// Error in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes are not a frame.
    #[error("not a frame: a head of 20 bytes, the packets' lengths, the packets")]
    Shape,
    /// A packet is not Opus.
    #[error("a packet is not Opus")]
    Packet,
}

/// Writes a frame of at most 65,535 packets of at most [`MAX_PACKET_BYTES`].
pub fn encode<'a>(head: &FrameHeader, packets: impl ExactSizeIterator<Item = &'a Bytes> + Clone) -> Bytes {
    let size: usize = packets.clone().map(|packet| packet.len() + 2).sum();
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + size);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    frame.put_u8(AUDIO);
    frame.put_u8(
        flag(head.discontinuity, DISCONTINUITY) | flag(head.ends_epoch, LAST) | flag(head.codec == Codec::F32, FLOATS),
    );
    frame.put_u16(u16::try_from(packets.len()).unwrap_or(u16::MAX));
    frame.put_u32(head.sequence);
    frame.put_i64(head.server_time.as_micros());
    frame.put_u32(head.sample_time);
    let packets = packets.take(usize::from(u16::MAX));
    packets.clone().for_each(|packet| frame.put_u16(u16::try_from(packet.len()).unwrap_or(u16::MAX)));
    packets.for_each(|packet| frame.put_slice(&packet[..packet.len().min(MAX_PACKET_BYTES)]));
    frame.freeze()
}

/// Reads a frame; the packets share its memory. Fails where lengths and bytes do not agree.
pub fn decode(mut frame: Bytes) -> Result<(FrameHeader, Vec<Bytes>), FrameError> {
    // Network input: every length is compared before it is used.
    if frame.len() < HEADER_BYTES || frame.get_u8() != AUDIO {
        return Err(FrameError::Shape);
    }
    let flags = frame.get_u8();
    let count = usize::from(frame.get_u16());
    let codec = if flags & FLOATS == 0 { Codec::Opus } else { Codec::F32 };
    let (discontinuity, last) = (flags & DISCONTINUITY != 0, flags & LAST != 0);
    let head = FrameHeader {
        codec,
        discontinuity,
        ends_epoch: last,
        sequence: frame.get_u32(),
        server_time: UnixMicros::new(frame.get_i64()),
        sample_time: frame.get_u32(),
    };
    if frame.len() < 2 * count {
        return Err(FrameError::Shape);
    }
    let mut lengths = frame.split_to(2 * count);
    let mut packets = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::from(lengths.get_u16());
        if frame.len() < length {
            return Err(FrameError::Shape);
        }
        packets.push(frame.split_to(length));
    }
    if frame.is_empty() { Ok((head, packets)) } else { Err(FrameError::Shape) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_looks_as_it_is_described() {
        let head = FrameHeader {
            codec: Codec::F32,
            discontinuity: true,
            ends_epoch: false,
            sequence: 7,
            server_time: UnixMicros::new(1_000_000),
            sample_time: 960,
        };
        let packets = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        let expected = [
            &[1, 0x11, 0, 2][..],
            &[0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0x0f, 0x42, 0x40],
            &[0, 0, 3, 0xc0],
            &[0, 2, 0, 1],
            b"abc",
        ];
        assert_eq!(encode(&head, packets.iter()), expected.concat());
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        let head = FrameHeader {
            codec: Codec::Opus,
            discontinuity: false,
            ends_epoch: true,
            sequence: 0,
            server_time: UnixMicros::EPOCH,
            sample_time: 0,
        };
        let good = encode(&head, [Bytes::from_static(b"packet")].iter());
        for end in 0..good.len() {
            assert_eq!(decode(good.slice(..end)), Err(FrameError::Shape), "{end} bytes");
        }
        let mut long = good.to_vec();
        long.push(0);
        assert_eq!(decode(long.into()), Err(FrameError::Shape));
        let mut other = good.to_vec();
        other[0] = 2;
        assert_eq!(decode(other.into()), Err(FrameError::Shape));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            (discontinuity, ends_epoch, floats, sequence, server_time, sample_time) in any::<(bool, bool, bool, u32, i64, u32)>(),
        ) {
            let codec = if floats { Codec::F32 } else { Codec::Opus };
            let server_time = UnixMicros::new(server_time);
            let head = FrameHeader { codec, discontinuity, ends_epoch, sequence, server_time, sample_time };
            let packets: Vec<Bytes> = packets.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(decode(encode(&head, packets.iter())), Ok((head, packets)));
        }

        #[test]
        fn nothing_that_comes_in_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.into());
        }
    }
}
