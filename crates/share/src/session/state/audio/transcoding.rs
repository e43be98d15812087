//! Transcoding of a session's audio: who needs the codec that the host does not send, and audio that was made in it.

use std::sync::Arc;

use bytes::Bytes;

use super::{AudioState, BACKLOG_PACKETS};
use crate::audio::chunk::{AudioChunk, ChunkHeader};
use crate::audio::frame::Codec;
use crate::audio::packet_queue::{AudioFormat, AudioPacket};
use crate::audio::transcode::{TRANSCODED_FORMAT, TranscodeInput};
use crate::refusal::Refusal;
use crate::session::state::effect::{Effect, Effects};
use primitives::unix_time::UnixMicros;

impl AudioState {
    /// Asks for a transcoder where listeners of `codec` need one that does not run.
    pub fn require(&mut self, codec: Codec, effects: &mut Effects) {
        if self.lacks(codec) {
            self.start_transcoder(effects);
        }
    }

    /// Fails where `codec` cannot be had: its transcoder was refused.
    pub fn check_available(&self, codec: Codec) -> Result<(), Refusal> {
        if self.lacks(codec) { Err(Refusal::TooManyTranscodes) } else { Ok(()) }
    }

    fn lacks(&self, codec: Codec) -> bool {
        codec != self.source && !self.transcoding && self.epoch > 0
    }

    /// Starts or stops the transcoder by who is there; `polled`: somebody polls floats.
    pub fn update_transcoder(&mut self, polled: bool, effects: &mut Effects) {
        let other = self.other_codec();
        let needed = self.listeners[other as usize] > 0 || (polled && other == Codec::F32);
        if !needed {
            self.stop_transcoder(effects);
        } else if self.lacks(other) {
            self.start_transcoder(effects);
        }
    }

    /// Notes that the transcoder that was asked for runs.
    pub fn transcoder_started(&mut self) {
        // Audio that one before it had made is old by now.
        let codec = self.other_codec();
        self.queue(codec).clear();
        if self.source == Codec::Opus {
            self.ring.clear();
        }
    }

    /// Sets whether a transcoder runs: one may have been refused, or have broken down.
    pub fn set_transcoding(&mut self, runs: bool) {
        self.transcoding = runs;
    }

    /// Returns whether this transcoder works for somebody. One that was stopped may still have audio on its way when the
    /// next one begins, with audio from before.
    pub fn accepts_transcoded(&self, transcoder: u64) -> bool {
        self.transcoding && self.transcoder == transcoder
    }

    /// Takes packets that were made from floats.
    pub fn receive_made_packets(&mut self, packets: Vec<AudioPacket>, effects: &mut Effects) {
        self.push_packets(Codec::Opus, packets, effects);
    }

    /// Takes a block of floats that was made from Opus which came at `arrived_at`; returns it as a chunk.
    pub fn receive_made_block(
        &mut self,
        samples: Bytes,
        arrived_at: UnixMicros,
        effects: &mut Effects,
    ) -> Arc<AudioChunk> {
        let AudioFormat { sample_rate, channels } = TRANSCODED_FORMAT;
        let header = ChunkHeader { sequence: self.next_made, sample_rate, channels, timestamp: arrived_at.to_millis() };
        self.next_made += 1;
        let chunk = AudioChunk::from_samples(header, samples, arrived_at).expect("a block is a good chunk");
        let chunk = Arc::new(chunk);
        self.push_floats(&chunk, effects);
        self.keep_chunk(Arc::clone(&chunk));
        chunk
    }

    /// Asks for a transcoder to the codec that the host does not send, which begins with the last of the epoch.
    pub(super) fn start_transcoder(&mut self, effects: &mut Effects) {
        let backlog = match self.source {
            Codec::F32 => self.newest_of_epoch().into_iter().map(TranscodeInput::Chunk).collect(),
            Codec::Opus => vec![TranscodeInput::Packets(self.opus.newest_packets(BACKLOG_PACKETS))],
        };
        self.transcoding = true;
        self.transcoder += 1;
        effects.push(Effect::StartTranscoder { transcoder: self.transcoder, codec: self.other_codec(), backlog });
    }

    pub(super) fn stop_transcoder(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut self.transcoding) {
            effects.push(Effect::StopTranscoder);
        }
    }

    /// Returns the codec that the host does not send.
    pub(super) fn other_codec(&self) -> Codec {
        match self.source {
            Codec::F32 => Codec::Opus,
            Codec::Opus => Codec::F32,
        }
    }
}
