//! Inputs of the host at this node: chunks, frames, sockets, metadata.

use std::sync::Arc;

use bytes::Bytes;

use super::SessionState;
use super::effect::{Effect, Effects};
use crate::audio::chunk::AudioChunk;
use crate::audio::frame::{FrameError, FrameHeader};
use crate::audio::opus::{decode_opus_frame, packets_duration};
use crate::audio::packet_queue::AudioPacket;
use crate::audio::reorder_buffer::ChunkOutcome;
use crate::audio::transcode::TranscodeOutput;
use crate::refusal::Refusal;
use crate::replication::message::{ControlMessage, NodeId, ReplicaMessage};
use crate::session::event::SessionEvent;
use crate::session::metadata::SongMetadata;
use primitives::unix_time::UnixMillis;

/// Chunk as a host has sent it.
#[derive(Debug)]
pub struct HostChunk {
    /// Samples and their header.
    pub chunk: AudioChunk,
    /// Bytes of the request's body, which its rate limit counts.
    pub body_bytes: usize,
}

/// Frame of Opus as a host has sent it, and read.
#[derive(Debug)]
pub struct HostFrame {
    bytes: Bytes,
    header: FrameHeader,
    packets: Vec<AudioPacket>,
}

impl HostFrame {
    /// Reads a frame that came at `now`. Fails where it is not one of Opus.
    pub fn decode(bytes: Bytes, now: UnixMillis) -> Result<Self, FrameError> {
        let (header, packets) = decode_opus_frame(bytes.clone(), now.to_micros())?;
        Ok(Self { bytes, header, packets })
    }
}

impl SessionState {
    /// Takes a chunk. Fails over a rate limit of the host, and once the session has ended.
    pub fn receive_chunk(
        &mut self,
        HostChunk { chunk, body_bytes }: HostChunk,
        now: UnixMillis,
        effects: &mut Effects,
    ) -> Result<ChunkOutcome, Refusal> {
        self.check_live()?;
        self.limits.take_chunk(body_bytes, chunk.duration(), now)?;
        // Only now: a host that floods is not heard, and its session ends in time.
        self.note_host_heard(false, now, effects);
        let chunk = Arc::new(chunk);
        let outcome = self.audio.receive_chunk(Arc::clone(&chunk), now, effects);
        if outcome == ChunkOutcome::Taken {
            self.received_bytes += chunk.len() as u64;
            if self.replica.has_audio_lease(now) {
                let message = ReplicaMessage::Chunk(chunk.header, chunk.samples().clone());
                effects.push(Effect::Replicate(NodeId::ALL, message));
            }
            self.store_chunk(chunk, effects);
        }
        Ok(outcome)
    }

    /// Takes a frame of Opus; returns the bytes of the packets that were new. Fails over a rate limit of the host, and once
    /// the session has ended.
    pub fn receive_frame(&mut self, frame: HostFrame, now: UnixMillis, effects: &mut Effects) -> Result<u64, Refusal> {
        self.check_live()?;
        self.limits.take_frame(frame.bytes.len(), packets_duration(&frame.packets), now)?;
        self.note_host_heard(true, now, effects);
        let length = self.audio.receive_packets(&frame.header, frame.packets, effects);
        self.received_bytes += length;
        if self.replica.has_audio_lease(now) {
            effects.push(Effect::Replicate(NodeId::ALL, ReplicaMessage::Frame(frame.bytes)));
        }
        Ok(length)
    }

    /// Counts a text of the host's socket before it is read. Fails over a rate limit of the host.
    pub fn count_text(&mut self, bytes: usize, now: UnixMillis) -> Result<(), Refusal> {
        self.limits.take_text(bytes, now)
    }

