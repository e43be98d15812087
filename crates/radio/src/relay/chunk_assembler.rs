//! Chunks out of what comes from a station: a few kilobytes each, so that a thousand listeners are not woken for every
//! packet of it, and of whole pages where the stream is Ogg (RFC 3533). Pure: time is an argument.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Instant;

use super::chunk_ring::SoundChunk;
use crate::source::audio_format::AudioCodec;

/// Bytes of a chunk: half a second at 128 kbit/s.
const CHUNK_BYTES: usize = 8 * 1024;
/// Longest time for which sound waits for its chunk.
const CHUNK_TIME: Duration = Duration::from_millis(500);
/// Largest Ogg page: its head, 255 lengths, and 255 times 255 bytes.
const MAX_PAGE_BYTES: usize = 27 + 255 + 255 * 255;
/// Most bytes of header pages that are kept: comments may hold a cover.
const MAX_PREAMBLE_BYTES: usize = 256 * 1024;
const CAPTURE_PATTERN: &[u8; 4] = b"OggS";

/// Assembler of one stream.
#[derive(Debug)]
pub struct ChunkAssembler {
    ready: BytesMut,
    since: Option<Instant>,
    preamble: Option<Bytes>,
    ogg: Option<OggPages>,
}

/// Pages that are parted, and the header pages of the stream.
#[derive(Debug, Default)]
struct OggPages {
    rest: BytesMut,
    headers: BytesMut,
    /// The same, shared by all chunks that they belong to.
    shared_headers: Option<Bytes>,
    /// True from the first page of a stream to the first page with sound.
    is_in_headers: bool,
    /// True where the headers are complete and nobody has looked at them.
    has_new_headers: bool,
}

impl ChunkAssembler {
    /// Creates an assembler of a stream of this codec.
    pub fn new(codec: AudioCodec) -> Self {
        let ogg = codec.is_ogg().then(OggPages::default);
        Self { ready: BytesMut::new(), since: None, preamble: None, ogg }
    }

    /// Takes sound; appends the chunks that are full to `chunks`.
    pub fn push(&mut self, bytes: &[u8], now: Instant, chunks: &mut Vec<SoundChunk>) {
        match self.ogg.take() {
            None => {
                self.add(bytes, now);
                if self.ready.len() >= CHUNK_BYTES {
                    chunks.extend(self.flush());
                }
            }
            Some(mut ogg) => {
                ogg.rest.extend_from_slice(bytes);
                while let Some(page) = ogg.next_page() {
                    if self.ready.is_empty() {
                        self.preamble = ogg.preamble(&page);
                    }
                    ogg.note(&page);
                    self.add(&page, now);
                    // Headers stay in one piece, so that no chunk begins among them; they are bounded.
                    let least = if ogg.is_in_headers { MAX_PREAMBLE_BYTES } else { CHUNK_BYTES };
                    if self.ready.len() >= least {
                        chunks.extend(self.flush());
                    }
                }
                self.ogg = Some(ogg);
            }
        }
    }

    fn add(&mut self, bytes: &[u8], now: Instant) {
        self.since.get_or_insert(now);
        self.ready.extend_from_slice(bytes);
    }

    /// Returns when what waits must leave; `None` where nothing waits, or header pages are incomplete.
    pub fn deadline(&self) -> Option<Instant> {
        let is_in_headers = self.ogg.as_ref().is_some_and(|ogg| ogg.is_in_headers);
        self.since.filter(|_| !is_in_headers).map(|since| since + CHUNK_TIME)
    }

    /// Returns a chunk of what waits.
    pub fn flush(&mut self) -> Option<SoundChunk> {
        self.since = None;
        let preamble = self.preamble.take();
        // Copied, so that a chunk holds its own bytes alone.
        let bytes = (!self.ready.is_empty()).then(|| Bytes::copy_from_slice(&self.ready));
        self.ready.clear();
        bytes.map(|bytes| SoundChunk { bytes, preamble })
    }

    /// Returns the header pages of an Ogg stream, once for each stream, when they are complete.
    pub fn take_new_headers(&mut self) -> Option<&[u8]> {
        let ogg = self.ogg.as_mut()?;
        std::mem::take(&mut ogg.has_new_headers).then_some(&ogg.headers[..])
    }
}

impl OggPages {
    fn next_page(&mut self) -> Option<BytesMut> {
        loop {
            let begin = memchr::memmem::find(&self.rest, CAPTURE_PATTERN);
            // Of what is no page the last three bytes may begin one.
            self.rest.advance(begin.unwrap_or(self.rest.len().saturating_sub(CAPTURE_PATTERN.len() - 1)));
            begin?;
            let count = usize::from(*self.rest.get(26)?);
            let lengths = self.rest.get(27..27 + count)?;
            let length = 27 + count + lengths.iter().map(|length| usize::from(*length)).sum::<usize>();
            if self.rest[4] != 0 {
                self.rest.advance(CAPTURE_PATTERN.len());
                continue;
            }
            debug_assert!(length <= MAX_PAGE_BYTES);
            return (self.rest.len() >= length).then(|| self.rest.split_to(length));
        }
    }

