//! Fill of one slice: from the disk, else from the store, once for all readers, who follow it as it grows. A body that
//! breaks is continued by [`ResumableDownload`]. A slice is kept only when it is whole and of its version. A fill that
//! all readers have left is finished where the next reader would only begin it again.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::SliceCache;
use super::cache_keys::SliceKey;
use super::single_flight::{FlightLeader, FlightRole, SingleFlight};
use crate::AttemptStats;
use crate::ObjectError;
use crate::ObjectOrigin;
use crate::ResumableDownload;
use crate::fetch::{StoreReply, StoreRequest, query_store};
use http_semantics::etag::ETag;
use http_semantics::range::{ByteRange, ContentRange, RangeSpec};
use request_traces::RequestTrace;
use upstream::connection::UpstreamResponse;

/// Most bytes of one read from the store. The slice needs the memory anyway.
pub(super) const READ_SIZE: usize = 256 * 1024;
/// Most bytes of a piece that is shared while the slice comes. A reader that stands still holds the piece that it
/// reads.
const MAX_PIECE: usize = 64 * 1024;
/// Part of a slice that is fetched for nobody rather than begun again: one of this many.
const NEARLY_THERE: u64 = 4;
/// Time limit for the rest of a slice that nobody waits for: a slow store's permits are for clients who wait.
const FINISH_WITHIN: Duration = Duration::from_secs(3);
/// Most abandoned slices that are remembered, in 16 KiB.
const MOST_ABANDONED: usize = 2048;

/// Fills under way, by slice.
pub type SliceFills = SingleFlight<SliceKey, FillProgress>;

/// Digests of the slices that were abandoned last. One that is begun again is finished.
#[derive(Default)]
pub struct AbandonedSlices(Mutex<VecDeque<u64>>);

impl AbandonedSlices {
    fn add(&self, key: &SliceKey) {
        let (digest, mut digests) = (digest(key), self.0.lock());
        // A slice that is abandoned often takes one place.
        digests.retain(|other| *other != digest);
        digests.truncate(MOST_ABANDONED - 1);
        digests.push_front(digest);
    }

    fn has(&self, key: &SliceKey) -> bool {
        self.0.lock().contains(&digest(key))
    }
}

