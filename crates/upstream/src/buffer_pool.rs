//! Pool of buffers that bodies are read into. The buffer used last is still in the processor's cache, while an
//! allocator would use all of its memory in turn.

use parking_lot::Mutex;
use thread_local::ThreadLocal;

/// Most buffers kept for each thread.
const MAX_KEPT: usize = 8;
/// Bytes below which a buffer is not kept: allocators are good at small ones.
const MIN_CAPACITY: usize = 32 * 1024;

/// Pool of empty buffers for each thread.
#[derive(Default)]
pub struct BufferPool(ThreadLocal<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    /// Returns an empty buffer for `capacity` bytes and at most a quarter more: a slow client may hold it for long.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        let mut kept = self.0.get_or_default().lock();
        // From the end: the buffer that was used last is the one in the cache.
        let found = kept.iter().rposition(|buffer| has_fitting_capacity(buffer, capacity));
        found.map_or_else(|| Vec::with_capacity(capacity), |at| kept.remove(at))
    }

    /// Returns `buffer`, emptied, to this thread's pool; frees it if its capacity is under 32 KiB. A full pool frees its
    /// oldest buffer.
    pub fn keep(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() < MIN_CAPACITY {
            return;
        }
        buffer.clear();
        let mut kept = self.0.get_or_default().lock();
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push(buffer);
    }
}

/// Returns true if the capacity of `buffer` is at least `capacity` and at most a quarter more.
pub fn has_fitting_capacity(buffer: &Vec<u8>, capacity: usize) -> bool {
    (capacity..=capacity + capacity / 4).contains(&buffer.capacity())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_that_fits_is_used_again() {
        let buffers = BufferPool::default();
        let (first, last) = (Vec::with_capacity(64 * 1024), Vec::with_capacity(64 * 1024));
        let kept = [first.as_ptr(), last.as_ptr()];
        buffers.keep(first);
        buffers.keep(last);
        let others = [buffers.take(128 * 1024), buffers.take(40 * 1024)];
        assert!(others.iter().all(|other| !kept.contains(&other.as_ptr())), "too small, too large");
        let again = [buffers.take(60 * 1024), buffers.take(60 * 1024)];
        assert_eq!([again[1].as_ptr(), again[0].as_ptr()], kept);
        assert!(again.iter().all(Vec::is_empty));
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let buffers = BufferPool::default();
        for _ in 0..3 * MAX_KEPT {
            buffers.keep(Vec::with_capacity(MIN_CAPACITY));
        }
        buffers.keep(Vec::with_capacity(MIN_CAPACITY - 1));
        assert_eq!(buffers.0.get_or_default().lock().len(), MAX_KEPT);
    }
}
