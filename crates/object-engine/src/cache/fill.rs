//! One slice on its way into the cache: from the disk, else from the store, once for all readers, who follow it as it
//! grows. A body that breaks is continued by [`Download`]; a slice is kept only when it is whole and of its version. One
//! that all readers have left is finished where the next one would only begin it again.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Cache;
use super::flights::{Flights, Lead, Part};
use super::name::SliceKey;
use crate::Download;
use crate::Failure;
use crate::Origin;
use crate::Tally;
use crate::fetch::{Question, Reply, ask};
use http_semantics::etag::ETag;
use http_semantics::range::{ContentRange, RangeSpec, Span};
use upstream::connection::Response;

/// Bytes read at once: the memory is there anyway.
pub(super) const PIECE: usize = 256 * 1024;
/// The part of a slice that is fetched for nobody rather than begun again: a quarter.
const NEARLY_THERE: u64 = 4;
/// For the rest of a slice that nobody waits for: a slow store's places are for those who do.
const FINISH_WITHIN: Duration = Duration::from_secs(3);
/// Abandoned slices that are remembered, in 16 KiB.
const MOST_ABANDONED: usize = 2048;

/// Slices on their way.
pub type Fills = Flights<SliceKey, Progress>;

/// Slices that were given up last, by a digest of their names: one that is begun again is finished.
#[derive(Default)]
pub struct AbandonedSlices(Mutex<VecDeque<u64>>);

