//! Listener of a relay: a place in its ring, and nothing that grows.

use bytes::Bytes;
use tokio::sync::watch;

use super::chunk_ring::{ChunkAt, SoundChunk};
use super::station_relay::{RelayHandle, StationRelay};
use crate::listening_events::Listening;
use crate::metrics::{RadioMetrics, StreamEnd};
use crate::source::audio_format::AudioCodec;

/// The listener.
pub struct RelayListener {
    handle: RelayHandle,
    progress: watch::Receiver<()>,
    codec: AudioCodec,
    /// Number of the next chunk.
    at: u64,
    /// True until the first chunk: it may need something before it.
    is_first: bool,
    /// Chunk whose preamble was given.
    pending: Option<Bytes>,
}

impl RelayListener {
    /// Creates a listener of a relay that sends this codec, who gets the last `burst` bytes first.
    pub fn new(handle: RelayHandle, codec: AudioCodec, burst: usize) -> Self {
        let (progress, at) = (handle.relay().subscribe(), handle.relay().sound.lock().ring.burst_begin(burst));
        Self { handle, progress, codec, at, is_first: true, pending: None }
    }

    /// Returns the relay.
    pub fn relay(&self) -> &StationRelay {
        self.handle.relay()
    }

    /// Returns the next bytes, or the reason for which there are none. Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Bytes, StreamEnd> {
        if let Some(bytes) = self.pending.take() {
            return Ok(bytes);
        }
        let SoundChunk { bytes, preamble } = self.next_chunk().await?;
        match preamble.filter(|_| std::mem::take(&mut self.is_first)) {
            Some(preamble) => {
                self.pending = Some(bytes);
                Ok(preamble)
            }
            None => {
                self.is_first = false;
                Ok(bytes)
            }
        }
    }

    /// Returns the next chunk, or the reason for which there is none. Can be dropped and called again.
    pub async fn next_chunk(&mut self) -> Result<SoundChunk, StreamEnd> {
        loop {
            self.progress.mark_unchanged();
            if let Some(next) = self.take_chunk() {
                return next;
            }
            // Its sender is the relay, which lives as long as the handle.
            self.progress.changed().await.map_err(|_| StreamEnd::Shutdown)?;
        }
    }

    fn take_chunk(&mut self) -> Option<Result<SoundChunk, StreamEnd>> {
        let sound = self.handle.relay().sound.lock();
        if let Some(end) = sound.ended {
            return Some(Err(end));
        }
        if sound.codec != Some(self.codec) {
            return Some(Err(StreamEnd::FormatChanged));
        }
        match sound.ring.get(self.at) {
            ChunkAt::Here(chunk) => {
                self.at += 1;
                Some(Ok(chunk.clone()))
            }
            ChunkAt::Pending => None,
            ChunkAt::Overrun => Some(Err(StreamEnd::Slow)),
        }
    }

    /// Returns true where it is further behind than the ring keeps.
    fn is_overrun(&self) -> bool {
        let sound = self.handle.relay().sound.lock();
        sound.ended.is_none() && sound.ring.get(self.at) == ChunkAt::Overrun
    }
}

/// Listener that is counted: on its station's board, and by the reason of its end when it is dropped.
pub struct CountedListener {
    listener: RelayListener,
    metrics: RadioMetrics,
    end: Option<StreamEnd>,
    listening: Option<Listening>,
}

impl CountedListener {
    /// Counts `listener`, whose end is told to `listening`.
    pub fn new(listener: RelayListener, metrics: RadioMetrics, listening: Option<Listening>) -> Self {
        listener.relay().board.add_listener();
        metrics.listeners.inc();
        Self { listener, metrics, end: None, listening }
    }

    /// Returns the codec of what is heard.
    pub fn codec(&self) -> AudioCodec {
        self.listener.codec
    }

    /// Returns the next bytes; `None` at the end. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self.listener.next().await {
            Ok(bytes) => {
                self.metrics.sent_bytes.inc_by(bytes.len() as u64);
                Some(bytes)
            }
            Err(end) => {
                self.end = Some(end);
                None
            }
        }
    }

    /// Ends it for a reason that the relay does not know.
    pub fn finish(&mut self, end: StreamEnd) {
        self.end = Some(end);
    }
}

impl Drop for CountedListener {
    fn drop(&mut self) {
        // A connection that takes nothing ends by its own timeout, without asking for more.
        let end = self.end.unwrap_or(if self.listener.is_overrun() { StreamEnd::Slow } else { StreamEnd::Left });
        self.metrics.count_end(end);
        if let Some(listening) = self.listening.take() {
            listening.end(end);
        }
        self.metrics.listeners.dec();
        self.listener.relay().board.remove_listener();
    }
}
