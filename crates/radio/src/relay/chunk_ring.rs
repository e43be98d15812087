//! Ring of the last chunks of a station's sound, bounded in bytes. Listeners hold a number and no queue: what a slow one has
//! not taken costs nothing. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that a chunk takes besides its own: so many small ones are bounded too.
const CHUNK_OVERHEAD: usize = 128;

/// Chunk of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoundChunk {
    /// The sound.
    pub bytes: Bytes,
    /// What a listener needs before it who begins here: the header pages of an Ogg stream.
    pub preamble: Option<Bytes>,
}

/// The ring.
#[derive(Debug)]
pub struct ChunkRing {
    chunks: VecDeque<SoundChunk>,
    /// Number of the first chunk that is kept.
    first: u64,
    /// What the chunks hold: a preamble counts once, however many chunks of a row share it.
    bytes: usize,
    max_bytes: usize,
}

/// Chunk of a number.
#[derive(Debug, PartialEq, Eq)]
pub enum ChunkAt<'a> {
    /// It is here.
    Here(&'a SoundChunk),
    /// It is still to come.
    Pending,
    /// It has been dropped.
    Overrun,
}

impl ChunkRing {
    /// Creates an empty ring of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self { chunks: VecDeque::new(), first: 0, bytes: 0, max_bytes }
    }

    /// Adds a chunk, and drops the oldest ones past the bound.
    pub fn push(&mut self, chunk: SoundChunk) {
        self.bytes += chunk.bytes.len() + CHUNK_OVERHEAD + unshared(self.chunks.back(), &chunk);
        self.chunks.push_back(chunk);
        while self.bytes > self.max_bytes && self.chunks.len() > 1 {
            self.drop_first();
        }
    }

    /// Drops all chunks; numbers go on.
    pub fn clear(&mut self) {
        while !self.chunks.is_empty() {
            self.drop_first();
        }
        self.chunks.shrink_to_fit();
    }

    fn drop_first(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            // The next one holds on to a preamble that both have.
            let preamble =
                if self.chunks.is_empty() { preamble_bytes(&chunk) } else { unshared(self.chunks.front(), &chunk) };
            self.bytes -= chunk.bytes.len() + CHUNK_OVERHEAD + preamble;
            self.first += 1;
        }
    }

    /// Returns the number of the next chunk.
    pub fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// Returns the number at which a listener begins who is to have the last `burst` bytes at once.
    pub fn burst_begin(&self, burst: usize) -> u64 {
        let (mut number, mut bytes) = (self.end(), 0);
        for chunk in self.chunks.iter().rev() {
            bytes += chunk.bytes.len();
            if bytes > burst {
                break;
            }
            number -= 1;
        }
        // A chunk larger than the burst is better than silence.
        if number == self.end() { number.saturating_sub(1).max(self.first) } else { number }
    }

    /// Returns the chunk of this number.
    pub fn get(&self, number: u64) -> ChunkAt<'_> {
        let Some(index) = number.checked_sub(self.first) else { return ChunkAt::Overrun };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.chunks.get(index).map_or(ChunkAt::Pending, ChunkAt::Here)
    }
}

/// Returns the bytes of a chunk's preamble.
fn preamble_bytes(chunk: &SoundChunk) -> usize {
    chunk.preamble.as_ref().map_or(0, Bytes::len)
}

/// Returns the bytes of a chunk's preamble, where the chunk beside it has another one.
fn unshared(beside: Option<&SoundChunk>, chunk: &SoundChunk) -> usize {
    let of = |chunk: &SoundChunk| chunk.preamble.as_ref().map(|preamble| (preamble.as_ptr(), preamble.len()));
    if beside.is_some_and(|beside| of(beside) == of(chunk)) { 0 } else { preamble_bytes(chunk) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: usize) -> SoundChunk {
        SoundChunk { bytes: Bytes::from(vec![0; bytes]), preamble: None }
    }

    #[test]
    fn the_oldest_chunks_go_past_the_bound_and_numbers_go_on() {
        let mut ring = ChunkRing::new(10 * (10 + CHUNK_OVERHEAD));
        assert_eq!((ring.burst_begin(50), ring.get(0)), (0, ChunkAt::Pending));
        (0..15).for_each(|_| ring.push(chunk(10)));
        assert_eq!(
            (ring.bytes, ring.end(), ring.burst_begin(35), ring.burst_begin(1000)),
            (10 * (10 + CHUNK_OVERHEAD), 15, 12, 5)
        );
        assert_eq!(ring.get(4), ChunkAt::Overrun);
        assert!(matches!(ring.get(5), ChunkAt::Here(_)));
        ring.push(chunk(5000));
        assert_eq!((ring.chunks.len(), ring.burst_begin(35)), (1, 15), "a large one is kept, and begun at");
        ring.clear();
        assert_eq!((ring.bytes, ring.end(), ring.burst_begin(35)), (0, 16, 16));
    }

    #[test]
    fn preambles_count_once_for_those_that_share_them() {
        let mut ring = ChunkRing::new(10_000);
        let preambled = |preamble: &Bytes| SoundChunk { preamble: Some(preamble.clone()), ..chunk(10) };
        let shared = Bytes::from(vec![0; 3000]);
        (0..4).for_each(|_| ring.push(preambled(&shared)));
        assert_eq!(ring.bytes, 4 * (10 + CHUNK_OVERHEAD) + 3000);
        // Each with a copy of its own.
        (0..50).for_each(|_| ring.push(preambled(&Bytes::from(vec![0; 3000]))));
        assert_eq!((ring.chunks.len(), ring.bytes), (3, 3 * (3010 + CHUNK_OVERHEAD)));
        ring.clear();
        assert_eq!(ring.bytes, 0);
    }
}
