//! Answers whose bodies are being sent, for the operator: what each is, how far it is, and a way to end it. An answer is
//! registered once; while it is sent, counting takes no lock and no memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use http_semantics::range::ByteRange;
use primitives::unix_time::UnixMillis;

/// Parts of the list, each behind its own lock: workers that begin and end answers at once seldom meet.
const SHARDS: u64 = 16;

/// Version of HTTP that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamProtocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl StreamProtocol {
    /// Returns its name for the operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Facts about an answer that do not change while it is sent.
#[derive(Clone, Debug)]
pub struct StreamFacts {
    /// Id of its request, as the access log and `X-Request-Id` have it in hexadecimal.
    pub request_id: u64,
    /// Time when its body began.
    pub began: UnixMillis,
    /// Id of its route.
    pub route: Arc<str>,
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// Hash of the user, by [`LiveStreams::hash_user`].
    pub user: Option<u64>,
    /// Size of the whole object in bytes, where it is known.
    pub size: Option<u64>,
    /// The part of it that is sent, where that is not the whole.
    pub range: Option<ByteRange>,
    /// Version of HTTP.
    pub protocol: StreamProtocol,
    /// True where the client uses TLS.
    pub is_tls: bool,
}

/// An answer whose body is being sent.
#[derive(Debug)]
pub struct LiveStream {
    facts: StreamFacts,
    /// Place in the list: later answers have a higher one.
    sequence: u64,
    bytes_sent: AtomicU64,
    resumes: AtomicU32,
    is_ended: AtomicBool,
    /// The task that sends the body, once it has something to wait for.
    waker: Mutex<Option<Waker>>,
}

impl LiveStream {
    /// Returns what does not change.
    pub fn facts(&self) -> &StreamFacts {
        &self.facts
    }

    /// Returns its place in the list.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the bytes of its body sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Returns how often its body broke and was continued so far.
    pub fn resumes(&self) -> u32 {
        self.resumes.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Answers of a part of the list, by their places. A cache line of its own, so that two locks do not share one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<BTreeMap<u64, Arc<LiveStream>>>);

/// List of the answers whose bodies are being sent.
#[derive(Debug, Default)]
pub struct LiveStreams {
    shards: [Shard; SHARDS as usize],
    next: AtomicU64,
    /// Keyed anew in each process, so that nobody can be found by trying names.
    users: RandomState,
}

impl LiveStreams {
    /// Returns a hash of the user, the same for all answers of this process.
    pub fn hash_user(&self, user: &str) -> u64 {
        self.users.hash_one(user)
    }

    /// Registers an answer until the guard is dropped.
    pub fn register(self: &Arc<Self>, facts: StreamFacts) -> LiveStreamGuard {
        let shard = self.shard(facts.request_id);
        let mut streams = shard.lock();
        // Under the lock, so that a page behind which it belongs cannot have been made meanwhile.
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(LiveStream {
            facts,
            sequence,
            bytes_sent: AtomicU64::new(0),
            resumes: AtomicU32::new(0),
            is_ended: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        streams.insert(sequence, Arc::clone(&stream));
        drop(streams);
        LiveStreamGuard { stream, list: Arc::clone(self) }
    }

    /// Returns the number of answers.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// Returns up to `limit` answers behind the place `after`, the oldest first.
    pub fn list(&self, after: Option<u64>, limit: usize) -> Vec<Arc<LiveStream>> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        // Those that come meanwhile are of a later page: one that was missed in a shard already would be skipped.
        let to = self.next.load(Ordering::Relaxed).max(from);
        let mut found: Vec<Arc<LiveStream>> = Vec::new();
        for shard in &self.shards {
            found.extend(shard.0.lock().range(from..to).take(limit).map(|(_, stream)| Arc::clone(stream)));
        }
        found.sort_unstable_by_key(|stream| stream.sequence);
        found.truncate(limit);
        found
    }

    /// Ends the answer to the request of this id; returns false where it is not being sent.
    pub fn end(&self, request_id: u64) -> bool {
        let is_it = |stream: &&Arc<LiveStream>| stream.facts.request_id == request_id;
        let found = self.shard(request_id).lock().values().find(is_it).cloned();
        if let Some(stream) = &found {
            stream.end();
        }
        found.is_some()
    }

    fn shard(&self, request_id: u64) -> &Mutex<BTreeMap<u64, Arc<LiveStream>>> {
        &self.shards[(request_id % SHARDS) as usize].0
    }
}

/// Registration of an answer, which ends when this is dropped.
#[derive(Debug)]
pub struct LiveStreamGuard {
    stream: Arc<LiveStream>,
    list: Arc<LiveStreams>,
}

impl LiveStreamGuard {
    /// Counts bytes of the body that were sent.
    pub fn add_bytes(&self, count: u64) {
        self.stream.bytes_sent.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes how often the body broke and was continued so far.
    pub fn set_resumes(&self, count: u32) {
        self.stream.resumes.store(count, Ordering::Relaxed);
    }

    /// Resolves when the operator ends the answer. It is cheap to poll often, as a body's every chunk does.
    pub fn wait_until_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        EndOfStream { stream: Arc::clone(&self.stream), registered: None }
    }
}

impl Drop for LiveStreamGuard {
    fn drop(&mut self) {
        let LiveStream { sequence, facts, .. } = &*self.stream;
        // Freed once the lock is released.
        let _freed = self.list.shard(facts.request_id).lock().remove(sequence);
    }
}

/// Future that resolves when an answer is ended.
struct EndOfStream {
    stream: Arc<LiveStream>,
    /// A copy of the waker that the stream has: only another one is worth its lock.
    registered: Option<Waker>,
}

impl Future for EndOfStream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker();
        if !self.registered.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            *self.stream.waker.lock() = Some(waker.clone());
            self.registered = Some(waker.clone());
        }
        // After the waker is in place: an end before it is seen here, one after it wakes.
        if self.stream.is_ended.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn facts(request_id: u64) -> StreamFacts {
        StreamFacts {
            request_id,
            began: UnixMillis::EPOCH,
            route: "songs".into(),
            client: None,
            user: None,
            size: Some(100),
            range: None,
            protocol: StreamProtocol::Http1,
            is_tls: false,
        }
    }

