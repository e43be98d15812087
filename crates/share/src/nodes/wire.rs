//! What nodes tell each other of a session, on its channel `share:{id}`. Samples and packets go as they came, bit by bit.
//! Big endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the form of all this: 2 |
//! | 8 | the node that sends |
//! | 8 | the node that is meant; 0: all |
//! | 8 | the incarnation of the session: another start of the same id is another session |
//! | 1 | kind: 0 chunk, 1 frame, 2 backlog, 3 word |
//! | … | chunk: its number (8), rate (4), channels (2), time (8), samples; frame: as the host sent it; backlog: chunks and frames, each as kind (1), length (4), itself; word: JSON |

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::chat::Line;
use crate::chunk::Label;
use crate::event::Reason;
use crate::incarnation::Incarnation;

const FORM: u8 = 2;
const CHUNK: u8 = 0;
const FRAME: u8 = 1;
const BACKLOG: u8 = 2;
const WORD: u8 = 3;
/// Bytes of what a chunk says of itself.
const LABEL: usize = 22;

/// A node; a restarted one is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// All nodes.
    pub const ALL: Self = Self(0);

    /// A new one.
    pub fn random() -> Self {
        Self(rand::rng().random_range(1..=u64::MAX))
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Reads what `Display` has written.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A message and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The node that sends.
    pub from: NodeId,
    /// The node that is meant.
    pub to: NodeId,
    /// Which session of its id.
    pub incarnation: Incarnation,
    /// What it says.
    pub message: Message,
}

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A chunk of the host.
    Chunk(Label, Bytes),
    /// A frame of the host.
    Frame(Bytes),
    /// The last of what the host has sent, for a node that had no need of it before.
    Backlog(Vec<Message>),
    /// Anything but audio.
    Word(Word),
}

/// Anything but audio.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Word {
    /// The sender needs audio from now on.
    Needs {
        /// And the last of what came before.
        backlog: bool,
    },
    /// The host has opened or lost its socket at the sender.
    Host {
        /// Whether it is there.
        here: bool,
        /// The number of the socket: the highest one is the host's.
        number: u64,
    },
    /// What the host plays.
    Song {
        /// The metadata without the cover, as JSON.
        song: String,
        /// The cover's tag.
        thumb: Option<String>,
        /// The cover, where the others may not have it.
        cover: Option<String>,
    },
    /// Somebody wrote a line of the chat.
    Line {
        /// It.
        line: Line,
    },
    /// The host has switched the chat.
    Chat {
        /// Whether it is on.
        on: bool,
        /// The id of that, among those of lines: the later one holds.
        id: i64,
    },
    /// The sender may not have heard what was said in the chat.
    Recall,
    /// The chat as it is, for a node that has not heard it.
    Said {
        /// Whether it is on.
        on: bool,
        /// The id with which it was switched last.
        switched: i64,
        /// Its last lines, each as JSON.
        lines: Vec<String>,
    },
    /// Whether the sender records the session.
    Recorded {
        /// Whether it does.
        on: bool,
    },
    /// Who records the session is to end that.
    EndRecording,
    /// The session is over.
    Ended {
        /// Why.
        reason: Reason,
    },
}

impl Message {
    /// About how many bytes it has.
    pub fn size(&self) -> usize {
        match self {
            Self::Chunk(_, bytes) | Self::Frame(bytes) => bytes.len(),
            Self::Backlog(parts) => parts.iter().map(Self::size).sum(),
            Self::Word(Word::Song { song, cover, .. }) => song.len() + cover.as_ref().map_or(0, String::len),
            Self::Word(Word::Said { lines, .. }) => lines.iter().map(String::len).sum(),
            Self::Word(_) => 0,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Chunk(..) => CHUNK,
            Self::Frame(_) => FRAME,
            Self::Backlog(_) => BACKLOG,
            Self::Word(_) => WORD,
        }
    }

    fn write(&self, into: &mut BytesMut) {
        match self {
            Self::Chunk(label, samples) => {
                into.put_i64(label.sequence);
                into.put_u32(label.rate);
                into.put_u16(label.channels);
                into.put_i64(label.timestamp);
                into.put_slice(samples);
            }
            Self::Frame(frame) => into.put_slice(frame),
            Self::Backlog(parts) => parts.iter().for_each(|part| {
                let length = part.size() + if part.kind() == CHUNK { LABEL } else { 0 };
                into.put_u8(part.kind());
                into.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
                part.write(into);
            }),
            Self::Word(word) => into.put_slice(&serde_json::to_vec(word).unwrap_or_default()),
        }
    }

