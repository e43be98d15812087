//! Reader of a response body: the slices of its span one after another, each from memory or as it is filled. It reads
//! at the client's pace and never copies. While it reads on, the next slice is fetched ahead.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::cache_keys::SliceKey;
use super::cached_metadata::CachedMetadata;
use super::fill::{self, FillHandle, FillJob, FillRead};
use super::{CacheStatus, SliceCache};
use crate::AttemptStats;
use crate::ObjectError;
use crate::ObjectOrigin;
use http_semantics::range::ByteRange;

/// First pause before a slice that failed mid-stream is tried again; doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Most slices that are looked up to predict the cache status of a response.
const MAX_SLICES_CHECKED: usize = 1024;

/// Reader of a response body from the cache.
pub struct SliceReader {
    cache: Arc<SliceCache>,
    origin: Arc<ObjectOrigin>,
    meta: Arc<CachedMetadata>,
    /// Byte positions in the object that the client has not been sent yet.
    remaining: Range<u64>,
    /// Slice that the current bytes belong to.
    source: CurrentSlice,
    bytes: Bytes,
    window: Range<usize>,
    /// True if the first window was filled before it was asked for.
    primed: bool,
    /// Fill of the next slice; holding it keeps the fill alive.
    ahead: Option<FillHandle>,
    /// True if the reader began the current slice at its first byte.
    sequential: bool,
    initial_status: CacheStatus,
    served: ServedBytes,
    attempt_stats: AttemptStats,
}

/// Slice that is being read.
enum CurrentSlice {
    /// No slice yet, or the last one is at its end.
    Nothing,
    /// The whole slice is in `bytes`.
    Kept { number: u64, from: SliceSource },
    /// The slice is being filled.
    Filling(FillHandle),
}

/// Source of a slice at the time when it was wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SliceSource {
    Memory,
    Disk,
    Store,
}

impl FillHandle {
    fn source(&self) -> SliceSource {
        if self.is_from_disk() { SliceSource::Disk } else { SliceSource::Store }
    }
}

/// Bytes sent to the client, by source.
#[derive(Clone, Copy, Debug, Default)]
struct ServedBytes {
    memory: u64,
    disk: u64,
    store: u64,
}

impl SliceReader {
    /// Creates a reader of the bytes `span` (`None`: the object is empty). `begun_with` is how the metadata was found,
    /// `begun` the fill that finding it began; `trace` is that of the request.
    pub(super) fn new(
        cache: &Arc<SliceCache>,
        origin: &Arc<ObjectOrigin>,
        meta: &Arc<CachedMetadata>,
        span: Option<ByteRange>,
        (begun_with, begun, trace): (CacheStatus, Option<FillHandle>, &request_traces::RequestTrace),
    ) -> Self {
        Self {
            cache: Arc::clone(cache),
            origin: Arc::clone(origin),
            meta: Arc::clone(meta),
            remaining: span.map_or(0..0, |span| span.first..span.last + 1),
            source: CurrentSlice::Nothing,
            bytes: Bytes::new(),
            window: 0..0,
            primed: false,
            ahead: begun,
            sequential: false,
            initial_status: begun_with,
            served: ServedBytes::default(),
            attempt_stats: AttemptStats::traced(trace),
        }
    }

    /// Waits for the first bytes, so that a failure can still become a status. The next [`SliceReader::fill`] returns
    /// them at once.
    pub(super) async fn prime(&mut self) -> Result<(), ObjectError> {
        if !self.remaining.is_empty() {
            self.next().await?;
            self.primed = true;
        }
        Ok(())
    }

    /// Makes the client's next bytes available, `room` at most. Returns false at the end. Tries a slice again that
    /// fails for the store's reasons, for up to the route's idle time.
    pub async fn fill(&mut self, room: usize) -> Result<bool, ObjectError> {
        let more = self.next_window().await?;
        self.window.end = self.window.end.min(self.window.start.saturating_add(room));
        Ok(more)
    }

