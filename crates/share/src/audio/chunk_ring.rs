//! Ring buffer of a session's last seconds of floats, for listeners that poll.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::chunk::AudioChunk;
use primitives::unix_time::UnixMicros;

/// Chunks of one poll at most.
pub const MAX_POLL_CHUNKS: usize = 10;
/// Chunks behind the live edge at which a poll without a position begins: the document's receiver starts to play with
/// five.
const LIVE_EDGE_CHUNKS: usize = 5;
/// Chunks kept at most, however short they are.
const MAX_CHUNKS: usize = 256;

/// Ring buffer of chunks, oldest first; their numbers rise.
pub struct ChunkRing {
    window: Duration,
    held: Duration,
    /// Bytes of samples at most. A chunk that was given out as text has four thirds of its bytes besides.
    max_bytes: usize,
    bytes: usize,
    chunks: VecDeque<Arc<AudioChunk>>,
}

impl ChunkRing {
    /// Creates an empty ring that keeps `window` of audio, of `most` bytes of samples.
    pub fn new(window: Duration, most: usize) -> Self {
        Self { window, held: Duration::ZERO, max_bytes: most, bytes: 0, chunks: VecDeque::new() }
    }

    /// Adds a chunk and drops those that do not fit any more; returns how many were dropped.
    pub fn push(&mut self, chunk: Arc<AudioChunk>) -> usize {
        self.held += chunk.duration();
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        let mut dropped = 0;
        // The newest one stays however long it is: somebody has to get it.
        while self.chunks.len() > 1
            && (self.held > self.window || self.bytes > self.max_bytes || self.chunks.len() > MAX_CHUNKS)
        {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// Drops chunks that came before `time`.
    pub fn forget_before(&mut self, time: UnixMicros) {
        while self.chunks.front().is_some_and(|oldest| oldest.arrived_at <= time) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(old) = self.chunks.pop_front() {
            self.held = self.held.saturating_sub(old.duration());
            self.bytes -= old.len();
        }
    }

    /// Returns the chunks after this number, oldest first and [`MAX_POLL_CHUNKS`] at most. A number that was never
    /// given out, such as -1 or one of a host that has begun anew, starts near the live edge.
    pub fn after(&self, sequence: i64) -> impl Iterator<Item = &Arc<AudioChunk>> {
        let newest = self.newest_sequence().unwrap_or(-1);
        let first = if sequence < 0 || sequence > newest {
            self.chunks.len().saturating_sub(LIVE_EDGE_CHUNKS)
        } else {
            self.chunks.partition_point(|chunk| chunk.header.sequence <= sequence)
        };
        self.chunks.range(first..).take(MAX_POLL_CHUNKS)
    }

    /// Returns the number of the newest chunk.
    pub fn newest_sequence(&self) -> Option<i64> {
        self.chunks.back().map(|chunk| chunk.header.sequence)
    }

    /// Returns all chunks, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<AudioChunk>> {
        self.chunks.iter()
    }

    /// Drops all chunks.
    pub fn clear(&mut self) {
        // Not `clear`: sessions that nobody listens to should not hold memory.
        self.chunks = VecDeque::new();
        (self.held, self.bytes) = (Duration::ZERO, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::ChunkHeader;
    use super::*;
    use primitives::unix_time::UnixMillis;

    fn ring(numbers: impl IntoIterator<Item = i64>) -> ChunkRing {
        let mut ring = ChunkRing::new(Duration::from_secs(5), usize::MAX);
        for sequence in numbers {
            let label = ChunkHeader { sequence, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::EPOCH };
            ring.push(Arc::new(
                AudioChunk::from_samples(label, vec![0; 4096 * 8].into(), UnixMicros::EPOCH).expect("a good chunk"),
            ));
        }
        ring
    }

    fn since(ring: &ChunkRing, sequence: i64) -> Vec<i64> {
        ring.after(sequence).map(|chunk| chunk.header.sequence).collect()
    }

    #[test]
    fn it_keeps_five_seconds() {
        let ring = ring(0..100);
        assert_eq!(ring.iter().count(), 53);
        assert_eq!(ring.newest_sequence(), Some(99));
    }

    #[test]
    fn it_keeps_no_more_bytes_than_it_may_and_nothing_old() {
        let mut ring = ChunkRing::new(Duration::from_secs(30), 10 * 4096 * 8);
        for sequence in 0..50 {
            let label = ChunkHeader { sequence, sample_rate: 192_000, channels: 2, timestamp: UnixMillis::EPOCH };
            let chunk = AudioChunk::from_samples(label, vec![0; 4096 * 8].into(), UnixMicros::new(sequence * 1_000))
                .expect("a good chunk");
            ring.push(Arc::new(chunk));
        }
        assert_eq!((ring.chunks.len(), ring.bytes), (10, 10 * 4096 * 8));
        ring.forget_before(UnixMicros::new(45_000));
        assert_eq!((since(&ring, -1), ring.bytes), (vec![46, 47, 48, 49], 4 * 4096 * 8));
        ring.forget_before(UnixMicros::MAX);
        assert_eq!((ring.newest_sequence(), ring.bytes, ring.held), (None, 0, Duration::ZERO));
    }

    #[test]
    fn a_poll_gets_what_came_since_ten_at_most() {
        let ring = ring(0..40);
        assert_eq!(since(&ring, 36), [37, 38, 39]);
        assert!(since(&ring, 39).is_empty());
        assert_eq!(since(&ring, 3), (4..14).collect::<Vec<_>>());
        assert_eq!(since(&ring, -1), [35, 36, 37, 38, 39], "near the live edge");
        assert_eq!(since(&ring, 1000), [35, 36, 37, 38, 39], "a host that began anew");
    }

    #[test]
    fn missing_numbers_are_passed_over() {
        assert_eq!(since(&ring([1, 2, 5, 9]), 3), [5, 9]);
        assert!(since(&ring([]), -1).is_empty());
    }
}
