//! The host's side of a session.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;

use super::Session;
use super::event::SessionEvent;
use super::metadata::SongMetadata;
use super::state::{HostChunk, HostFrame};
use crate::audio::reorder_buffer::ChunkOutcome;
use crate::refusal::Refusal;
use primitives::unix_time::UnixMillis;

/// Socket of a host, until this is dropped.
pub struct HostConnection {
    session: Arc<Session>,
    number: u64,
    /// Events of the session.
    pub events: broadcast::Receiver<SessionEvent>,
}

impl Session {
    /// Takes a chunk; returns false where it came too late to be of use. Fails over a rate limit of the host, and once the
    /// session has ended.
    pub fn receive_chunk(&self, chunk: HostChunk, now: UnixMillis) -> Result<bool, Refusal> {
        let bytes = chunk.chunk.len() as u64;
        let outcome = self.apply(|state, effects| state.receive_chunk(chunk, now, effects))?;
        let (result, buffered) = match outcome {
            ChunkOutcome::Taken => ("buffered", true),
            ChunkOutcome::Duplicate => ("duplicate", true),
            ChunkOutcome::Late => ("late", false),
        };
        self.count_received(result, if outcome == ChunkOutcome::Taken { bytes } else { 0 });
        Ok(buffered)
    }

    /// Takes a frame of Opus packets. Fails where it is none, over a rate limit of the host, and once the session has ended.
    pub fn receive_frame(&self, frame: Bytes, now: UnixMillis) -> Result<(), Refusal> {
        let frame = HostFrame::decode(frame, now)?;
        let bytes = self.apply(|state, effects| state.receive_frame(frame, now, effects))?;
        self.count_received(if bytes == 0 { "duplicate" } else { "buffered" }, bytes);
        Ok(())
    }

    /// Counts a text of the host's socket before it is read. Fails over the rate limit, which is the session's: a new
    /// socket does not begin anew.
    pub fn count_text(&self, bytes: usize, now: UnixMillis) -> Result<(), Refusal> {
        self.apply(|state, _| state.count_text(bytes, now))
    }

    /// Connects the host's socket, in place of one before. Fails once the session has ended.
    pub fn connect_host(self: &Arc<Self>, now: UnixMillis) -> Result<HostConnection, Refusal> {
        let mut locked = self.lock();
        let number = locked.apply(|state, effects| state.connect_host(now, effects))?;
        // Only now: the event that replaces the socket before is not for this one.
        Ok(HostConnection { session: Arc::clone(self), number, events: self.events.subscribe() })
    }

    /// Returns whether this socket is still the host's.
    pub fn is_host(&self, connection: &HostConnection) -> bool {
        self.read(|state| state.is_host(connection.number))
    }

    /// Returns whether the host is there, as far as that can be said.
    pub fn has_host(&self) -> bool {
        self.read(super::SessionState::has_host)
    }

    /// Takes the metadata of a song as JSON; returns the number of listeners who are told. Fails where it is none, over a
    /// rate limit of the host, and once the session has ended.
    pub fn set_metadata(&self, body: &[u8], now: UnixMillis) -> Result<usize, Refusal> {
        let before = self.apply(|state, _| state.prepare_metadata(now))?;
        // A cover of megabytes is read without keeping the audio waiting.
        let metadata = SongMetadata::from_json(body, before.as_deref(), now, &|tag| self.sign_cover(tag))?;
        let metadata = Arc::new(metadata);
        self.apply(|state, effects| state.set_metadata(&metadata, before.as_deref(), now, effects))
    }

    /// Returns what listeners show to see the cover of this tag, and nothing else.
    pub fn sign_cover(&self, tag: &str) -> String {
        self.services.tickets.sign_cover(self.id, tag)
    }

    fn count_received(&self, result: &str, bytes: u64) {
        let metrics = &self.services.metrics;
        metrics.chunks.with_label_values(&[result]).inc();
        metrics.audio_bytes.with_label_values(&["in"]).inc_by(bytes);
    }
}

impl Drop for HostConnection {
    fn drop(&mut self) {
        self.session.apply(|state, effects| state.disconnect_host(self.number, effects));
    }
}
