//! Backlog: the last of the host's audio, for a node that has begun to need it, and the short wait of that node for it.

use std::time::Duration;

use super::audio::AudioState;
use crate::audio::chunk::play_duration;
use crate::audio::chunk_ring::MAX_POLL_CHUNKS;
use crate::audio::frame::{self, Codec, FrameHeader};
use crate::audio::opus::{decode_opus_frame, packets_duration};
use crate::replication::message::{NodeId, ReplicaMessage};
use primitives::unix_time::{UnixMicros, UnixMillis};

/// Time for which audio waits for the backlog, ...
const MAX_WAIT: Duration = Duration::from_millis(500);
/// ... and how many messages of it.
const MAX_WAITING: usize = 64;
/// Bytes of samples in a backlog at most.
const MAX_BACKLOG_BYTES: usize = 2 << 20;

/// Audio that waits until the backlog has come.
pub struct BacklogWait {
    until: UnixMillis,
    waiting: Vec<(NodeId, ReplicaMessage)>,
}

impl BacklogWait {
    /// Begins to wait at `now`.
    pub fn new(now: UnixMillis) -> Self {
        Self { until: now + MAX_WAIT, waiting: Vec::new() }
    }

    /// Returns whether the backlog has not come in time.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.until <= now
    }

    /// Keeps audio of another node; returns true where there is too much of it to wait any longer.
    pub fn hold(&mut self, from: NodeId, audio: ReplicaMessage) -> bool {
        self.waiting.push((from, audio));
        self.waiting.len() >= MAX_WAITING
    }

    /// Returns the audio that has waited, but not that of `sender`, whose backlog has come: it holds all that was sent before
    /// it. Repeated packets are known by their numbers, where none of them insists on beginning something.
    pub fn into_audio(self, sender: Option<NodeId>) -> impl Iterator<Item = ReplicaMessage> {
        let others = self.waiting.into_iter().filter(move |(from, _)| Some(*from) != sender);
        others.map(|(_, audio)| without_discontinuity(audio))
    }
}

/// Returns the last of what the host has sent here.
pub fn backlog_of(audio: &AudioState) -> ReplicaMessage {
    let mut parts = Vec::new();
    match audio.source() {
        Codec::F32 => {
            let mut size = 0;
            parts.extend(audio.newest_chunks().take(MAX_POLL_CHUNKS).map_while(|chunk| {
                size += chunk.len();
                // Chunks of up to 1 MiB are possible, and the message waits in the outbox with those of all sessions.
                (size <= MAX_BACKLOG_BYTES).then(|| ReplicaMessage::Chunk(chunk.header, chunk.samples().clone()))
            }));
            parts.reverse();
            let waiting = audio.waiting_chunks();
            parts.extend(waiting.map(|chunk| ReplicaMessage::Chunk(chunk.header, chunk.samples().clone())));
        }
        Codec::Opus => {
            if let Some((sequence, packets)) = audio.newest_packets() {
                let header = FrameHeader {
                    codec: Codec::Opus,
                    // The receiving node has nothing that this could follow.
                    discontinuity: true,
                    ends_epoch: false,
                    sequence,
                    server_time: UnixMicros::EPOCH,
                    sample_time: 0,
                };
                parts.push(ReplicaMessage::Frame(frame::encode(&header, packets.iter().map(|packet| &packet.bytes))));
            }
        }
    }
    ReplicaMessage::Backlog(parts)
}

/// Returns how long a chunk or frame plays.
pub fn audio_duration(audio: &ReplicaMessage) -> Duration {
    match audio {
        ReplicaMessage::Chunk(header, samples) => {
            let frames = samples.len() / (4 * usize::from(header.channels.max(1)));
            play_duration(frames, header.sample_rate)
        }
        ReplicaMessage::Frame(bytes) => decode_opus_frame(bytes.clone(), UnixMicros::EPOCH)
            .map_or(Duration::ZERO, |(_, packets)| packets_duration(&packets)),
        ReplicaMessage::Backlog(_) | ReplicaMessage::Control(_) => Duration::ZERO,
    }
}

fn without_discontinuity(audio: ReplicaMessage) -> ReplicaMessage {
    match audio {
        ReplicaMessage::Frame(bytes) => match frame::decode(bytes.clone()) {
            Ok((header, packets)) => {
                ReplicaMessage::Frame(frame::encode(&FrameHeader { discontinuity: false, ..header }, packets.iter()))
            }
            Err(_) => ReplicaMessage::Frame(bytes),
        },
        other => other,
    }
}