impl AbandonedSlices {
    fn add(&self, key: &SliceKey) {
        let (digest, mut digests) = (digest(key), self.0.lock());
        // However often one slice is given up, it takes one place.
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

/// A part in a fill: while one is held, the fill goes on.
#[derive(Clone)]
pub struct Filling {
    /// The slice's number.
    pub number: u64,
    /// What there is of it.
    pub following: watch::Receiver<Progress>,
    /// Whether this one began it, so that what it takes is this one's effort.
    pub own: bool,
}

impl Filling {
    /// Whether it came from the disk.
    pub fn is_from_disk(&self) -> bool {
        self.following.borrow().from_disk
    }

    /// What it took so far, where this one began it.
    pub fn tally(&self) -> Tally {
        let progress = self.following.borrow();
        if self.own { progress.tally.clone() } else { progress.tally.for_follower() }
    }
}

/// What there is of a slice.
#[derive(Default)]
pub struct Progress {
    /// What has come, in order, each part with its place in the slice.
    chunks: Vec<(usize, Bytes)>,
    length: usize,
    end: Option<Result<Bytes, Failure>>,
    /// Whether it comes from the disk.
    pub from_disk: bool,
    /// What it took so far.
    pub tally: Tally,
}

/// What a reader finds at its place.
pub enum Found {
    /// Bytes that begin there.
    Bytes(Bytes),
    /// The whole slice.
    Whole(Bytes),
    /// Nothing yet.
    Later,
    /// Nothing, ever.
    Never(Failure),
}

impl Progress {
    /// What there is from `offset` on.
    pub fn at(&self, offset: usize) -> Found {
        match &self.end {
            Some(Ok(whole)) => return Found::Whole(whole.clone()),
            Some(Err(failure)) if offset >= self.length => return Found::Never(*failure),
            _ if offset >= self.length => return Found::Later,
            _ => {}
        }
        let next = self.chunks.partition_point(|(start, _)| *start <= offset);
        let (start, bytes) = &self.chunks[next - 1];
        Found::Bytes(bytes.slice(offset - start..))
    }

    fn push(&mut self, bytes: Bytes) {
        let start = self.length;
        self.length += bytes.len();
        self.chunks.push((start, bytes));
    }
}

/// What is to be filled.
pub struct Job {
    /// The slice.
    pub key: SliceKey,
    /// Its place in the object; its size is the object's matter.
    pub span: Span,
    /// Where it comes from.
    pub origin: Arc<Origin>,
    /// The answer that is already there, with its place among the fills of the store.
    pub begun: Option<(Download, OwnedSemaphorePermit)>,
}

/// Follows the fill of `job`'s slice, or begins it. The error is the slice itself: it is in memory by now.
pub fn join(cache: &Arc<Cache>, job: Job) -> Result<Filling, Bytes> {
    let number = job.key.number;
    match cache.fills.part(&job.key) {
        Part::Joined(following) => Ok(Filling { number, following, own: false }),
        Part::Leading(lead, following) => {
            // It may have been finished between the look into the cache and the one into the table.
            if let Some(bytes) = cache.shelf.slice(&job.key) {
                return Err(bytes);
            }
            let own = Arc::clone(cache);
            cache.spawn(async move { run(&own, &lead, job).await });
            Ok(Filling { number, following, own: true })
        }
    }
}

async fn run(cache: &Cache, lead: &Lead<SliceKey, Progress>, job: Job) {
    let (key, length) = (job.key.clone(), job.span.len());
    tokio::select! {
        biased;
        () = fill(cache, lead, job) => {}
        () = abandoned(cache, lead, &key, length) => {
            cache.stats.cancelled.up();
            cache.abandoned.add(&key);
        }
    }
}

/// Resolves when all readers have left a slice that is not worth finishing, or was not finished in time.
async fn abandoned(cache: &Cache, lead: &Lead<SliceKey, Progress>, key: &SliceKey, length: u64) {
    loop {
        lead.deserted().await;
        let come = lead.read(|progress| progress.length) as u64;
        let is_nearly_there = length - come.min(length) <= u64::from(key.size) / NEARLY_THERE;
        // Every player begins with the first slice, many with a question for two bytes of it.
        if come > 0 && (is_nearly_there || key.number == 0 || cache.abandoned.has(key)) {
            tokio::time::sleep(FINISH_WITHIN).await;
        }
        if lead.end_if_deserted() {
            return;
        }
    }
}

async fn fill(cache: &Cache, lead: &Lead<SliceKey, Progress>, mut job: Job) {
    let version = Arc::clone(&job.key.version);
    if job.begun.is_none()
        && let Some(bytes) = cache.shelf.slice_on_disk(&job.key, job.span.len()).await
    {
        return lead.update(|progress| {
            progress.from_disk = true;
            progress.end = Some(Ok(bytes));
        });
    }
    let mut tally = Tally::default();
    let outcome = match job.begun.take() {
        // It has its place already: whoever holds one must not wait for another.
        Some((mut body, _place)) => pour(lead, job.span, &mut body, &tally).await,
        None => from_store(cache, lead, &job, &mut tally).await,
    };
    match &outcome {
        Ok(bytes) => {
            cache.stats.filled.up();
            cache.shelf.keep_slice(job.key, bytes.clone());
        }
        Err(failure) => {
            cache.stats.failed.up();
            if *failure == Failure::Changed {
                cache.shelf.forget_version(&version);
            }
        }
    }
    lead.update(|progress| {
        if progress.tally == Tally::default() {
            progress.tally = tally;
        }
        progress.end = Some(outcome);
    });
}

async fn from_store(
    cache: &Cache,
    lead: &Lead<SliceKey, Progress>,
    job: &Job,
    tally: &mut Tally,
) -> Result<Bytes, Failure> {
    let _turn = job.key.version.gate.acquire().await;
    let _place = cache.place(&job.origin.store).await;
    let mut body = open(cache, job, tally).await?;
    pour(lead, job.span, &mut body, tally).await
}

/// Asks the store for exactly this slice of exactly this version.
async fn open(cache: &Cache, job: &Job, tally: &mut Tally) -> Result<Download, Failure> {
    let version = &job.key.version;
    let range = RangeSpec::From { first: job.span.first, last: Some(job.span.last) }.to_header();
    let key = &*version.object.key;
    let question = Question { head: false, key, range: Some(&range), if_match: Some(&version.etag), room: PIECE };
    cache.stats.fills.up();
    match ask(&job.origin, &question, tally).await? {
        Reply::Object(response, in_flight) => {
            let checked = check(&response, job.span, &version.etag);
            let etag = Some(version.etag.clone());
            let body = Download::new(Arc::clone(&job.origin), key, etag, response.body, in_flight);
            let body = body.of(Some(job.span), 0);
            match checked {
                Ok(()) => Ok(body),
                Err(Failure::Nonsense(_)) => body.from_elsewhere().await,
                Err(failure) => Err(failure),
            }
        }
        Reply::PreconditionFailed | Reply::RangeNotSatisfiable(_) => Err(Failure::Changed),
    }
}

/// Only the bytes asked for, of the version asked for: a 206 that says so, or a 200 where the slice is the whole object.
fn check(response: &Response, span: Span, etag: &ETag) -> Result<(), Failure> {
    if !is_version(&response.headers, etag) {
        return Err(Failure::Changed);
    }
    let announced = response.body.announced();
    let fits = match response.status {
        StatusCode::PARTIAL_CONTENT => {
            let sent =
                response.headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
            sent.is_some_and(|sent| sent.span == span) && announced.is_none_or(|length| length == span.len())
        }
        _ => span.first == 0 && announced == Some(span.len()),
    };
    if fits { Ok(()) } else { Err(Failure::Nonsense("another part of the object than the one asked for")) }
}

fn is_version(headers: &HeaderMap, etag: &ETag) -> bool {
    let sent = headers.get(header::ETAG).and_then(|value| ETag::parse(value.as_bytes()));
    sent.is_some_and(|sent| sent.strong_eq(etag))
}

/// Moves the body into the slice. What has come is shared at once, without a copy; at the end it is made one piece.
async fn pour(
    lead: &Lead<SliceKey, Progress>,
    span: Span,
    body: &mut Download,
    before: &Tally,
) -> Result<Bytes, Failure> {
    let length = usize::try_from(span.len()).map_err(|_| Failure::Nonsense("a slice larger than memory"))?;
    let mut buffer = BytesMut::with_capacity(length);
    let mut chunks: Vec<Bytes> = Vec::with_capacity(8);
    let mut taken = 0;
    while more(lead, body, before).await? {
        let bytes = body.available();
        taken += bytes.len();
        buffer.extend_from_slice(bytes);
        let chunk = buffer.split().freeze();
        chunks.push(chunk.clone());
        let tally = before.clone().and(body.tally());
        lead.update(|progress| {
            progress.push(chunk);
            progress.tally = tally;
        });
    }
    if taken != length {
        return Err(Failure::BrokenBody);
    }
    match chunks.as_slice() {
        [only] => Ok(only.clone()),
        all => Ok(Bytes::from(all.concat())),
    }
}

/// Makes the body's next bytes available; a failure leaves what it took to the readers.
async fn more(lead: &Lead<SliceKey, Progress>, body: &mut Download, before: &Tally) -> Result<bool, Failure> {
    let more = body.fill(PIECE, false).await;
    if more.is_err() {
        let tally = before.clone().and(body.tally());
        lead.update(|progress| progress.tally = tally);
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_finds_its_place_in_a_slice_that_grows() {
        let mut progress = Progress::default();
        assert!(matches!(progress.at(0), Found::Later));
        progress.push(Bytes::from_static(b"abc"));
        progress.push(Bytes::from_static(b"de"));
        for (offset, expected) in [(0, "abc"), (1, "bc"), (2, "c"), (3, "de"), (4, "e")] {
            assert!(matches!(progress.at(offset), Found::Bytes(bytes) if bytes == expected), "{offset}");
        }
        assert!(matches!(progress.at(5), Found::Later));
        progress.end = Some(Err(Failure::BrokenBody));
        assert!(matches!(progress.at(4), Found::Bytes(_)), "what has come is given out before the failure");
        assert!(matches!(progress.at(5), Found::Never(Failure::BrokenBody)));
        progress.end = Some(Ok(Bytes::from_static(b"abcdef")));
        assert!(matches!(progress.at(5), Found::Whole(bytes) if bytes == "abcdef"));
    }
}
