//! What a response body reads: the slices of its span one after another, each from memory, or as it is filled. It goes at
//! its own pace and never copies; while it reads on and on, the next slice is fetched ahead of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::fill::{self, Filling, Found, Job};
use super::meta::Meta;
use super::name::SliceKey;
use super::question::is_store_trouble;
use super::{Cache, State};
use crate::Failure;
use crate::Origin;
use crate::Tally;
use http_semantics::range::Span;

/// Before a slice that failed mid-stream is tried again: this, doubled each time up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Slices looked for when it is to be said beforehand where a response will come from.
const LOOKED_AT: usize = 1024;

/// A response body out of the cache.
pub struct Reader {
    cache: Arc<Cache>,
    origin: Arc<Origin>,
    meta: Arc<Meta>,
    /// What the player is owed, by positions in the object.
    owed: Range<u64>,
    /// Where the bytes come from that are given out now.
    source: Source,
    bytes: Bytes,
    window: Range<usize>,
    /// The first window was filled before it was asked for.
    primed: bool,
    /// The slice ahead; holding it keeps its fill alive.
    ahead: Option<Filling>,
    /// Whether the slice that is being read was begun at its first byte.
    sequential: bool,
    begun_with: State,
    served: Served,
    tally: Tally,
}

/// The slice that is being read.
enum Source {
    /// None yet, or the last one is at its end.
    Nothing,
    /// All of it is in `bytes`.
    Kept { number: u64, from: From },
    /// It is being filled.
    Filling(Filling),
}

/// Where a slice was when it was wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Memory,
    Disk,
    Store,
}

impl Filling {
    fn from(&self) -> From {
        if self.is_from_disk() { From::Disk } else { From::Store }
    }
}

/// Bytes given out by where they came from.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    memory: u64,
    disk: u64,
    store: u64,
}

impl Reader {
    /// Of the bytes `span` (`None`: the object is empty); besides, how the object was known, and the fill that asking began.
    pub(super) fn new(
        cache: &Arc<Cache>,
        origin: &Arc<Origin>,
        meta: &Arc<Meta>,
        span: Option<Span>,
        (begun_with, begun): (State, Option<Filling>),
    ) -> Self {
        Self {
            cache: Arc::clone(cache),
            origin: Arc::clone(origin),
            meta: Arc::clone(meta),
            owed: span.map_or(0..0, |span| span.first..span.last + 1),
            source: Source::Nothing,
            bytes: Bytes::new(),
            window: 0..0,
            primed: false,
            ahead: begun,
            sequential: false,
            begun_with,
            served: Served::default(),
            tally: Tally::default(),
        }
    }

    /// Waits for the first bytes; the next [`Reader::fill`] has them at once.
    pub(super) async fn prime(&mut self) -> Result<(), Failure> {
        if !self.owed.is_empty() {
            self.next().await?;
            self.primed = true;
        }
        Ok(())
    }

    /// Makes the player's next bytes available, `room` at most; false at the end.
    pub async fn fill(&mut self, room: usize) -> Result<bool, Failure> {
        let more = self.go_on().await?;
        self.window.end = self.window.end.min(self.window.start.saturating_add(room));
        Ok(more)
    }

