//! Tags of a track's file, by range reads: its head and its tail, and what else the tags turn out to need, up to a bound.

mod sparse_reader;
mod tags;

use super::SourceFailure;
use super::object_reader::{ByteRange, ObjectReader, TrackBucket};
use sparse_reader::SparseReader;
pub use tags::TrackTags;

use primitives::blocking_calls::{BlockingCallError, BlockingCalls};

/// Bytes that are read of the head and of the tail at first.
const HEAD_BYTES: u64 = 128 << 10;
const TAIL_BYTES: u64 = 64 << 10;
/// Most bytes that are read of one file: tags with a large picture before the text need them.
const MAX_BYTES: u64 = 4 << 20;
/// Most requests for one file.
const MAX_REQUESTS: u32 = 8;

/// Reads the tags of the track at `key`; `None` where the object is not there or no tags are found within the bounds.
pub async fn read(
    reader: &ObjectReader,
    parser: &BlockingCalls,
    bucket: &TrackBucket,
    key: &str,
) -> Result<Option<TrackTags>, SourceFailure> {
    let Some(head) = reader.read_range(bucket, key, &ByteRange::Head(HEAD_BYTES), None).await? else { return Ok(None) };
    let etag = head.etag.clone();
    let mut file = SparseReader::new(head.size);
    file.insert(0, head.bytes);
    if let Some(from) = head.size.checked_sub(TAIL_BYTES).filter(|from| *from > 0 && head.size > HEAD_BYTES) {
        let from = from.max(HEAD_BYTES);
        let tail = ByteRange::Span(from, head.size);
        match reader.read_range(bucket, key, &tail, etag.as_deref()).await? {
            Some(tail) => file.insert(from, tail.bytes),
            None => return Ok(None),
        }
    }
    let (mut step, mut requests) = (HEAD_BYTES, 2);
    loop {
        // Parsing takes time, and a file may be made to have it take more.
        let parse = move || {
            let tags = file.parse(tags::read);
            (tags, file)
        };
        let (tags, parsed) = match parser.run(parse).await {
            Ok(parsed) => parsed,
            // A parser that panics has read a bad file.
            Err(BlockingCallError::Panicked) => return Ok(None),
            Err(BlockingCallError::TimedOut) => return Err(SourceFailure::Busy),
        };
        file = parsed;
        if file.is_too_slow() {
            // It is known then that the file has none that can be read, until it changes.
            tracing::info!("the tags of a track take too long to be read");
        }
        let Some(missing) = file.take_missing() else { return Ok(tags) };
        if requests >= MAX_REQUESTS || file.known_bytes() >= MAX_BYTES {
            // Without the length and the like, which need frames from all over the file, tags may still be read.
            return match parser.run(move || file.parse(tags::read_without_properties)).await {
                Ok(tags) => Ok(tags),
                Err(BlockingCallError::Panicked) => Ok(None),
                Err(BlockingCallError::TimedOut) => Err(SourceFailure::Busy),
            };
        }
        (requests, step) = (requests + 1, (step * 2).min(MAX_BYTES - file.known_bytes()));
        let span = ByteRange::Span(missing, file.end_of_gap(missing).min(missing + step));
        match reader.read_range(bucket, key, &span, etag.as_deref()).await? {
            Some(part) if !part.bytes.is_empty() => file.insert(missing, part.bytes),
            _ => return Ok(None),
        }
    }
}
