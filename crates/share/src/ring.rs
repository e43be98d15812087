//! The last seconds of a session in the document's form, for those who poll.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::chunk::Chunk;

/// Chunks of one poll at most.
pub const POLL: usize = 10;
/// Chunks behind the live edge that a poll without a position begins with: the document's receiver starts with five.
const START: usize = 5;
/// Chunks kept at most, however short they are.
const MOST: usize = 256;

/// The chunks, oldest first; their numbers rise.
pub struct Ring {
    window: i64,
    held: i64,
    /// Bytes of samples at most, and now: a chunk that was given out as text has four thirds of that besides.
    most: usize,
    bytes: usize,
    chunks: VecDeque<Arc<Chunk>>,
}

impl Ring {
    /// An empty ring that keeps `window` of audio, of `most` bytes of samples.
    pub fn new(window: Duration, most: usize) -> Self {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        Self { window, held: 0, most, bytes: 0, chunks: VecDeque::new() }
    }

    /// Adds the next one and drops what is too old; returns how many were dropped.
    pub fn push(&mut self, chunk: Arc<Chunk>) -> usize {
        self.held += chunk.micros();
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        let mut dropped = 0;
        while self.chunks.len() > 1 && (self.held > self.window || self.bytes > self.most || self.chunks.len() > MOST) {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// Forgets what came before `time`, in microseconds.
    pub fn forget_before(&mut self, time: i64) {
        while self.chunks.front().is_some_and(|oldest| oldest.arrived <= time) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(old) = self.chunks.pop_front() {
            self.held -= old.micros();
            self.bytes -= old.len();
        }
    }

    /// What came after the chunk of this number, oldest first. A number that was never given out, such as -1 or one of a
    /// host that has begun anew, starts near the live edge.
    pub fn since(&self, sequence: i64) -> impl Iterator<Item = &Arc<Chunk>> {
        let newest = self.newest().unwrap_or(-1);
        let first = if sequence < 0 || sequence > newest {
            self.chunks.len().saturating_sub(START)
        } else {
            self.chunks.partition_point(|chunk| chunk.label.sequence <= sequence)
        };
        self.chunks.range(first..).take(POLL)
    }

    /// The number of the newest one.
    pub fn newest(&self) -> Option<i64> {
        self.chunks.back().map(|chunk| chunk.label.sequence)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Chunk>> {
        self.chunks.iter()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.chunks = VecDeque::new();
        (self.held, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Label;
    use super::*;

    fn ring(numbers: impl IntoIterator<Item = i64>) -> Ring {
        let mut ring = Ring::new(Duration::from_secs(5), usize::MAX);
        for sequence in numbers {
            let label = Label { sequence, rate: 44_100, channels: 2, timestamp: 0 };
            ring.push(Arc::new(Chunk::from_samples(label, vec![0; 4096 * 8].into(), 0).expect("a good chunk")));
        }
        ring
    }

    fn since(ring: &Ring, sequence: i64) -> Vec<i64> {
        ring.since(sequence).map(|chunk| chunk.label.sequence).collect()
    }

    #[test]
    fn it_keeps_five_seconds() {
        let ring = ring(0..100);
        assert_eq!(ring.iter().count(), 53);
        assert_eq!(ring.newest(), Some(99));
    }

    #[test]
    fn it_keeps_no_more_bytes_than_it_may_and_nothing_old() {
        let mut ring = Ring::new(Duration::from_secs(30), 10 * 4096 * 8);
        for sequence in 0..50 {
            let label = Label { sequence, rate: 192_000, channels: 2, timestamp: 0 };
            let chunk = Chunk::from_samples(label, vec![0; 4096 * 8].into(), sequence * 1_000).expect("a good chunk");
            ring.push(Arc::new(chunk));
        }
        assert_eq!((ring.chunks.len(), ring.bytes), (10, 10 * 4096 * 8));
        ring.forget_before(45_000);
        assert_eq!((since(&ring, -1), ring.bytes), (vec![46, 47, 48, 49], 4 * 4096 * 8));
        ring.forget_before(i64::MAX);
        assert_eq!((ring.newest(), ring.bytes, ring.held), (None, 0, 0));
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
