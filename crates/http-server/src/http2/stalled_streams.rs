//! Streams over all connections whose clients take none of the bytes that wait for them (RFC 9113 §5.2). A client pays a
//! few bytes for a stream with an empty window, so that neither connections nor streams of one bound their memory in sum.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use primitives::clock::monotonic_now;
use server_kit::telemetry::metrics::Metrics;

/// Most bytes of bodies that stalled streams keep in memory: pieces that they would send next, which may be parts of
/// larger slices.
const MAX_KEPT_BYTES: usize = 256 * 1024 * 1024;

/// The stalled streams of the process.
pub struct StalledStreams {
    most: AtomicUsize,
    streams: Mutex<StreamsByAge>,
    metrics: Arc<Metrics>,
}

/// The streams by their numbers, which rise: the first has waited longest.
#[derive(Default)]
struct StreamsByAge {
    last: u64,
    /// Those that keep bytes of their bodies, and how many.
    keeping: BTreeMap<u64, (mpsc::Sender<()>, usize)>,
    /// Sum over `keeping`.
    kept: usize,
    /// Those that were asked to release theirs.
    released: BTreeMap<u64, mpsc::Sender<()>>,
}

/// A stream while it is stalled; it is counted until this is dropped.
pub struct StalledStream {
    streams: Arc<StalledStreams>,
    number: u64,
    since: Instant,
    request: mpsc::Receiver<()>,
}

/// Request to a stalled stream, because there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StalledStreamRequest {
    /// To keep no more of its body in memory than it must.
    Release,
    /// To end.
    End,
}

impl StalledStreams {
    /// Makes the register of at most `most` streams.
    pub fn new(most: usize, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { most: AtomicUsize::new(most), streams: Mutex::default(), metrics: Arc::clone(metrics) })
    }

    /// Puts another limit in force. Where more are stalled they go on, until others begin to wait.
    pub fn set_limit(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Counts a stream that begins to wait, and keeps `kept` bytes of its body. Where streams or bytes are too many, those
    /// that have waited longest are asked for more.
    pub fn enter(self: &Arc<Self>, kept: usize) -> StalledStream {
        // Room for the one request that is not the last: nobody waits to send it.
        let (sender, request) = mpsc::channel(1);
        self.metrics.listeners().stalled_streams().inc();
        let mut streams = self.streams.lock();
        streams.last += 1;
        let number = streams.last;
        streams.keeping.insert(number, (sender, kept));
        streams.kept += kept;
        while streams.kept > MAX_KEPT_BYTES
            && let Some((oldest, (sender, kept))) = streams.keeping.pop_first()
        {
            streams.kept -= kept;
            let _ = sender.try_send(());
            streams.released.insert(oldest, sender);
        }
        let most = self.most.load(Ordering::Relaxed);
        while streams.keeping.len() + streams.released.len() > most {
            streams.end_oldest();
            self.metrics.listeners().stalled_stream_ended();
        }
        drop(streams);
        StalledStream { streams: Arc::clone(self), number, since: monotonic_now(), request }
    }
}

impl StreamsByAge {
    /// Asks the stream to end that has waited longest: by the end of its channel.
    fn end_oldest(&mut self) {
        if self.released.pop_first().is_none()
            && let Some((_, (_, kept))) = self.keeping.pop_first()
        {
            self.kept -= kept;
        }
    }

    fn remove(&mut self, number: u64) {
        match self.keeping.remove(&number) {
            Some((_, kept)) => self.kept -= kept,
            None => drop(self.released.remove(&number)),
        }
    }
}

impl StalledStream {
    /// Resolves when something is asked of the stream. Can be dropped and called again.
    pub async fn request(&mut self) -> StalledStreamRequest {
        match self.request.recv().await {
            Some(()) => StalledStreamRequest::Release,
            None => StalledStreamRequest::End,
        }
    }

    /// Returns the time that it has waited.
    pub fn waited(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for StalledStream {
    fn drop(&mut self) {
        self.streams.metrics.listeners().stalled_streams().dec();
        self.streams.streams.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new().expect("they register"))
    }

    fn asked(stream: &mut StalledStream) -> Option<StalledStreamRequest> {
        stream.request().now_or_never()
    }

    const KEPT: usize = MAX_KEPT_BYTES / 4;

    #[test]
    fn those_that_have_waited_longest_release_their_bytes_and_then_end() {
        let streams = StalledStreams::new(5, &metrics());
        let mut stalled: Vec<_> = (0..5).map(|_| streams.enter(KEPT)).collect();
        assert_eq!(asked(&mut stalled[0]), Some(StalledStreamRequest::Release));
        assert_eq!(asked(&mut stalled[0]), None, "once");
        assert_eq!(asked(&mut stalled[1]), None);
        stalled.push(streams.enter(KEPT));
        assert_eq!(asked(&mut stalled[0]), Some(StalledStreamRequest::End));
        assert_eq!(asked(&mut stalled[1]), Some(StalledStreamRequest::Release));
        // Those that go on make room.
        drop(stalled.drain(3..5));
        stalled.extend([streams.enter(KEPT), streams.enter(KEPT)]);
        assert_eq!(asked(&mut stalled[1]), None);
        assert_eq!(asked(&mut stalled[2]), None);
        drop(stalled);
        let left = streams.streams.lock();
        assert_eq!((left.keeping.len(), left.released.len(), left.kept), (0, 0, 0));
    }

    #[test]
    fn a_limit_of_streams_holds_where_they_keep_little() {
        let streams = StalledStreams::new(1, &metrics());
        let (mut first, mut second) = (streams.enter(1), streams.enter(1));
        assert_eq!(asked(&mut first), Some(StalledStreamRequest::End));
        assert_eq!(asked(&mut second), None);
        drop(first);
        assert_eq!(streams.streams.lock().kept, 1);
    }
}