    async fn next_window(&mut self) -> Result<bool, ObjectError> {
        if std::mem::take(&mut self.primed) {
            return Ok(true);
        }
        self.advance();
        self.window = 0..0;
        if self.remaining.is_empty() {
            return Ok(false);
        }
        let mut pause = FIRST_PAUSE;
        let deadline = Instant::now() + self.origin.timeouts.idle;
        let mut others = self.origin.cluster.members().len().saturating_sub(1);
        loop {
            match self.next().await {
                // The header is out: a store that comes back in time costs the client a pause, not the stream. One that
                // sends nonsense may have a neighbour that does not.
                Err(failure) if is_transient(failure) && (others > 0 || Instant::now() + pause < deadline) => {
                    others = others.saturating_sub(1);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome.map(|()| true),
            }
        }
    }

    /// Returns the bytes that the reader keeps in memory at most.
    pub fn kept_bytes(&self) -> usize {
        let slices = usize::from(self.slice_source().is_some()) + usize::from(self.ahead.is_some());
        slices * self.cache.slice_size as usize
    }

    /// Leaves the current slice, and the one that is fetched ahead, until [`SliceReader::fill`] is called again: nothing of
    /// the object is then kept in memory for this reader. The bytes of the last window count as taken.
    pub fn release(&mut self) {
        // Primed bytes were not asked for yet: they will be found again.
        if std::mem::take(&mut self.primed) {
            self.window = 0..0;
        }
        self.advance();
        self.leave_slice();
        self.ahead = None;
    }

    /// Returns the bytes that the last [`SliceReader::fill`] made available.
    pub fn available(&self) -> &[u8] {
        &self.bytes[self.window.clone()]
    }

    /// Returns the available bytes as an owned value, without a copy.
    pub fn to_bytes(&self) -> Bytes {
        self.bytes.slice(self.window.clone())
    }

    /// Returns how often the slices before the current one were continued.
    pub fn resumes(&self) -> u32 {
        self.attempt_stats.resumes.total()
    }

    /// Returns the effort so far, with the cache status.
    pub fn attempt_stats(&self) -> AttemptStats {
        let mut tally = self.attempt_stats.clone();
        if let CurrentSlice::Filling(filling) = &self.source {
            tally = tally.merged_with(filling.attempt_stats());
        }
        AttemptStats { cache: Some(self.cache_status()), ..tally }
    }

    /// Returns the number of bytes that it keeps in memory, whoever else does.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let of = |fill: &FillHandle| fill.progress.borrow().held_bytes();
        let source = if let CurrentSlice::Filling(filling) = &self.source { of(filling) } else { 0 };
        self.bytes.len() + source + self.ahead.as_ref().map_or(0, of)
    }

    /// Returns the cache status of the bytes sent so far.
    pub fn cache_status(&self) -> CacheStatus {
        let ServedBytes { memory, disk, store } = self.served;
        // The window that was made available last counts too.
        let now = self.slice_source().filter(|_| !self.window.is_empty());
        let store = store > 0 || now == Some(SliceSource::Store);
        let kept = memory + disk > 0 || matches!(now, Some(SliceSource::Memory | SliceSource::Disk));
        match self.initial_status {
            // Stale wins: it is said of the metadata, wherever single slices came from.
            CacheStatus::Stale => CacheStatus::Stale,
            _ if store && kept => CacheStatus::Partial,
            _ if store => CacheStatus::Miss,
            begun => begun,
        }
    }

    /// Returns true if the current bytes come from the store, which has confirmed their version.
    pub(super) fn is_from_store(&self) -> bool {
        self.slice_source() == Some(SliceSource::Store)
    }

    /// Returns the cache status that the whole response will have, as far as it can be known before the end.
    pub fn expected_cache_status(&self) -> CacheStatus {
        let state = self.cache_status();
        let size = u64::from(self.cache.slice_size);
        let rest = (self.remaining.start / size + 1..self.remaining.end.div_ceil(size)).take(MAX_SLICES_CHECKED);
        let all = rest.into_iter().all(|number| self.cache.slice_store.load().may_contain(&self.key(number)));
        match state {
            CacheStatus::Hit | CacheStatus::Revalidated if !all => CacheStatus::Partial,
            state => state,
        }
    }

    /// Records that the bytes of the last window have been taken.
    fn advance(&mut self) {
        let taken = self.window.len() as u64;
        self.remaining.start += taken;
        self.window = 0..0;
        match self.slice_source() {
            None => {}
            Some(SliceSource::Memory) => self.served.memory += taken,
            Some(SliceSource::Disk) => self.served.disk += taken,
            Some(SliceSource::Store) => self.served.store += taken,
        }
    }

    /// Returns the source of the slice that is being read.
    fn slice_source(&self) -> Option<SliceSource> {
        match &self.source {
            CurrentSlice::Nothing => None,
            CurrentSlice::Kept { from, .. } => Some(*from),
            CurrentSlice::Filling(filling) => Some(filling.source()),
        }
    }

    /// Makes the bytes at the reader's position available. Fails as the fill of their slice does.
    async fn next(&mut self) -> Result<(), ObjectError> {
        let size = u64::from(self.cache.slice_size);
        // The remainder is less than a slice's size, which is a `u32`.
        let (number, offset) = (self.remaining.start / size, (self.remaining.start % size) as usize);
        if self.number() != Some(number) {
            self.open(number, offset == 0)?;
        }
        loop {
            let CurrentSlice::Filling(filling) = &mut self.source else {
                self.set_window(offset);
                return Ok(());
            };
            let found = filling.progress.borrow_and_update().read_at(offset);
            match found {
                FillRead::Bytes(bytes) => {
                    self.bytes = bytes;
                    self.set_window(0);
                    return Ok(());
                }
                FillRead::Whole(bytes) => {
                    self.attempt_stats = std::mem::take(&mut self.attempt_stats).merged_with(filling.attempt_stats());
                    self.source = CurrentSlice::Kept { number, from: filling.source() };
                    self.bytes = bytes;
                }
                FillRead::Failed(failure) => {
                    self.leave_slice();
                    return Err(failure);
                }
                FillRead::Pending => {
                    // The fill ended without a result, as at shutdown.
                    if filling.progress.changed().await.is_err() {
                        self.leave_slice();
                        return Err(ObjectError::BrokenBody);
                    }
                }
            }
        }
    }

