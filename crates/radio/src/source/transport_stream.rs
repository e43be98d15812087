//! Sound of HLS segments: packed audio behind an ID3 tag (RFC 8216 §3.4), or the first audio stream of an MPEG transport
//! stream (ISO/IEC 13818-1). Pure.

use bytes::{Bytes, BytesMut};

use super::SourceError;
use super::audio_format::begins_with_frame;

const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;
/// Stream types with sound that is played as it is: MPEG-1 and MPEG-2 audio, AAC in ADTS.
const AUDIO_TYPES: [u8; 3] = [0x03, 0x04, 0x0F];

/// Reader of segments, one after another.
#[derive(Debug, Default)]
pub struct SegmentReader {
    kind: SegmentKind,
    rest: BytesMut,
    map_pid: Option<u16>,
    audio_pid: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
enum SegmentKind {
    #[default]
    Unknown,
    Packed,
    /// Packed, and so many bytes of its tag are left.
    Tag(usize),
    Transport,
}

impl SegmentReader {
    /// Begins the next segment.
    pub fn begin_segment(&mut self) {
        self.kind = SegmentKind::Unknown;
        self.rest.clear();
    }

    /// Takes bytes of a segment; returns the sound in them. Fails where packed audio does not begin with a frame: what a
    /// playlist leads to may be anything, and only sound is relayed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Bytes, SourceError> {
        self.rest.extend_from_slice(bytes);
        if matches!(self.kind, SegmentKind::Unknown) {
            match self.rest.first_chunk::<10>() {
                None => return Ok(Bytes::new()),
                // ID3v2 §3.1: the size has seven bits in each byte.
                Some([b'I', b'D', b'3', _, _, _, a, b, c, d]) => {
                    let size = [a, b, c, d].iter().fold(0, |size, byte| size << 7 | usize::from(**byte & 0x7F));
                    self.kind = SegmentKind::Tag(size + 10);
                }
                Some([SYNC, ..]) => self.kind = SegmentKind::Transport,
                Some(_) => self.kind = SegmentKind::Tag(0),
            }
        }
        if let SegmentKind::Tag(left) = self.kind {
            let skipped = left.min(self.rest.len());
            let _ = self.rest.split_to(skipped);
            // A frame's head has six bytes.
            self.kind = match left - skipped {
                0 if self.rest.len() < 6 => SegmentKind::Tag(0),
                0 if begins_with_frame(&self.rest) => SegmentKind::Packed,
                0 => return Err(SourceError::NoSound),
                left => SegmentKind::Tag(left),
            };
        }
        match self.kind {
            SegmentKind::Packed => Ok(self.rest.split().freeze()),
            SegmentKind::Transport => Ok(self.read_packets()),
            SegmentKind::Unknown | SegmentKind::Tag(_) => Ok(Bytes::new()),
        }
    }

    fn read_packets(&mut self) -> Bytes {
        let mut sound = BytesMut::new();
        while self.rest.len() >= PACKET_BYTES {
            if self.rest[0] != SYNC {
                let next = self.rest.iter().position(|byte| *byte == SYNC).unwrap_or(self.rest.len());
                let _ = self.rest.split_to(next);
                continue;
            }
            let packet = self.rest.split_to(PACKET_BYTES);
            self.read_packet(&packet, &mut sound);
        }
        sound.freeze()
    }

    fn read_packet(&mut self, packet: &[u8], sound: &mut BytesMut) {
        let pid = u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2]);
        let (begins, control) = (packet[1] & 0x40 != 0, (packet[3] >> 4) & 3);
        let adaptation = if control & 2 != 0 { 1 + usize::from(packet[4]) } else { 0 };
        let Some(payload) = packet.get(4 + adaptation..).filter(|_| control & 1 != 0) else { return };
        if pid == 0 && begins {
            self.map_pid = section(payload).and_then(first_program).or(self.map_pid);
        } else if Some(pid) == self.map_pid && begins {
            self.audio_pid = section(payload).and_then(first_audio).or(self.audio_pid);
        } else if Some(pid) == self.audio_pid {
            let skipped = match payload {
                // The head of a packet of the elementary stream (§2.4.3.6).
                [0, 0, 1, _, _, _, _, _, length, ..] if begins => 9 + usize::from(*length),
                _ => 0,
            };
            sound.extend_from_slice(payload.get(skipped..).unwrap_or_default());
        }
    }
}

/// Returns the section that begins in a payload, behind its pointer field.
fn section(payload: &[u8]) -> Option<&[u8]> {
    payload.get(1 + usize::from(*payload.first()?)..)
}

