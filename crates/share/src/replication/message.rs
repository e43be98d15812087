//! Messages between nodes about one session, on its channel. Samples and packets go as they came, bit by bit. Big endian:
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version of this format: 2 |
//! | 8 | node that sends |
//! | 8 | node that is meant; 0: all |
//! | 8 | incarnation of the session: another start of the same id is another session |
//! | 1 | kind: 0 chunk, 1 frame, 2 backlog, 3 control |
//! | … | chunk: number (8), rate (4), channels (2), time (8), samples; frame: as the host sent it; backlog: chunks and frames, each as kind (1), length (4), itself; control: JSON |

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::audio::chunk::ChunkHeader;
use crate::session::chat::{self, ChatHistory, ChatLine};
use crate::session::event::EndReason;
use crate::session::incarnation::Incarnation;
use primitives::unix_time::UnixMillis;

const WIRE_VERSION: u8 = 2;
const CHUNK: u8 = 0;
const FRAME: u8 = 1;
const BACKLOG: u8 = 2;
const CONTROL: u8 = 3;
/// Bytes before the kind's own, the kind included.
const ENVELOPE_BYTES: usize = 26;
/// Bytes of a chunk's header.
const CHUNK_HEADER_BYTES: usize = 22;
/// Bytes of a message at most: more than the outbox of any node takes at once.
const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// Parts of a backlog at most: a node sends ten chunks and those that wait, or one frame.
const MAX_BACKLOG_PARTS: usize = 1_024;
/// Highest number of a host's socket; all numbers up to it are whole in JSON and in Redis' scripts.
pub const MAX_SOCKET_NUMBER: u64 = 1 << 53;
/// Bytes before each part of a backlog.
const PART_HEADER_BYTES: usize = 5;

/// Id of a node; a restarted one is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// All nodes.
    pub const ALL: Self = Self(0);

    /// Draws an id that no other node has.
    pub fn random() -> Self {
        Self(rand::rng().random_range(1..=u64::MAX))
    }

    /// Returns the id as a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Reads an id as `Display` writes it.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Message with its sender, its receivers and its session.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaEnvelope {
    /// Node that sends.
    pub from: NodeId,
    /// Node that is meant.
    pub to: NodeId,
    /// Start of the session.
    pub incarnation: Incarnation,
    /// Message itself.
    pub message: ReplicaMessage,
}

/// Message about a session.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplicaMessage {
    /// Chunk of the host.
    Chunk(ChunkHeader, Bytes),
    /// Frame of the host.
    Frame(Bytes),
    /// Last of what the host has sent, for a node that had no need of it before.
    Backlog(Vec<ReplicaMessage>),
    /// Anything but audio.
    Control(ControlMessage),
}

/// Message without audio. Nodes of two versions run side by side during an update: the names in JSON stay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "type")]
pub enum ControlMessage {
    /// The sender needs audio from now on.
    #[serde(rename = "needs")]
    NeedsAudio {
        /// True where it needs the last of what came before, too.
        backlog: bool,
    },
    /// The host has opened or lost its socket at the sender.
    #[serde(rename = "host")]
    HostSocket {
        /// True where it has opened it.
        here: bool,
        /// Number of the socket: the highest one is the host's.
        number: u64,
    },
    /// The host has sent metadata.
    #[serde(rename = "song")]
    Metadata {
        /// Metadata without the cover, as JSON.
        song: String,
        /// Tag of the cover.
        thumb: Option<String>,
        /// Cover, where the others may not have it.
        cover: Option<String>,
    },
    /// Somebody has written a line of the chat.
    #[serde(rename = "line")]
    ChatLine {
        /// Line as it was written.
        line: ChatLine,
    },
    /// The host has switched the chat.
    #[serde(rename = "chat")]
    ChatSwitched {
        /// True where it is on.
        on: bool,
        /// Id of the switch, among those of lines: the later one holds.
        id: i64,
    },
    /// The sender may have missed lines of the chat.
    #[serde(rename = "recall")]
    RequestChat,
    /// Chat as it is, for a node that has not heard it.
    #[serde(rename = "said")]
    ChatHistory(ChatHistory),
    /// The sender records the session, or no longer.
    #[serde(rename = "recorded")]
    Recorded {
        /// True where it does.
        on: bool,
    },
    /// The node that records the session is to end that.
    #[serde(rename = "endrecording")]
    EndRecording,
    /// The session has ended.
    #[serde(rename = "ended")]
    Ended {
        /// Reason of the end.
        reason: EndReason,
    },
}

