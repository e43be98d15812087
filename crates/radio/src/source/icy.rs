//! ICY metadata, as SHOUTcast and Icecast put it into a stream: after every `icy-metaint` bytes of sound one byte with the
//! length of a block in units of 16, and the block. Pure: bytes go in, sound and titles come out.

use bytes::Bytes;

use super::text::decode_text;

/// Longest block, which the length byte bounds.
const MAX_BLOCK_BYTES: usize = 255 * 16;

/// Demultiplexer of a stream.
#[derive(Debug)]
pub struct IcyDemuxer {
    /// Bytes of sound between two blocks; `None`: the stream has no blocks.
    interval: Option<usize>,
    state: DemuxState,
    block: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum DemuxState {
    /// So many bytes of sound are left before the next block.
    Sound(usize),
    /// The length of a block is next.
    Length,
    /// So many bytes of the block are left.
    Block(usize),
}

/// Part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPart {
    /// Sound.
    Sound(Bytes),
    /// Title that was told; empty where nothing is announced.
    Title(String),
}

impl IcyDemuxer {
    /// Creates a demultiplexer of a stream whose `icy-metaint` is `interval`; 0 is none.
    pub fn new(interval: Option<usize>) -> Self {
        let interval = interval.filter(|interval| *interval > 0);
        Self { interval, state: DemuxState::Sound(interval.unwrap_or(usize::MAX)), block: Vec::new() }
    }

    /// Takes the next bytes of the stream; appends its parts to `parts`.
    pub fn push(&mut self, mut bytes: Bytes, parts: &mut Vec<StreamPart>) {
        let Some(interval) = self.interval else {
            return parts.push(StreamPart::Sound(bytes));
        };
        while !bytes.is_empty() {
            self.state = match self.state {
                DemuxState::Sound(left) => {
                    let sound = bytes.split_to(left.min(bytes.len()));
                    let left = left - sound.len();
                    parts.push(StreamPart::Sound(sound));
                    if left == 0 { DemuxState::Length } else { DemuxState::Sound(left) }
                }
                DemuxState::Length => match usize::from(bytes.split_to(1)[0]) * 16 {
                    0 => DemuxState::Sound(interval),
                    length => DemuxState::Block(length),
                },
                DemuxState::Block(left) => {
                    let part = bytes.split_to(left.min(bytes.len()));
                    self.block.extend_from_slice(&part);
                    match left - part.len() {
                        0 => {
                            let block = std::mem::take(&mut self.block);
                            parts.extend(stream_title(&block).map(|title| StreamPart::Title(decode_text(title))));
                            DemuxState::Sound(interval)
                        }
                        left => DemuxState::Block(left),
                    }
                }
            };
        }
        debug_assert!(self.block.len() <= MAX_BLOCK_BYTES);
    }
}

/// Returns the bytes of `StreamTitle='…';` in a block. A title may have quotes: it ends at the first `';`.
fn stream_title(block: &[u8]) -> Option<&[u8]> {
    const BEGINNING: &[u8] = b"StreamTitle='";
    let begin = memchr::memmem::find(block, BEGINNING)? + BEGINNING.len();
    let rest = &block[begin..];
    let end = memchr::memmem::find(rest, b"';").unwrap_or_else(|| {
        // Cut by a server that has no more room: up to the padding.
        rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())
    });
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &[u8]) -> Vec<u8> {
        let units = text.len().div_ceil(16);
        let mut block = vec![u8::try_from(units).expect("short")];
        block.extend_from_slice(text);
        block.resize(1 + units * 16, 0);
        block
    }

    fn demux(stream: &[u8], interval: usize, piece: usize) -> (Vec<u8>, Vec<String>) {
        let (mut demuxer, mut parts) = (IcyDemuxer::new(Some(interval)), Vec::new());
        for piece in stream.chunks(piece) {
            demuxer.push(Bytes::copy_from_slice(piece), &mut parts);
        }
        let (mut sound, mut titles) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                StreamPart::Sound(bytes) => sound.extend_from_slice(&bytes),
                StreamPart::Title(title) => titles.push(title),
            }
        }
        (sound, titles)
    }

    #[test]
    fn sound_and_titles_are_parted_however_the_stream_is_cut() {
        let mut stream = b"abcd".to_vec();
        stream.extend(block(b"StreamTitle='It's - l\xe9on';StreamUrl='x';"));
        stream.extend(b"efgh\0ijkl");
        stream.extend(block("StreamTitle='Пісня';".as_bytes()));
        stream.extend(block(b"")[..].iter().take(0));
        stream.extend(b"mn");
        for piece in [1, 2, 3, 5, 16, 1000] {
            let (sound, titles) = demux(&stream, 4, piece);
            assert_eq!(
                (sound.as_slice(), titles),
                (&b"abcdefghijklmn"[..], vec!["It's - léon".to_owned(), "Пісня".to_owned()])
            );
        }
    }

    #[test]
    fn a_stream_without_blocks_passes_and_a_block_without_a_title_tells_none() {
        let (mut demuxer, mut parts) = (IcyDemuxer::new(Some(0)), Vec::new());
        demuxer.push(Bytes::from_static(b"\x01sound"), &mut parts);
        assert_eq!(parts, [StreamPart::Sound(Bytes::from_static(b"\x01sound"))]);
        assert_eq!(demux(&[&b"ab"[..], &block(b"StreamUrl='x';"), b"c"].concat(), 2, 7), (b"abc".to_vec(), vec![]));
        assert_eq!(demux(&[&b"ab"[..], &block(b"StreamTitle='cut")].concat(), 2, 7).1, ["cut"]);
        assert_eq!(demux(&[&b"ab"[..], &block(b"StreamTitle='';")].concat(), 2, 7).1, [""]);
    }
}