fn digest(key: &SliceKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// A reader's part in a fill. The fill goes on while one is held.
#[derive(Clone)]
pub struct FillHandle {
    /// Number of the slice.
    pub number: u64,
    /// Progress of the fill.
    pub progress: watch::Receiver<FillProgress>,
    /// True if this reader began the fill, so that its effort counts for this reader.
    pub is_leader: bool,
}

impl FillHandle {
    /// Returns true if the slice came from the disk.
    pub fn is_from_disk(&self) -> bool {
        self.progress.borrow().from_disk
    }

    /// Returns the effort so far, if this reader began the fill; else only server and error.
    pub fn attempt_stats(&self) -> AttemptStats {
        let progress = self.progress.borrow();
        if self.is_leader { progress.attempt_stats.clone() } else { progress.attempt_stats.for_follower() }
    }
}

/// Progress of a fill.
#[derive(Default)]
pub struct FillProgress {
    /// Pieces that have come, in order, each with its offset in the slice.
    chunks: Vec<(usize, Bytes)>,
    length: usize,
    end: Option<Result<Bytes, ObjectError>>,
    /// True if the slice comes from the disk.
    pub from_disk: bool,
    /// Effort so far.
    pub attempt_stats: AttemptStats,
}

/// Result of a read at an offset of the slice.
pub enum FillRead {
    /// Bytes that begin at the offset.
    Bytes(Bytes),
    /// The whole slice.
    Whole(Bytes),
    /// No byte has come yet.
    Pending,
    /// No byte will come.
    Failed(ObjectError),
}

impl FillProgress {
    /// Returns the bytes from `offset` on, as far as they have come. Bytes that came before a failure can still be
    /// read.
    pub fn read_at(&self, offset: usize) -> FillRead {
        match &self.end {
            Some(Ok(whole)) => return FillRead::Whole(whole.clone()),
            Some(Err(failure)) if offset >= self.length => return FillRead::Failed(*failure),
            _ if offset >= self.length => return FillRead::Pending,
            _ => {}
        }
        // The pieces are in order and the first begins at 0, so there is one at or before the offset.
        let next = self.chunks.partition_point(|(start, _)| *start <= offset);
        let (start, bytes) = &self.chunks[next - 1];
        FillRead::Bytes(bytes.slice(offset - start..))
    }

    fn push(&mut self, bytes: Bytes) {
        let start = self.length;
        self.length += bytes.len();
        self.chunks.push((start, bytes));
    }

    /// Records the result. Pieces of a whole slice are dropped: they are the same bytes again, and nobody asks for them
    /// any more.
    fn finish(&mut self, outcome: Result<Bytes, ObjectError>) {
        if outcome.is_ok() {
            self.chunks = Vec::new();
        }
        self.end = Some(outcome);
    }

    /// Returns the number of bytes that it keeps in memory.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        let whole = self.end.as_ref().and_then(|end| end.as_ref().ok()).map_or(0, Bytes::len);
        whole + self.chunks.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

/// A fill to be done.
pub struct FillJob {
    /// Slice to be filled.
    pub key: SliceKey,
    /// Byte range of the slice in the object.
    pub span: ByteRange,
    /// Origin of the object.
    pub origin: Arc<ObjectOrigin>,
    /// Response that has begun already, with its permit among the fills of the store.
    pub started_download: Option<(ResumableDownload, OwnedSemaphorePermit)>,
    /// Trace of the request that it is filled for.
    pub trace: RequestTrace,
}

/// Follows the fill of the slice, or begins it. The error is the slice itself, which is in memory by now.
pub fn join_or_start(cache: &Arc<SliceCache>, job: FillJob) -> Result<FillHandle, Bytes> {
    let number = job.key.number;
    match cache.fills.join_or_lead(&job.key) {
        FlightRole::Joined(following) => Ok(FillHandle { number, progress: following, is_leader: false }),
        FlightRole::Leading(lead, following) => {
            // It may have been finished between the look-up in the cache and the one in the table.
            if let Some(bytes) = cache.slice_store.load().slice(&job.key) {
                return Err(bytes);
            }
            let own = Arc::clone(cache);
            cache.spawn(async move { run(&own, &lead, job).await });
            Ok(FillHandle { number, progress: following, is_leader: true })
        }
    }
}

async fn run(cache: &SliceCache, lead: &FlightLeader<SliceKey, FillProgress>, job: FillJob) {
    let (key, length) = (job.key.clone(), job.span.len());
    // Biased: a fill that has ended counts as such, even if its last reader left at the same time.
    tokio::select! {
        biased;
        () = fill(cache, lead, job) => {}
        () = abandoned(cache, lead, &key, length) => {
            cache.stats.cancelled.increment();
            cache.abandoned.add(&key);
        }
    }
}

/// Waits until all readers have left a slice that is not worth finishing, or that was not finished in time.
async fn abandoned(cache: &SliceCache, lead: &FlightLeader<SliceKey, FillProgress>, key: &SliceKey, length: u64) {
    loop {
        lead.deserted().await;
        let come = lead.read(|progress| progress.length) as u64;
        // `min`, so that the difference cannot underflow whatever came.
        let is_nearly_there = length - come.min(length) <= u64::from(key.size) / NEARLY_THERE;
        // Every player begins with the first slice, many with a request for two bytes of it.
        if come > 0 && (is_nearly_there || key.number == 0 || cache.abandoned.has(key)) {
            tokio::time::sleep(FINISH_WITHIN).await;
        }
        if lead.end_if_deserted() {
            return;
        }
    }
}

async fn fill(cache: &SliceCache, lead: &FlightLeader<SliceKey, FillProgress>, mut job: FillJob) {
    let version = Arc::clone(&job.key.version);
    if job.started_download.is_none()
        && let Some(bytes) = cache.slice_store.load_full().slice_on_disk(&job.key, job.span.len()).await
    {
        return lead.update(|progress| {
            progress.from_disk = true;
            progress.end = Some(Ok(bytes));
        });
    }
    let mut tally = AttemptStats::traced(&job.trace);
    let outcome = match job.started_download.take() {
        // It has a permit already: whoever holds one must not wait for another.
        Some((mut body, _place)) => {
            body.trace(&job.trace);
            copy_body(lead, job.span, &mut body, &tally).await
        }
        None => fill_from_store(cache, lead, &job, &mut tally).await,
    };
    match &outcome {
        Ok(bytes) => {
            cache.stats.filled.increment();
            cache.slice_store.load().keep_slice(job.key, bytes.clone());
        }
        Err(failure) => {
            cache.stats.failed.increment();
            // The object was overwritten: the next request must not be answered from the old metadata.
            if *failure == ObjectError::Changed {
                cache.slice_store.load().forget_version(&version);
            }
        }
    }
    lead.update(|progress| {
        // `copy_body` has reported the effort already, unless it was never reached.
        if progress.attempt_stats == AttemptStats::default() {
            progress.attempt_stats = tally;
        }
        progress.finish(outcome);
    });
}

async fn fill_from_store(
    cache: &SliceCache,
    lead: &FlightLeader<SliceKey, FillProgress>,
    job: &FillJob,
    tally: &mut AttemptStats,
) -> Result<Bytes, ObjectError> {
    // The version first: fills that wait for it hold none of the store's permits.
    let _turn = job.key.version.fill_permits.acquire().await;
    let _place = cache.fill_permit(&job.origin.store).await;
    let mut body = open_download(cache, job, tally).await?;
    copy_body(lead, job.span, &mut body, tally).await
}

/// Requests exactly this slice of exactly this version. Fails with `Changed` where the object was overwritten, or as
/// the request does.
async fn open_download(
    cache: &SliceCache,
    job: &FillJob,
    tally: &mut AttemptStats,
) -> Result<ResumableDownload, ObjectError> {
    let version = &job.key.version;
    let range = RangeSpec::From { first: job.span.first, last: Some(job.span.last) }.to_header();
    let key = &*version.object.key;
    let question =
        StoreRequest { head: false, key, range: Some(&range), if_match: Some(&version.etag), room: READ_SIZE };
    cache.stats.fills.increment();
    match query_store(&job.origin, &question, tally).await? {
        StoreReply::Object(response, in_flight) => {
            let checked = check_response(&response, job.span, &version.etag);
            let etag = Some(version.etag.clone());
            let body = ResumableDownload::new(Arc::clone(&job.origin), key, etag, response.body, in_flight);
            let mut body = body.with_range(Some(job.span), 0);
            body.trace(&tally.trace);
            match checked {
                Ok(()) => Ok(body),
                // Another destination may send the right part.
                Err(ObjectError::InvalidResponse(_)) => body.retry_elsewhere().await,
                Err(failure) => Err(failure),
            }
        }
        StoreReply::PreconditionFailed | StoreReply::RangeNotSatisfiable(_) => Err(ObjectError::Changed),
    }
}

/// Checks that the response has only the bytes and the version that were requested: a 206 that says so, or a 200 where
/// the slice is the whole object.
fn check_response(response: &UpstreamResponse, span: ByteRange, etag: &ETag) -> Result<(), ObjectError> {
    if !is_version(&response.headers, etag) {
        return Err(ObjectError::Changed);
    }
    let announced = response.body.content_length();
    let fits = match response.status {
        StatusCode::PARTIAL_CONTENT => {
            let sent =
                response.headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
            sent.is_some_and(|sent| sent.span == span) && announced.is_none_or(|length| length == span.len())
        }
        _ => span.first == 0 && announced == Some(span.len()),
    };
    if fits { Ok(()) } else { Err(ObjectError::InvalidResponse("another part of the object than the one asked for")) }
}

fn is_version(headers: &HeaderMap, etag: &ETag) -> bool {
    let sent = headers.get(header::ETAG).and_then(|value| ETag::parse(value.as_bytes()));
    sent.is_some_and(|sent| sent.strong_eq(etag))
}

/// Reads the body into the slice and returns it in one piece. Bytes that have come are shared at once, in pieces of
/// their own, so that a reader holds no more than the piece that it reads.
async fn copy_body(
    lead: &FlightLeader<SliceKey, FillProgress>,
    span: ByteRange,
    body: &mut ResumableDownload,
    before: &AttemptStats,
) -> Result<Bytes, ObjectError> {
    let length = usize::try_from(span.len()).map_err(|_| ObjectError::InvalidResponse("a slice larger than memory"))?;
    let mut pieces: Vec<Bytes> = Vec::with_capacity(8);
    let mut taken = 0;
    while read_more(lead, body, before).await? {
        let bytes = body.available();
        // A body that comes at once is one piece, and is kept as it is. `max(1)`, because `chunks` panics on 0.
        let most = if bytes.len() == length { length.max(1) } else { MAX_PIECE };
        let come: Vec<Bytes> = bytes.chunks(most).map(Bytes::copy_from_slice).collect();
        taken += bytes.len();
        pieces.extend(come.iter().cloned());
        let tally = before.clone().merged_with(body.attempt_stats());
        lead.update(|progress| {
            come.into_iter().for_each(|piece| progress.push(piece));
            progress.attempt_stats = tally;
        });
    }
    // Only a whole slice may be kept, whatever the download says.
    if taken != length {
        return Err(ObjectError::BrokenBody);
    }
    match pieces.as_slice() {
        [only] => Ok(only.clone()),
        all => Ok(Bytes::from(all.concat())),
    }
}

/// Makes the body's next bytes available. After a failure the readers find the effort in the progress.
async fn read_more(
    lead: &FlightLeader<SliceKey, FillProgress>,
    body: &mut ResumableDownload,
    before: &AttemptStats,
) -> Result<bool, ObjectError> {
    let more = body.fill(READ_SIZE, false).await;
    if more.is_err() {
        let tally = before.clone().merged_with(body.attempt_stats());
        lead.update(|progress| progress.attempt_stats = tally);
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_finds_its_place_in_a_slice_that_grows() {
        let mut progress = FillProgress::default();
        assert!(matches!(progress.read_at(0), FillRead::Pending));
        progress.push(Bytes::from_static(b"abc"));
        progress.push(Bytes::from_static(b"de"));
        for (offset, expected) in [(0, "abc"), (1, "bc"), (2, "c"), (3, "de"), (4, "e")] {
            assert!(matches!(progress.read_at(offset), FillRead::Bytes(bytes) if bytes == expected), "{offset}");
        }
        assert!(matches!(progress.read_at(5), FillRead::Pending));
        progress.end = Some(Err(ObjectError::BrokenBody));
        assert!(matches!(progress.read_at(4), FillRead::Bytes(_)), "what has come is given out before the failure");
        assert!(matches!(progress.read_at(5), FillRead::Failed(ObjectError::BrokenBody)));
        progress.finish(Ok(Bytes::from_static(b"abcdef")));
        assert_eq!(progress.held_bytes(), 6, "the pieces are dropped");
        assert!(matches!(progress.read_at(5), FillRead::Whole(bytes) if bytes == "abcdef"));
    }
}