    fn ids(streams: &[Arc<LiveStream>]) -> Vec<u64> {
        streams.iter().map(|stream| stream.facts.request_id).collect()
    }

    #[test]
    fn pages_are_stable_while_streams_come_and_go() {
        let list = Arc::new(LiveStreams::default());
        let mut guards: Vec<_> = (0..50).map(|id| list.register(facts(id))).collect();
        let first = list.list(None, 20);
        assert_eq!(ids(&first), (0..20).collect::<Vec<_>>());
        let last = first.last().expect("twenty").sequence();
        // Streams of the page before end, and new ones begin: the next page is the same.
        guards.drain(..19);
        guards.extend((50..60).map(|id| list.register(facts(id))));
        assert_eq!(ids(&list.list(Some(last), 20)), (20..40).collect::<Vec<_>>());
        assert_eq!(list.count(), 41);
        drop(guards);
        assert_eq!((list.count(), list.list(None, 20).len()), (0, 0));
    }

    #[test]
    fn what_is_counted_is_seen_in_the_list() {
        let list = Arc::new(LiveStreams::default());
        let guard = list.register(facts(1));
        guard.add_bytes(70);
        guard.add_bytes(5);
        guard.set_resumes(2);
        let seen = &list.list(None, 10)[0];
        assert_eq!((seen.bytes_sent(), seen.resumes()), (75, 2));
    }

    #[tokio::test]
    async fn the_operator_ends_one_stream_and_no_other() {
        let list = Arc::new(LiveStreams::default());
        let (one, two) = (list.register(facts(1)), list.register(facts(2)));
        let end = async {
            // Until the other one waits.
            tokio::task::yield_now().await;
            assert!(list.end(1));
        };
        tokio::join!(one.wait_until_ended(), end);
        assert!(two.wait_until_ended().now_or_never().is_none());
        assert!(!list.end(3), "there is none");
        assert!(one.wait_until_ended().now_or_never().is_some(), "one that was ended before anybody waited");
        drop(one);
        assert!(!list.end(1));
    }

    #[test]
    fn a_user_has_one_hash_in_a_process_and_another_one_in_the_next() {
        let (one, two) = (LiveStreams::default(), LiveStreams::default());
        assert_eq!(one.hash_user("alice"), one.hash_user("alice"));
        assert_ne!(one.hash_user("alice"), one.hash_user("bob"));
        assert_ne!(one.hash_user("alice"), two.hash_user("alice"));
    }

    #[test]
    fn a_stream_costs_at_most_208_bytes() {
        // The counts of the `Arc`, and the entry of a tree whose nodes are half full.
        let (counts, entry) = (16, 2 * 16);
        assert!(size_of::<LiveStream>() + counts + entry <= 208, "{}", size_of::<LiveStream>());
    }
}
