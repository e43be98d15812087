//! Ogg/Opus (RFC 7845) of a session without an end, as `<audio>`, VLC and mpv play it. Where audio is missing the pages go
//! on without a hole: a player catches up rather than waits.

use ogg::{PacketWriteEndInfo, PacketWriter};
use opusic_c::SampleRate;

use super::metadata::Metadata;

/// The only stream in the file; the number means nothing.
const SERIAL: u32 = 1;
/// Frames that a decoder drops at the beginning: 80 ms, for it to settle (RFC 7845 §4.2).
const PRE_SKIP: u16 = 3840;

/// Writes the pages for one listener.
pub struct Muxer {
    writer: PacketWriter<'static, Vec<u8>>,
    position: u64,
}

impl Muxer {
    /// A stream that names the song of its beginning.
    pub fn new(song: Option<&Metadata>) -> Self {
        let mut muxer = Self { writer: PacketWriter::new(Vec::new()), position: 0 };
        let mut head = b"OpusHead".to_vec();
        // Version 1; stereo, which decodes mono packets too.
        head.extend([1, 2]);
        head.extend(PRE_SKIP.to_le_bytes());
        head.extend(48_000_u32.to_le_bytes());
        // No gain, mapping family 0.
        head.extend([0, 0, 0]);
        muxer.page(head);
        let mut tags = b"OpusTags".to_vec();
        text(&mut tags, "Tidegate");
        let known = [
            ("TITLE", song.and_then(|song| song.title.as_deref())),
            ("ARTIST", song.and_then(|song| song.artist.as_deref())),
        ];
        let known: Vec<_> = known.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
        tags.extend(u32::try_from(known.len()).unwrap_or(0).to_le_bytes());
        known.iter().for_each(|comment| text(&mut tags, comment));
        muxer.page(tags);
        muxer
    }

    /// Adds packets as one page.
    pub fn packets(&mut self, packets: Vec<bytes::Bytes>) {
        let last = packets.len().saturating_sub(1);
        for (number, packet) in packets.into_iter().enumerate() {
            let frames = opusic_c::utils::get_nb_samples(&packet, SampleRate::Hz48000).unwrap_or(0);
            self.position += frames as u64;
            let end = if number == last { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            self.write(packet.to_vec(), end);
        }
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    fn page(&mut self, packet: Vec<u8>) {
        self.write(packet, PacketWriteEndInfo::EndPage);
    }

    fn write(&mut self, packet: Vec<u8>, end: PacketWriteEndInfo) {
        self.writer.write_packet(packet, SERIAL, end, self.position).expect("writing into a Vec does not fail");
    }
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend(u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
    into.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use ogg::PacketReader;

    use super::*;

    #[test]
    fn a_reader_finds_the_heads_and_the_packets() {
        let song = Metadata::from_json(br#"{"title": "Song", "artist": "Artist"}"#, None, 0).expect("good metadata");
        let mut muxer = Muxer::new(Some(&song));
        // A packet of silence: CELT, 20 ms, stereo.
        muxer.packets(vec![vec![0xfc, 0xff, 0xfe].into(); 3]);
        let mut reader = PacketReader::new(std::io::Cursor::new(muxer.take()));
        let mut packets = Vec::new();
        while let Some(packet) = reader.read_packet().expect("good pages") {
            packets.push((packet.absgp_page(), packet.data));
        }
        assert!(packets[0].1.starts_with(b"OpusHead") && packets[0].1.len() == 19);
        let tags = String::from_utf8_lossy(&packets[1].1);
        assert!(tags.starts_with("OpusTags") && tags.contains("TITLE=Song") && tags.contains("ARTIST=Artist"));
        assert_eq!(packets.len(), 5);
        assert_eq!(packets[4].0, 3 * 960);
        assert!(muxer.take().is_empty());
    }
}