impl ControlMessage {
    /// Returns whether a node of ours can have sent this by `now`: whoever can publish in Redis may have made it up, and a
    /// number at the end of its range would be the last one.
    pub fn is_plausible(&self, now: UnixMillis) -> bool {
        match self {
            Self::HostSocket { number, .. } => *number <= MAX_SOCKET_NUMBER,
            Self::ChatLine { line } => line.is_plausible(now),
            Self::ChatSwitched { id, .. } => chat::is_plausible_id(*id, now),
            // Its lines are judged one by one, and metadata where it is read.
            Self::ChatHistory(_)
            | Self::Metadata { .. }
            | Self::NeedsAudio { .. }
            | Self::RequestChat
            | Self::Recorded { .. }
            | Self::EndRecording
            | Self::Ended { .. } => true,
        }
    }
}

impl ReplicaMessage {
    /// Returns about how many bytes the message has.
    pub fn approximate_bytes(&self) -> usize {
        match self {
            Self::Chunk(_, bytes) | Self::Frame(bytes) => bytes.len(),
            Self::Backlog(parts) => parts.iter().map(Self::approximate_bytes).sum(),
            Self::Control(ControlMessage::Metadata { song, cover, .. }) => {
                song.len() + cover.as_ref().map_or(0, String::len)
            }
            Self::Control(ControlMessage::ChatHistory(history)) => history.bytes(),
            Self::Control(_) => 0,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Chunk(..) => CHUNK,
            Self::Frame(_) => FRAME,
            Self::Backlog(_) => BACKLOG,
            Self::Control(_) => CONTROL,
        }
    }

    fn encode(&self, into: &mut BytesMut) {
        match self {
            Self::Chunk(label, samples) => {
                into.put_i64(label.sequence);
                into.put_u32(label.sample_rate);
                into.put_u16(label.channels);
                into.put_i64(label.timestamp.as_millis());
                into.put_slice(samples);
            }
            Self::Frame(frame) => into.put_slice(frame),
            Self::Backlog(parts) => parts.iter().for_each(|part| {
                let length = part.approximate_bytes() + if part.kind() == CHUNK { CHUNK_HEADER_BYTES } else { 0 };
                into.put_u8(part.kind());
                into.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
                part.encode(into);
            }),
            Self::Control(word) => into.put_slice(&serde_json::to_vec(word).unwrap_or_default()),
        }
    }

    fn decode(kind: u8, mut body: Bytes) -> Option<Self> {
        match kind {
            CHUNK => {
                if body.len() < CHUNK_HEADER_BYTES {
                    return None;
                }
                let (sequence, rate) = (body.get_i64(), body.get_u32());
                let label = ChunkHeader {
                    sequence,
                    sample_rate: rate,
                    channels: body.get_u16(),
                    timestamp: UnixMillis::new(body.get_i64()),
                };
                Some(Self::Chunk(label, body))
            }
            FRAME => Some(Self::Frame(body)),
            BACKLOG => {
                let mut parts = Vec::new();
                while body.len() >= PART_HEADER_BYTES {
                    let (kind, length) = (body.get_u8(), body.get_u32() as usize);
                    // A backlog in a backlog would let a message nest without end.
                    let full = parts.len() >= MAX_BACKLOG_PARTS;
                    if full || body.len() < length || !matches!(kind, CHUNK | FRAME) {
                        return None;
                    }
                    parts.push(Self::decode(kind, body.split_to(length))?);
                }
                body.is_empty().then_some(Self::Backlog(parts))
            }
            CONTROL => serde_json::from_slice(&body).ok().map(Self::Control),
            _ => None,
        }
    }
}

