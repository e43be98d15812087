//! Ogg/Opus (RFC 7845) of a session, as `<audio>`, VLC and mpv play it. Where audio is missing the pages go on without a
//! hole: a player catches up rather than waits.

use std::time::Duration;

use bytes::Bytes;
use ogg::{PacketWriteEndInfo, PacketWriter};
use opusic_c::SampleRate;

use super::frame;

/// Serial number of the only stream in the file; any would do.
const STREAM_SERIAL: u32 = 1;
/// Frames that a decoder drops at the beginning: 80 ms, for it to settle (RFC 7845 §4.2).
const PRE_SKIP: u16 = 3840;
/// 20 ms of silence, CELT, stereo.
const SILENCE: [u8; 3] = [0xfc, 0xff, 0xfe];

/// Writer of Ogg pages for one listener or recording.
pub struct OggMuxer {
    writer: PacketWriter<'static, Vec<u8>>,
    position: u64,
}

impl OggMuxer {
    /// Begins a stream with these comments: `TITLE` and the like, each where it has a value.
    pub fn new(comments: &[(&str, Option<&str>)]) -> Self {
        let mut muxer = Self { writer: PacketWriter::new(Vec::new()), position: 0 };
        let mut head = b"OpusHead".to_vec();
        // Version 1; stereo, which decodes mono packets too.
        head.extend([1, 2]);
        head.extend(PRE_SKIP.to_le_bytes());
        head.extend(48_000_u32.to_le_bytes());
        // No gain, mapping family 0.
        head.extend([0, 0, 0]);
        muxer.write_packet(head, PacketWriteEndInfo::EndPage);
        let mut tags = b"OpusTags".to_vec();
        write_comment(&mut tags, "Tidegate");
        let known: Vec<_> = comments.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
        tags.extend(u32::try_from(known.len()).unwrap_or(0).to_le_bytes());
        known.iter().for_each(|comment| write_comment(&mut tags, comment));
        muxer.write_packet(tags, PacketWriteEndInfo::EndPage);
        muxer
    }

    /// Adds the packets of a frame as one page.
    pub fn write_frame(&mut self, frame: &Bytes) {
        // It was made here, so it can be read.
        let packets = frame::decode(frame.clone()).map(|(_, packets)| packets).unwrap_or_default();
        let last = packets.len().saturating_sub(1);
        for (number, packet) in packets.into_iter().enumerate() {
            let frames = opusic_c::utils::get_nb_samples(&packet, SampleRate::Hz48000).unwrap_or(0);
            self.position += frames as u64;
            let end = if number == last { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            self.write_packet(packet.to_vec(), end);
        }
    }

    /// Ends the stream. The page that says so has to hold a packet; the position, which stays, trims all of it away
    /// (RFC 7845 §4.4).
    pub fn finish(&mut self) {
        self.write_packet(SILENCE.to_vec(), PacketWriteEndInfo::EndStream);
    }

    /// Returns the pages that were written since the last call.
    pub fn take_pages(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    /// Returns how long the stream plays so far, in whole milliseconds.
    pub fn played(&self) -> Duration {
        Duration::from_millis(self.position.saturating_sub(PRE_SKIP.into()) / 48)
    }

    fn write_packet(&mut self, packet: Vec<u8>, end: PacketWriteEndInfo) {
        self.writer.write_packet(packet, STREAM_SERIAL, end, self.position).expect("writing into a Vec does not fail");
    }
}

fn write_comment(into: &mut Vec<u8>, text: &str) {
    into.extend(u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
    into.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use ogg::PacketReader;

    use super::super::frame::{Codec, FrameHeader};
    use super::*;
    use primitives::unix_time::UnixMicros;

    #[test]
    fn a_reader_finds_the_heads_the_packets_and_the_end() {
        let mut muxer = OggMuxer::new(&[("TITLE", Some("Song")), ("ARTIST", Some("Artist")), ("DATE", None)]);
        let head = FrameHeader {
            codec: Codec::Opus,
            discontinuity: false,
            ends_epoch: false,
            sequence: 0,
            server_time: UnixMicros::EPOCH,
            sample_time: 0,
        };
        muxer.write_frame(&frame::encode(&head, vec![Bytes::from_static(&SILENCE); 5].iter()));
        assert_eq!(muxer.played(), Duration::from_millis(20));
        let mut pages = muxer.take_pages();
        assert!(muxer.take_pages().is_empty());
        muxer.finish();
        pages.extend(muxer.take_pages());
        let mut reader = PacketReader::new(std::io::Cursor::new(pages));
        let mut packets = Vec::new();
        while let Some(packet) = reader.read_packet().expect("good pages") {
            packets.push((packet.absgp_page(), packet.last_in_stream(), packet.data));
        }
        assert!(packets[0].2.starts_with(b"OpusHead") && packets[0].2.len() == 19);
        let tags = String::from_utf8_lossy(&packets[1].2);
        assert!(tags.starts_with("OpusTags") && tags.contains("TITLE=Song") && tags.contains("ARTIST=Artist"));
        assert!(!tags.contains("DATE"));
        assert_eq!(packets.len(), 8);
        assert_eq!((packets[6].0, packets[6].1), (5 * 960, false));
        assert_eq!((packets[7].0, packets[7].1), (5 * 960, true), "no longer than what was heard");
    }
}
