//! The threads that serve clients. Each has a runtime of its own, so that events of a connection, and of the
//! connections to the store that it uses, wake no other thread: among thousands of slow clients that would cost more
//! than their bytes. Each reports once a second that it is alive; one that does not is stuck in a task that never
//! yields.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, Uri};
use parking_lot::Mutex;
use primitives::clock::monotonic_now;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// Time between two signs of life.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a sign of life after which a worker is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The threads that serve clients. They end when this is dropped, with whatever they still serve.
pub struct Workers {
    workers: Vec<Arc<Worker>>,
    running: Mutex<Vec<RunningThread>>,
}

/// A thread that runs until its end is asked for.
struct RunningThread {
    /// Dropped, it ends the thread.
    keep_on: oneshot::Sender<()>,
    /// Dropped by the thread once nothing of its runtime is left.
    ended: oneshot::Receiver<()>,
}

/// One thread with its runtime.
struct Worker {
    index: usize,
    runtime: Handle,
    connections: AtomicUsize,
    started: Instant,
    /// Milliseconds from `started` to the last sign of life.
    last_beat: AtomicU64,
    /// The activity whose task runs now; 0: none, or one of our own.
    running: AtomicU64,
    next_activity: AtomicU64,
    activities: Mutex<HashMap<u64, Arc<Mutex<ActivityState>>>>,
}

/// State of one connection or HTTP/2 stream.
struct ActivityState {
    peer: IpAddr,
    request: Option<ServedRequest>,
}

struct ServedRequest {
    method: Method,
    uri: Uri,
    since: Instant,
}

/// A worker that gives no sign of life, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckWorker {
    /// Its number, from 0.
    pub index: usize,
    /// Its connections.
    pub connections: usize,
    /// The request or connection whose task does not yield.
    pub serving: String,
}

impl Workers {
    /// Starts `count` threads, one at least. Fails where the system gives no more threads or file descriptors.
    pub fn start(count: usize) -> io::Result<Self> {
        let (mut workers, mut running) = (Vec::new(), Vec::new());
        for index in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let worker = Arc::new(Worker::new(index, runtime.handle().clone()));
            let beating = Arc::clone(&worker);
            let (keep_on, asked_to_end) = oneshot::channel::<()>();
            let (last, ended) = oneshot::channel::<()>();
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                runtime.spawn(async move { beating.heartbeat().await });
                // Ends with an error once the sender is dropped, which asks for the end: nothing is ever sent.
                let _ = runtime.block_on(asked_to_end);
                // With it go the requests that are still under way, each of which writes its access line.
                drop(runtime);
                // After the runtime: `stop` takes this for the end of all that the thread served.
                drop(last);
            })?;
            workers.push(worker);
            running.push(RunningThread { keep_on, ended });
        }
        Ok(Self { workers, running: Mutex::new(running) })
    }

    /// Ends the threads, with whatever they still serve. Waits for `limit` at most, since a stuck thread does not end.
    pub async fn stop(&self, limit: Duration) {
        let (senders, threads): (Vec<_>, Vec<_>) =
            self.running.lock().drain(..).map(|thread| (thread.keep_on, thread.ended)).unzip();
        // All at once, so that the threads end side by side.
        drop(senders);
        // An end that comes late is not an error: the process ends anyway.
        let _ = tokio::time::timeout(limit, futures::future::join_all(threads)).await;
    }

    /// Assigns a connection of `peer` to the worker with the fewest connections.
    pub fn assign(&self, peer: IpAddr) -> WorkerAssignment {
        // Two connections at once may see the same counts: a slightly uneven choice costs less than a lock.
        let fewest = self.workers.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        let worker = fewest.expect("there is one at least");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        WorkerAssignment { activity: WorkerActivity::new(worker, peer) }
    }

    /// Returns the worker threads that gave no sign of life for `limit`.
    pub fn stuck(&self, limit: Duration) -> Vec<StuckWorker> {
        self.workers.iter().filter(|worker| worker.silence() >= limit).map(|worker| worker.describe()).collect()
    }
}

impl Worker {
    fn new(index: usize, runtime: Handle) -> Self {
        Self {
            index,
            runtime,
            connections: AtomicUsize::new(0),
            started: monotonic_now(),
            last_beat: AtomicU64::new(0),
            running: AtomicU64::new(0),
            next_activity: AtomicU64::new(1),
            activities: Mutex::default(),
        }
    }