/// Returns the PID of the first program's map in a program association section (§2.4.4.3).
fn first_program(section: &[u8]) -> Option<u16> {
    let programs = section.get(8..)?.chunks_exact(4);
    let mut programs = programs.filter(|entry| entry[..2] != [0, 0]);
    programs.next().map(|entry| u16::from(entry[2] & 0x1F) << 8 | u16::from(entry[3]))
}

/// Returns the PID of the first stream with sound in a program map section (§2.4.4.8).
fn first_audio(section: &[u8]) -> Option<u16> {
    let length = usize::from(*section.get(1)? & 0x0F) << 8 | usize::from(*section.get(2)?);
    // Without the checksum at its end.
    let end = (3 + length).checked_sub(4)?.min(section.len());
    let information = usize::from(*section.get(10)? & 0x0F) << 8 | usize::from(*section.get(11)?);
    let mut rest = section.get(12 + information..end)?;
    while let [kind, high, low, info_high, info_low, ..] = rest {
        if AUDIO_TYPES.contains(kind) {
            return Some(u16::from(high & 0x1F) << 8 | u16::from(*low));
        }
        let skipped = 5 + (usize::from(info_high & 0x0F) << 8 | usize::from(*info_low));
        rest = rest.get(skipped..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pid: u16, begins: bool, payload: &[u8]) -> Vec<u8> {
        let stuffing = PACKET_BYTES - 4 - payload.len();
        let mut packet = vec![SYNC, u8::from(begins) << 6 | (pid >> 8) as u8, pid as u8];
        match stuffing {
            0 => packet.push(0x10),
            1 => packet.extend([0x30, 0]),
            more => {
                packet.extend([0x30, u8::try_from(more - 1).expect("short"), 0]);
                packet.resize(4 + more, 0xFF);
            }
        }
        packet.extend(payload);
        packet
    }

    #[test]
    fn sound_is_taken_out_of_a_transport_stream_however_it_is_cut() {
        let association = [0, 0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE1, 0x00, 1, 2, 3, 4];
        let map = [
            0, 2, 0xB0, 23, 0, 1, 0xC1, 0, 0, 0xE1, 1, 0xF0, 0, 0x1B, 0xE1, 2, 0xF0, 0, 0x0F, 0xE1, 3, 0xF0, 0, 1, 2,
            3, 4,
        ];
        let head = [0, 0, 1, 0xC0, 0, 0, 0x80, 0, 2, 9, 9];
        let stream: Vec<u8> = [
            packet(0, true, &association),
            packet(0x100, true, &map),
            packet(0x102, true, b"pictures"),
            packet(0x103, true, &[&head[..], b"one "].concat()),
            packet(0x103, false, b"two"),
        ]
        .concat();
        for piece in [1, 100, 188, 10_000] {
            let mut reader = SegmentReader::default();
            reader.begin_segment();
            let pushed = |bytes| reader.push(bytes).expect("sound").to_vec();
            let sound: Vec<u8> = stream.chunks(piece).flat_map(pushed).collect();
            assert_eq!(sound, b"one two", "{piece}");
        }
    }

    #[test]
    fn packed_audio_is_sound_behind_its_tag() {
        let mut segment = b"ID3\x04\0\0\0\0\0\x05hello".to_vec();
        segment.extend(b"\xff\xf1\x50\x80\x1f\xfc\x00sound");
        for piece in [1, 7, 100] {
            let mut reader = SegmentReader::default();
            reader.begin_segment();
            let pushed = |bytes| reader.push(bytes).expect("sound").to_vec();
            let sound: Vec<u8> = segment.chunks(piece).flat_map(pushed).collect();
            assert_eq!(sound, b"\xff\xf1\x50\x80\x1f\xfc\x00sound");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let noise: Vec<u8> = (0..60_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for first in [SYNC, b'I', 0] {
            let mut reader = SegmentReader::default();
            reader.begin_segment();
            let _ = reader.push(&[first]);
            let mut bytes = noise.clone();
            bytes.iter_mut().step_by(PACKET_BYTES).for_each(|byte| *byte = SYNC);
            bytes.chunks(997).for_each(|piece| drop(reader.push(piece)));
        }
    }

    #[test]
    fn what_is_no_sound_is_not_relayed() {
        for other in [&b"{\"password\":1}"[..], b"<html><body>", b"ID3\x04\0\0\0\0\0\x00not a frame"] {
            let mut reader = SegmentReader::default();
            reader.begin_segment();
            assert_eq!(reader.push(other), Err(SourceError::NoSound));
        }
    }
}