    /// Makes a socket the host's, in place of one before; returns its number.
    pub fn connect_host(&mut self, now: UnixMillis, effects: &mut Effects) -> Result<u64, Refusal> {
        self.check_live()?;
        let number = self.host.connect(now);
        self.set_away(false, effects);
        effects.announce(ControlMessage::HostSocket { here: true, number });
        effects.push(Effect::RequestHeartbeat);
        // Every socket of a host hears this and compares its number: that it is not the host's any more shows by that.
        effects.notify(SessionEvent::HostReplaced);
        Ok(number)
    }

    /// Notes that the socket of this number is gone.
    pub fn disconnect_host(&mut self, number: u64, effects: &mut Effects) {
        if self.ended.is_some() || !self.host.disconnect(number) {
            return;
        }
        self.set_away(true, effects);
        effects.announce(ControlMessage::HostSocket { here: false, number });
        effects.push(Effect::RequestHeartbeat);
    }

    /// Returns whether the socket of this number is the host's.
    pub fn is_host(&self, number: u64) -> bool {
        self.host.socket_number() == number
    }

    /// Counts a change of the metadata before it is read; returns the metadata so far. Fails over the rate limit, and once
    /// the session has ended.
    pub fn prepare_metadata(&mut self, now: UnixMillis) -> Result<Option<Arc<SongMetadata>>, Refusal> {
        self.check_live()?;
        // Before the body is read: a cover of megabytes costs more than the limit saves otherwise.
        self.limits.take_metadata(now)?;
        Ok(self.metadata.clone())
    }

    /// Takes metadata in place of that `before`; returns the number of listeners who are told.
    pub fn set_metadata(
        &mut self,
        metadata: &Arc<SongMetadata>,
        before: Option<&SongMetadata>,
        now: UnixMillis,
        effects: &mut Effects,
    ) -> Result<usize, Refusal> {
        self.check_live()?;
        // Whoever sends metadata by requests may have a socket beside it.
        self.note_host_heard(self.host.is_connected(), now, effects);
        let tag = |metadata: &SongMetadata| metadata.cover.as_ref().map(|cover| cover.tag.clone());
        let changed = before.is_none_or(|before| tag(before) != tag(metadata));
        let with_cover = self.replica.takes_cover(changed, now);
        effects.push(Effect::PublishMetadata { metadata: Arc::clone(metadata), with_cover });
        self.metadata = Some(Arc::clone(metadata));
        effects.notify(SessionEvent::MetadataChanged);
        Ok(self.listener_count(now))
    }

    /// Stores a chunk for programs that read no more than that, where the operator wants it.
    pub(super) fn store_chunk(&self, chunk: Arc<AudioChunk>, effects: &mut Effects) {
        if self.config.stores_audio {
            // One more than fits, so that rounding never keeps less than the buffer.
            let kept =
                usize::try_from(self.config.buffer.as_micros() / chunk.duration().as_micros().max(1)).unwrap_or(0) + 1;
            effects.push(Effect::StoreChunk { chunk, kept });
        }
    }

    fn note_host_heard(&mut self, over_socket: bool, now: UnixMillis, effects: &mut Effects) {
        let begins = self.host.note_heard_here(over_socket, now);
        self.set_away(false, effects);
        if begins {
            effects.push(Effect::RequestHeartbeat);
        }
    }
}

/// Transcoder.
impl SessionState {
    /// Takes audio that the transcoder of this number has made; returns false where nobody wants it any more.
    pub fn receive_transcoded(&mut self, transcoder: u64, output: TranscodeOutput, effects: &mut Effects) -> bool {
        if self.ended.is_some() || !self.audio.accepts_transcoded(transcoder) {
            return false;
        }
        match output {
            TranscodeOutput::Packets(packets) => self.audio.receive_made_packets(packets, effects),
            TranscodeOutput::Blocks(blocks) => {
                for (samples, arrived_at) in blocks {
                    let chunk = self.audio.receive_made_block(samples, arrived_at, effects);
                    // Another node stores what the host sends there.
                    if self.host.sends_here(arrived_at.to_millis()) {
                        self.store_chunk(chunk, effects);
                    }
                }
            }
        }
        true
    }
}