impl ReplicaEnvelope {
    /// Returns the message as it is sent.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64 + self.message.approximate_bytes());
        bytes.put_u8(WIRE_VERSION);
        bytes.put_u64(self.from.0);
        bytes.put_u64(self.to.0);
        bytes.put_u64(self.incarnation.number());
        bytes.put_u8(self.message.kind());
        self.message.encode(&mut bytes);
        bytes.freeze()
    }

    /// Reads a message; `None` for anything else, such as a message of a newer version.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        // Nodes of a version with another format say nothing to each other rather than something wrong.
        let length = ENVELOPE_BYTES..=MAX_MESSAGE_BYTES;
        if !length.contains(&bytes.len()) || bytes.get_u8() != WIRE_VERSION {
            return None;
        }
        let (from, to) = (NodeId(bytes.get_u64()), NodeId(bytes.get_u64()));
        let incarnation = Incarnation::from_number(bytes.get_u64());
        let kind = bytes.get_u8();
        Some(Self { from, to, incarnation, message: ReplicaMessage::decode(kind, bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn letter(message: ReplicaMessage) -> ReplicaEnvelope {
        ReplicaEnvelope { from: NodeId(1), to: NodeId::ALL, incarnation: Incarnation::from_number(7), message }
    }

    fn chunk(sequence: i64) -> ReplicaMessage {
        let label = ChunkHeader { sequence, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::new(-7) };
        ReplicaMessage::Chunk(label, Bytes::from(vec![0xff; 8 * 5]))
    }

    #[test]
    fn what_is_told_is_heard() {
        let frame = ReplicaMessage::Frame(Bytes::from_static(b"a frame"));
        let song = ControlMessage::Metadata {
            song: "{\"title\":\"\u{1F3B5}\"}".to_owned(),
            thumb: Some("tag".to_owned()),
            cover: None,
        };
        let words = [
            ControlMessage::NeedsAudio { backlog: true },
            ControlMessage::HostSocket { here: false, number: 3 },
            song,
            ControlMessage::Ended { reason: EndReason::Stopped },
        ];
        let audio = [
            chunk(0),
            frame.clone(),
            ReplicaMessage::Backlog(vec![]),
            ReplicaMessage::Backlog(vec![chunk(1), frame, chunk(2)]),
        ];
        for message in audio.into_iter().chain(words.map(ReplicaMessage::Control)) {
            let letter = letter(message);
            assert_eq!(ReplicaEnvelope::decode(letter.encode()), Some(letter));
        }
    }

    #[test]
    fn what_is_no_letter_is_none() {
        let good = letter(ReplicaMessage::Backlog(vec![chunk(1)])).encode();
        for end in [0, 1, 25, 27, 30, good.len() - 1] {
            assert_eq!(ReplicaEnvelope::decode(good.slice(..end)), None, "{end} bytes");
        }
        let mut other = good.to_vec();
        other[0] = 1;
        assert_eq!(ReplicaEnvelope::decode(other.into()), None, "a form that is not known");
        let nested = letter(ReplicaMessage::Backlog(vec![ReplicaMessage::Backlog(vec![])]));
        assert_eq!(ReplicaEnvelope::decode(nested.encode()), None);
    }

    #[test]
    fn names_in_json_are_those_of_the_version_before() {
        let history = json!({"type": "said", "on": true, "switched": 7, "lines": ["{}"]});
        let line = json!({"type": "chat", "id": 5, "at": 1, "name": "Ann", "text": "hi"});
        for text in [
            json!({"type": "needs", "backlog": true}),
            json!({"type": "host", "here": true, "number": 3}),
            json!({"type": "song", "song": "{}", "thumb": "tag", "cover": null}),
            json!({"type": "line", "line": line}),
            json!({"type": "chat", "on": false, "id": 5}),
            json!({"type": "recall"}),
            history,
            json!({"type": "recorded", "on": true}),
            json!({"type": "endrecording"}),
            json!({"type": "ended", "reason": "timeout"}),
        ] {
            let message: ControlMessage = serde_json::from_value(text.clone()).expect("a message");
            assert_eq!(json!(message), text);
        }
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
            let _ = ReplicaEnvelope::decode(bytes.clone().into());
            let head = [&[WIRE_VERSION][..], &[0; 24], &[kind]].concat();
            let _ = ReplicaEnvelope::decode([head, bytes].concat().into());
        }
    }
}