    fn read(kind: u8, mut body: Bytes) -> Option<Self> {
        match kind {
            CHUNK => {
                if body.len() < LABEL {
                    return None;
                }
                let (sequence, rate) = (body.get_i64(), body.get_u32());
                let label = Label { sequence, rate, channels: body.get_u16(), timestamp: body.get_i64() };
                Some(Self::Chunk(label, body))
            }
            FRAME => Some(Self::Frame(body)),
            BACKLOG => {
                let mut parts = Vec::new();
                while body.len() >= 5 {
                    let (kind, length) = (body.get_u8(), body.get_u32() as usize);
                    if body.len() < length || !matches!(kind, CHUNK | FRAME) {
                        return None;
                    }
                    parts.push(Self::read(kind, body.split_to(length))?);
                }
                body.is_empty().then_some(Self::Backlog(parts))
            }
            WORD => serde_json::from_slice(&body).ok().map(Self::Word),
            _ => None,
        }
    }
}

impl Letter {
    /// As it is sent.
    pub fn write(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64 + self.message.size());
        bytes.put_u8(FORM);
        bytes.put_u64(self.from.0);
        bytes.put_u64(self.to.0);
        bytes.put_u64(self.incarnation.number());
        bytes.put_u8(self.message.kind());
        self.message.write(&mut bytes);
        bytes.freeze()
    }

    /// Reads one; `None` for what is none, such as one of a newer version.
    pub fn read(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 26 || bytes.get_u8() != FORM {
            return None;
        }
        let (from, to) = (NodeId(bytes.get_u64()), NodeId(bytes.get_u64()));
        let incarnation = Incarnation::from_number(bytes.get_u64());
        let kind = bytes.get_u8();
        Some(Self { from, to, incarnation, message: Message::read(kind, bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letter(message: Message) -> Letter {
        Letter { from: NodeId(1), to: NodeId::ALL, incarnation: Incarnation::from_number(7), message }
    }

    fn chunk(sequence: i64) -> Message {
        let label = Label { sequence, rate: 44_100, channels: 2, timestamp: -7 };
        Message::Chunk(label, Bytes::from(vec![0xff; 8 * 5]))
    }

    #[test]
    fn what_is_told_is_heard() {
        let frame = Message::Frame(Bytes::from_static(b"a frame"));
        let song =
            Word::Song { song: "{\"title\":\"\u{1F3B5}\"}".to_owned(), thumb: Some("tag".to_owned()), cover: None };
        let words = [
            Word::Needs { backlog: true },
            Word::Host { here: false, number: 3 },
            song,
            Word::Ended { reason: Reason::Stopped },
        ];
        let audio =
            [chunk(0), frame.clone(), Message::Backlog(vec![]), Message::Backlog(vec![chunk(1), frame, chunk(2)])];
        for message in audio.into_iter().chain(words.map(Message::Word)) {
            let letter = letter(message);
            assert_eq!(Letter::read(letter.write()), Some(letter));
        }
    }

    #[test]
    fn what_is_no_letter_is_none() {
        let good = letter(Message::Backlog(vec![chunk(1)])).write();
        for end in [0, 1, 25, 27, 30, good.len() - 1] {
            assert_eq!(Letter::read(good.slice(..end)), None, "{end} bytes");
        }
        let mut other = good.to_vec();
        other[0] = 1;
        assert_eq!(Letter::read(other.into()), None, "a form that is not known");
        let nested = letter(Message::Backlog(vec![Message::Backlog(vec![])]));
        assert_eq!(Letter::read(nested.write()), None);
    }

    #[test]
    fn a_node_is_read_as_it_is_written() {
        let node = NodeId::random();
        assert_eq!(NodeId::parse(&node.to_string()), Some(node));
        assert_ne!(node, NodeId::ALL);
        assert_eq!(NodeId::parse("no node"), None);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_in_panics(kind in 0_u8..5, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Letter::read(bytes.clone().into());
            let head = [&[FORM][..], &[0; 24], &[kind]].concat();
            let _ = Letter::read([head, bytes].concat().into());
        }
    }
}