    async fn go_on(&mut self) -> Result<bool, Failure> {
        if std::mem::take(&mut self.primed) {
            return Ok(true);
        }
        self.advance();
        self.window = 0..0;
        if self.owed.is_empty() {
            return Ok(false);
        }
        let mut pause = FIRST_PAUSE;
        let deadline = Instant::now() + self.origin.timeouts.idle;
        let mut others = self.origin.cluster.members().len().saturating_sub(1);
        loop {
            match self.next().await {
                // The header is out: a store that comes back in time costs the player a pause, not the stream. One that
                // talks nonsense may have a neighbour that does not.
                Err(failure) if is_passing(failure) && (others > 0 || Instant::now() + pause < deadline) => {
                    others = others.saturating_sub(1);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome.map(|()| true),
            }
        }
    }

    /// What the last [`Reader::fill`] made available.
    pub fn available(&self) -> &[u8] {
        &self.bytes[self.window.clone()]
    }

    /// The same, to be kept without a copy.
    pub fn owned(&self) -> Bytes {
        self.bytes.slice(self.window.clone())
    }

    /// What it took.
    pub fn tally(&self) -> Tally {
        let tally = if let Source::Filling(filling) = &self.source {
            self.tally.clone().and(filling.tally())
        } else {
            self.tally.clone()
        };
        Tally { cache: Some(self.state()), ..tally }
    }

    /// How the cache took part so far.
    pub fn state(&self) -> State {
        let Served { memory, disk, store } = self.served;
        // What has been given out last counts too.
        let now = self.from().filter(|_| !self.window.is_empty());
        let store = store > 0 || now == Some(From::Store);
        let kept = memory + disk > 0 || matches!(now, Some(From::Memory | From::Disk));
        match self.begun_with {
            State::Stale => State::Stale,
            _ if store && kept => State::Partial,
            _ if store => State::Miss,
            begun => begun,
        }
    }

    /// True where the bytes that are there come from the store, which has said that they are of this version.
    pub(super) fn is_from_store(&self) -> bool {
        self.from() == Some(From::Store)
    }

    /// How the cache will have taken part, as far as can be told.
    pub fn forecast(&self) -> State {
        let state = self.state();
        let size = u64::from(self.cache.slice_size);
        let rest = (self.owed.start / size + 1..self.owed.end.div_ceil(size)).take(LOOKED_AT);
        let all = rest.into_iter().all(|number| self.cache.shelf.may_have(&self.key(number)));
        match state {
            State::Hit | State::Revalidated if !all => State::Partial,
            state => state,
        }
    }

    /// The bytes of the last window have been taken.
    fn advance(&mut self) {
        let taken = self.window.len() as u64;
        self.owed.start += taken;
        self.window = 0..0;
        match self.from() {
            None => {}
            Some(From::Memory) => self.served.memory += taken,
            Some(From::Disk) => self.served.disk += taken,
            Some(From::Store) => self.served.store += taken,
        }
    }

    /// Where the slice that is being read comes from.
    fn from(&self) -> Option<From> {
        match &self.source {
            Source::Nothing => None,
            Source::Kept { from, .. } => Some(*from),
            Source::Filling(filling) => Some(filling.from()),
        }
    }

    /// Finds the bytes at the reader's place.
    async fn next(&mut self) -> Result<(), Failure> {
        let size = u64::from(self.cache.slice_size);
        let (number, offset) = (self.owed.start / size, (self.owed.start % size) as usize);
        if self.number() != Some(number) {
            self.open(number, offset == 0)?;
        }
        loop {
            let Source::Filling(filling) = &mut self.source else {
                self.show(offset);
                return Ok(());
            };
            let found = filling.following.borrow_and_update().at(offset);
            match found {
                Found::Bytes(bytes) => {
                    self.bytes = bytes;
                    self.show(0);
                    return Ok(());
                }
                Found::Whole(bytes) => {
                    self.tally = std::mem::take(&mut self.tally).and(filling.tally());
                    self.source = Source::Kept { number, from: filling.from() };
                    self.bytes = bytes;
                }
                Found::Never(failure) => {
                    self.leave();
                    return Err(failure);
                }
                Found::Later => {
                    if filling.following.changed().await.is_err() {
                        self.leave();
                        return Err(Failure::BrokenBody);
                    }
                }
            }
        }
    }

    /// Gives out the bytes from `start` on, as far as they are owed.
    fn show(&mut self, start: usize) {
        let left = usize::try_from(self.owed.end - self.owed.start).unwrap_or(usize::MAX);
        let end = self.bytes.len().min(start.saturating_add(left));
        self.window = start..end;
    }

    fn number(&self) -> Option<u64> {
        match &self.source {
            Source::Nothing => None,
            Source::Kept { number, .. } | Source::Filling(Filling { number, .. }) => Some(*number),
        }
    }

    /// Goes to the slice `number`, at its beginning or inside it.
    fn open(&mut self, number: u64, at_start: bool) -> Result<(), Failure> {
        // The last one was read to its end, or there was none.
        let read_whole = self.sequential && self.number().is_some();
        self.leave();
        self.sequential = at_start;
        let job = self.job(number)?;
        let ahead = self.ahead.take().filter(|ahead| ahead.number == number);
        self.source = match self.cache.shelf.slice(&job.key) {
            Some(bytes) => self.kept(number, bytes, ahead.as_ref()),
            None => match fill::join(&self.cache, job) {
                Ok(filling) => {
                    let own = filling.own || ahead.is_some_and(|ahead| ahead.own);
                    Source::Filling(Filling { own, ..filling })
                }
                Err(bytes) => self.kept(number, bytes, ahead.as_ref()),
            },
        };
        if read_whole {
            self.fetch_ahead(number + 1);
        }
        Ok(())
    }

    /// A slice that is in memory, be it because we had it fetched ahead.
    fn kept(&mut self, number: u64, bytes: Bytes, ahead: Option<&Filling>) -> Source {
        self.bytes = bytes;
        self.tally = std::mem::take(&mut self.tally).and(ahead.map_or(Tally::default(), Filling::tally));
        Source::Kept { number, from: ahead.map_or(From::Memory, Filling::from) }
    }

    /// Leaves the slice; what it took is ours where we began to fill it.
    fn leave(&mut self) {
        if let Source::Filling(filling) = &self.source {
            self.tally = std::mem::take(&mut self.tally).and(filling.tally());
        }
        self.source = Source::Nothing;
        self.bytes = Bytes::new();
        self.window = 0..0;
    }

    /// Has the slice after this one fetched, where it is wanted and not there.
    fn fetch_ahead(&mut self, number: u64) {
        if number.saturating_mul(u64::from(self.cache.slice_size)) >= self.owed.end {
            return;
        }
        let Ok(job) = self.job(number) else { return };
        if self.cache.shelf.has(&job.key) || self.meta.version.gate.available_permits() == 0 {
            return;
        }
        if let Ok(filling) = fill::join(&self.cache, job) {
            if filling.own {
                self.cache.stats.ahead.up();
            }
            self.ahead = Some(filling);
        }
    }

    fn key(&self, number: u64) -> SliceKey {
        SliceKey { version: Arc::clone(&self.meta.version), number, size: self.cache.slice_size }
    }

    fn job(&self, number: u64) -> Result<Job, Failure> {
        let key = self.key(number);
        // Spans are within the object; one that were not would be a slice that is not there.
        let span = key.span().ok_or(Failure::Changed)?;
        Ok(Job { key, span, origin: Arc::clone(&self.origin), begun: None })
    }
}

fn is_passing(failure: Failure) -> bool {
    is_store_trouble(failure) || matches!(failure, Failure::Nonsense(_))
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.primed {
            self.advance();
        }
        let Served { memory, disk, store } = self.served;
        self.cache.stats.memory_bytes.add(memory);
        self.cache.stats.disk_bytes.add(disk);
        self.cache.stats.store_bytes.add(store);
    }
}