    /// Makes the bytes from `start` on available, as far as the client wants them.
    fn set_window(&mut self, start: usize) {
        let left = usize::try_from(self.remaining.end - self.remaining.start).unwrap_or(usize::MAX);
        let end = self.bytes.len().min(start.saturating_add(left));
        self.window = start..end;
    }

    fn number(&self) -> Option<u64> {
        match &self.source {
            CurrentSlice::Nothing => None,
            CurrentSlice::Kept { number, .. } | CurrentSlice::Filling(FillHandle { number, .. }) => Some(*number),
        }
    }

    /// Goes to the slice `number`, at its beginning or inside it.
    fn open(&mut self, number: u64, at_start: bool) -> Result<(), ObjectError> {
        // The last slice was read to its end, or there was none.
        let read_whole = self.sequential && self.number().is_some();
        self.leave_slice();
        self.sequential = at_start;
        let job = self.fill_job(number)?;
        let ahead = self.ahead.take().filter(|ahead| ahead.number == number);
        self.source = match self.cache.slice_store.load().slice(&job.key) {
            Some(bytes) => self.use_kept_slice(number, bytes, ahead.as_ref()),
            None => match fill::join_or_start(&self.cache, job) {
                Ok(filling) => {
                    // Joining a fill that this reader began ahead is still its own effort.
                    let own = filling.is_leader || ahead.is_some_and(|ahead| ahead.is_leader);
                    CurrentSlice::Filling(FillHandle { is_leader: own, ..filling })
                }
                Err(bytes) => self.use_kept_slice(number, bytes, ahead.as_ref()),
            },
        };
        // Only a client that has read a whole slice is likely to want the next one: others seek.
        if read_whole {
            self.fetch_ahead(number + 1);
        }
        Ok(())
    }

    /// Uses a slice that is in memory, possibly because this reader fetched it ahead.
    fn use_kept_slice(&mut self, number: u64, bytes: Bytes, ahead: Option<&FillHandle>) -> CurrentSlice {
        self.bytes = bytes;
        let stats = ahead.map(FillHandle::attempt_stats).unwrap_or_default();
        self.attempt_stats = std::mem::take(&mut self.attempt_stats).merged_with(stats);
        CurrentSlice::Kept { number, from: ahead.map_or(SliceSource::Memory, FillHandle::source) }
    }

    /// Leaves the current slice. Its effort counts for this reader if it began the fill.
    fn leave_slice(&mut self) {
        if let CurrentSlice::Filling(filling) = &self.source {
            self.attempt_stats = std::mem::take(&mut self.attempt_stats).merged_with(filling.attempt_stats());
        }
        (self.source, self.bytes, self.window) = (CurrentSlice::Nothing, Bytes::new(), 0..0);
    }

    /// Begins the fill of slice `number`, if the client wants it and it is not in memory.
    fn fetch_ahead(&mut self, number: u64) {
        if number.saturating_mul(u64::from(self.cache.slice_size)) >= self.remaining.end {
            return;
        }
        let Ok(job) = self.fill_job(number) else { return };
        // All permits taken: a fetch ahead would wait behind the fills that clients need now.
        if self.cache.slice_store.load().is_in_memory(&job.key)
            || self.meta.version.fill_permits.available_permits() == 0
        {
            return;
        }
        if let Ok(filling) = fill::join_or_start(&self.cache, job) {
            if filling.is_leader {
                self.cache.stats.read_aheads.increment();
            }
            self.ahead = Some(filling);
        }
    }

    fn key(&self, number: u64) -> SliceKey {
        SliceKey { version: Arc::clone(&self.meta.version), number, size: self.cache.slice_size }
    }

    fn fill_job(&self, number: u64) -> Result<FillJob, ObjectError> {
        let key = self.key(number);
        // Ranges are within the object; a slice outside it would mean that the object has changed.
        let span = key.byte_range().ok_or(ObjectError::Changed)?;
        let trace = self.attempt_stats.trace.clone();
        Ok(FillJob { key, span, origin: Arc::clone(&self.origin), started_download: None, trace })
    }
}

/// Returns true if another attempt may succeed without a change of the object or the configuration.
fn is_transient(failure: ObjectError) -> bool {
    failure.is_store_failure() || matches!(failure, ObjectError::InvalidResponse(_))
}

impl Drop for SliceReader {
    fn drop(&mut self) {
        // Primed bytes were never asked for, so they were not sent.
        if !self.primed {
            self.advance();
        }
        self.cache.stats.memory_bytes.add(self.served.memory);
        self.cache.stats.disk_bytes.add(self.served.disk);
        self.cache.stats.store_bytes.add(self.served.store);
    }
}
