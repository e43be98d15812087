//! Buffers that bodies were read into, kept for the next ones: the one used last is still in the processor's cache, where
//! an allocator would go round all that it has.

use parking_lot::Mutex;
use thread_local::ThreadLocal;

/// Buffers kept for each thread.
const MAX_KEPT: usize = 8;
/// Smaller ones are the allocator's business.
const MIN_CAPACITY: usize = 32 * 1024;

/// Empty buffers of each thread.
#[derive(Default)]
pub struct BufferPool(ThreadLocal<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    /// An empty buffer for `capacity` bytes and not many more: somebody may hold it for long.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        let mut kept = self.0.get_or_default().lock();
        let found = kept.iter().rposition(|buffer| has_fitting_capacity(buffer, capacity));
        found.map_or_else(|| Vec::with_capacity(capacity), |at| kept.remove(at))
    }

    /// Keeps `buffer`, whatever it holds; the one that was kept first goes where there are too many.
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

/// Whether `buffer` is of the size to hold `capacity` bytes.
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