    /// Returns what a listener needs before `page`: nothing before the first one of a stream, and nothing among its header
    /// pages, so that there is one copy of them.
    fn preamble(&mut self, page: &[u8]) -> Option<Bytes> {
        if begins_stream(page) || self.headers.is_empty() || (self.is_in_headers && !has_sound(page)) {
            return None;
        }
        Some(self.shared_headers.get_or_insert_with(|| Bytes::copy_from_slice(&self.headers)).clone())
    }

    fn note(&mut self, page: &[u8]) {
        // Streams that play together begin with all their first pages.
        if begins_stream(page) && !self.is_in_headers {
            self.headers.clear();
            self.shared_headers = None;
            self.is_in_headers = true;
        }
        let has_sound = has_sound(page);
        self.has_new_headers |= self.is_in_headers && has_sound;
        self.is_in_headers &= !has_sound;
        if self.is_in_headers && self.headers.len() + page.len() <= MAX_PREAMBLE_BYTES {
            self.headers.extend_from_slice(page);
            self.shared_headers = None;
        }
    }
}

/// Header pages have position 0, or none where no packet ends on them (RFC 3533 §6).
fn has_sound(page: &[u8]) -> bool {
    !begins_stream(page) && page.get(6..14).is_some_and(|at| at != [0; 8] && at != [0xFF; 8])
}

fn begins_stream(page: &[u8]) -> bool {
    page.get(5).is_some_and(|flags| flags & 0x02 != 0)
}

#[cfg(test)]
mod tests {
    use primitives::clock::monotonic_now;

    use super::*;

    fn now() -> Instant {
        Instant::from_std(monotonic_now())
    }

    fn page(flags: u8, position: u64, content: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(flags);
        page.extend(position.to_le_bytes());
        page.extend([0; 12]);
        let count = content.len() / 255 + 1;
        page.push(u8::try_from(count).expect("small"));
        page.extend(std::iter::repeat_n(255, count - 1));
        page.push((content.len() % 255) as u8);
        page.extend(content);
        page
    }

    #[test]
    fn sound_leaves_in_chunks_of_some_kilobytes_or_after_half_a_second() {
        let (mut assembler, mut chunks, at) = (ChunkAssembler::new(AudioCodec::Mp3), Vec::new(), now());
        for _ in 0..9 {
            assembler.push(&[1; 1000], at, &mut chunks);
        }
        assert_eq!(chunks.iter().map(|chunk| chunk.bytes.len()).collect::<Vec<_>>(), [9000]);
        assert_eq!((assembler.deadline(), assembler.flush()), (None, None));
        assembler.push(&[1; 10], at, &mut chunks);
        assert_eq!(assembler.deadline(), Some(at + CHUNK_TIME));
        assert_eq!(assembler.flush().map(|chunk| chunk.bytes.len()), Some(10));
    }

    #[test]
    fn who_begins_within_an_ogg_stream_gets_its_header_pages_first() {
        let (head, tags) = (page(2, 0, b"OpusHead"), page(0, 0, b"OpusTags"));
        let sound: Vec<Vec<u8>> = (1..=6).map(|number| page(0, number * 960, &[number as u8; 3000])).collect();
        let second = page(2, 0, b"OpusHead 2");
        let stream = [&b"x"[..], &head, &tags, &sound.concat(), &second, &tags, &sound[..4].concat()].concat();
        for piece in [1, 700, 100_000] {
            let (mut assembler, mut chunks) = (ChunkAssembler::new(AudioCodec::Opus), Vec::new());
            stream.chunks(piece).for_each(|bytes| assembler.push(bytes, now(), &mut chunks));
            chunks.extend(assembler.flush());
            let whole: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
            assert_eq!(whole, stream[1..], "nothing is lost but what is no page");
            assert!(chunks.iter().all(|chunk| chunk.bytes.starts_with(CAPTURE_PATTERN)));
            assert_eq!(chunks[0].preamble, None);
            assert_eq!(chunks[1].preamble.as_deref(), Some(&[head.clone(), tags.clone()].concat()[..]));
            let last = chunks.last().and_then(|chunk| chunk.preamble.clone()).expect("its headers");
            assert_eq!(last, [second.clone(), tags.clone()].concat());
            assert!(
                assembler
                    .take_new_headers()
                    .is_some_and(|headers| memchr::memmem::find(headers, b"OpusTags").is_some())
            );
            assert_eq!(assembler.take_new_headers(), None);
        }
    }

    #[test]
    fn header_pages_that_never_end_are_no_chunks_of_their_own() {
        let (mut assembler, mut chunks) = (ChunkAssembler::new(AudioCodec::Opus), Vec::new());
        assembler.push(&page(2, 0, b"OpusHead"), now(), &mut chunks);
        for _ in 0..20_000 {
            assembler.push(&page(0, 0, b""), now(), &mut chunks);
            assert_eq!(assembler.deadline(), None);
        }
        assert!(chunks.len() <= 3 && chunks.iter().all(|chunk| chunk.preamble.is_none()), "{}", chunks.len());
    }
}