    async fn heartbeat(&self) {
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        // After a stall one sign of life is enough.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.last_beat.store(self.age(), Ordering::Relaxed);
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.age().saturating_sub(self.last_beat.load(Ordering::Relaxed)))
    }

    fn describe(&self) -> StuckWorker {
        let activities = self.activities.lock();
        let running = activities.get(&self.running.load(Ordering::Relaxed));
        // The worker may be stuck while it holds this lock: waiting would make the watchdog stuck too.
        let serving = running.and_then(|state| state.try_lock().map(|state| state.to_string()));
        StuckWorker {
            index: self.index,
            connections: self.connections.load(Ordering::Relaxed),
            serving: serving.unwrap_or_else(|| "a task of its own".to_owned()),
        }
    }
}

impl fmt::Display for ActivityState {
    /// Writes method, path, client and time. The query is left out: it may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            Some(ServedRequest { method, uri, since }) => {
                write!(f, "{method} {} for {}, begun {:?} ago", uri.path(), self.peer, since.elapsed())
            }
            None => write!(f, "a connection of {} without a request", self.peer),
        }
    }
}

/// A connection's assignment to a worker, until it is dropped.
pub struct WorkerAssignment {
    activity: WorkerActivity,
}

impl WorkerAssignment {
    /// Returns the runtime that must serve the connection.
    pub fn runtime(&self) -> &Handle {
        &self.activity.worker.runtime
    }

    /// Returns the connection's activity.
    pub fn activity(&self) -> &WorkerActivity {
        &self.activity
    }

    /// Makes the activity of one of the connection's streams.
    pub fn stream_activity(&self) -> WorkerActivity {
        let WorkerActivity { worker, state, .. } = &self.activity;
        WorkerActivity::new(worker, state.lock().peer)
    }
}

impl Drop for WorkerAssignment {
    fn drop(&mut self) {
        self.activity.worker.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Work of one connection or stream on its worker, until it is dropped: named, where the worker is stuck in it.
pub struct WorkerActivity {
    worker: Arc<Worker>,
    id: u64,
    state: Arc<Mutex<ActivityState>>,
}

impl WorkerActivity {
    fn new(worker: &Arc<Worker>, peer: IpAddr) -> Self {
        let id = worker.next_activity.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(Mutex::new(ActivityState { peer, request: None }));
        worker.activities.lock().insert(id, Arc::clone(&state));
        Self { worker: Arc::clone(worker), id, state }
    }

    /// Notes the client's address where it is another than that of the connection's other end.
    pub fn set_peer(&self, peer: IpAddr) {
        self.state.lock().peer = peer;
    }

    /// Notes the request that is served from now on.
    pub fn set_request(&self, request: &Parts) {
        let (method, uri) = (request.method.clone(), request.uri.clone());
        self.state.lock().request = Some(ServedRequest { method, uri, since: monotonic_now() });
    }

    /// Notes that no request is served.
    pub fn clear_request(&self) {
        self.state.lock().request = None;
    }

    /// Wraps `future`, so that the worker knows while it runs that it is this activity's.
    pub fn track<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        WatchedTask { future: Box::pin(future), worker: Arc::clone(&self.worker), id: self.id }
    }
}

impl Drop for WorkerActivity {
    fn drop(&mut self) {
        self.worker.activities.lock().remove(&self.id);
    }
}

struct WatchedTask<F> {
    future: Pin<Box<F>>,
    worker: Arc<Worker>,
    id: u64,
}

impl<F: Future> Future for WatchedTask<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Relaxed is enough: the number only names a task in the log.
        self.worker.running.store(self.id, Ordering::Relaxed);
        let outcome = self.future.as_mut().poll(cx);
        // Not reached by a poll that never ends, whose activity is named then.
        self.worker.running.store(0, Ordering::Relaxed);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_worker_that_is_stuck_is_found_with_its_request_and_forgiven_when_it_goes_on() {
        let workers = Workers::start(2).expect("threads");
        let limit = Duration::from_millis(1500);
        assert_eq!(workers.stuck(limit), []);
        let seat = workers.assign(IpAddr::from([127, 0, 0, 1]));
        let request = http::Request::get("/stream/a?token=secret").body(()).expect("a request");
        seat.activity().set_request(&request.into_parts().0);
        let (release, held) = mpsc::channel::<()>();
        // A poll that does not come back, as a loop without progress is one.
        let task = seat.activity().track(async move { held.recv().expect("released") });
        seat.runtime().spawn(task);
        let stuck = loop {
            std::thread::sleep(Duration::from_millis(20));
            if let Some(stuck) = workers.stuck(limit).pop() {
                break stuck;
            }
        };
        assert_eq!((stuck.index, stuck.connections), (0, 1));
        assert!(stuck.serving.starts_with("GET /stream/a for 127.0.0.1, begun "), "{}", stuck.serving);
        release.send(()).expect("it waits");
        while !workers.stuck(limit).is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
