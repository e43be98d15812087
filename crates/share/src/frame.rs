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

/// Bytes before the lengths.
const HEAD: usize = 20;
const AUDIO: u8 = 1;
const DISCONTINUITY: u8 = 1;
const LAST: u8 = 1 << 1;
const FLOATS: u8 = 1 << 4;
/// Longest packet.
pub const MAX_PACKET: usize = u16::MAX as usize;

/// What packets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Opus (RFC 6716), 48 kHz.
    Opus,
    /// 32-bit floats, little-endian, interleaved.
    F32,
}

/// What a frame says of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What they hold.
    pub codec: Codec,
    /// Whether the first does not follow what was sent before.
    pub discontinuity: bool,
    /// Whether the epoch ends here.
    pub last: bool,
    /// The number of the first.
    pub sequence: u32,
    /// The server's time of the first, in microseconds since the Unix epoch.
    pub time: i64,
    /// Frames since the epoch began.
    pub sample: u32,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// It is not one.
    #[error("not a frame: a head of 20 bytes, the packets' lengths, the packets")]
    Shape,
    /// A packet is not Opus.
    #[error("a packet is not Opus")]
    Packet,
}

/// Writes a frame.
pub fn write<'a>(head: &Head, packets: impl ExactSizeIterator<Item = &'a Bytes> + Clone) -> Bytes {
    let size: usize = packets.clone().map(|packet| packet.len() + 2).sum();
    let mut frame = BytesMut::with_capacity(HEAD + size);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    frame.put_u8(AUDIO);
    frame.put_u8(
        flag(head.discontinuity, DISCONTINUITY) | flag(head.last, LAST) | flag(head.codec == Codec::F32, FLOATS),
    );
    frame.put_u16(u16::try_from(packets.len()).unwrap_or(u16::MAX));
    frame.put_u32(head.sequence);
    frame.put_i64(head.time);
    frame.put_u32(head.sample);
    let packets = packets.take(usize::from(u16::MAX));
    packets.clone().for_each(|packet| frame.put_u16(u16::try_from(packet.len()).unwrap_or(u16::MAX)));
    packets.for_each(|packet| frame.put_slice(&packet[..packet.len().min(MAX_PACKET)]));
    frame.freeze()
}

/// Reads a frame; the packets share its memory.
pub fn read(mut frame: Bytes) -> Result<(Head, Vec<Bytes>), BadFrame> {
    if frame.len() < HEAD || frame.get_u8() != AUDIO {
        return Err(BadFrame::Shape);
    }
    let flags = frame.get_u8();
    let count = usize::from(frame.get_u16());
    let codec = if flags & FLOATS == 0 { Codec::Opus } else { Codec::F32 };
    let (discontinuity, last) = (flags & DISCONTINUITY != 0, flags & LAST != 0);
    let head =
        Head { codec, discontinuity, last, sequence: frame.get_u32(), time: frame.get_i64(), sample: frame.get_u32() };
    if frame.len() < 2 * count {
        return Err(BadFrame::Shape);
    }
    let mut lengths = frame.split_to(2 * count);
    let mut packets = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::from(lengths.get_u16());
        if frame.len() < length {
            return Err(BadFrame::Shape);
        }
        packets.push(frame.split_to(length));
    }
    if frame.is_empty() { Ok((head, packets)) } else { Err(BadFrame::Shape) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_looks_as_it_is_described() {
        let head =
            Head { codec: Codec::F32, discontinuity: true, last: false, sequence: 7, time: 1_000_000, sample: 960 };
        let packets = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        let expected = [
            &[1, 0x11, 0, 2][..],
            &[0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0x0f, 0x42, 0x40],
            &[0, 0, 3, 0xc0],
            &[0, 2, 0, 1],
            b"abc",
        ];
        assert_eq!(write(&head, packets.iter()), expected.concat());
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        let head = Head { codec: Codec::Opus, discontinuity: false, last: true, sequence: 0, time: 0, sample: 0 };
        let good = write(&head, [Bytes::from_static(b"packet")].iter());
        for end in 0..good.len() {
            assert_eq!(read(good.slice(..end)), Err(BadFrame::Shape), "{end} bytes");
        }
        let mut long = good.to_vec();
        long.push(0);
        assert_eq!(read(long.into()), Err(BadFrame::Shape));
        let mut other = good.to_vec();
        other[0] = 2;
        assert_eq!(read(other.into()), Err(BadFrame::Shape));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            (discontinuity, last, floats, sequence, time, sample) in any::<(bool, bool, bool, u32, i64, u32)>(),
        ) {
            let codec = if floats { Codec::F32 } else { Codec::Opus };
            let head = Head { codec, discontinuity, last, sequence, time, sample };
            let packets: Vec<Bytes> = packets.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(read(write(&head, packets.iter())), Ok((head, packets)));
        }

        #[test]
        fn nothing_that_comes_in_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(bytes.into());
        }
    }
}
