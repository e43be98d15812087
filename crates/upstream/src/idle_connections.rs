//! Idle connections for object requests. Each thread has its own, because the runtime of the thread that made a
//! connection reports its events. Connections that the server closed, or that were idle for too long, are closed within
//! seconds even where no further request comes.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thread_local::ThreadLocal;

use super::connection::UpstreamStream;
use primitives::clock::monotonic_now;
use primitives::lifecycle::BackgroundTasks;

/// Most idle connections kept for each thread.
const MAX_IDLE: usize = 256;
/// Time after which an idle connection is not used again. Most servers close theirs after 60 s or later.
const MAX_IDLE_TIME: Duration = Duration::from_secs(55);
/// Time between two checks of a thread's connections, while it has some. A check costs no system call for a socket
/// without events.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Idle connections to one server.
pub struct IdleConnections {
    threads: ThreadLocal<Arc<Mutex<ThreadIdlePool>>>,
    tasks: BackgroundTasks,
}

impl IdleConnections {
    /// Creates an empty pool whose checks run in `tasks`.
    pub fn new(tasks: BackgroundTasks) -> Self {
        Self { threads: ThreadLocal::new(), tasks }
    }

    /// Takes the connection of this thread that was used last and is still open; `None` where there is none.
    pub fn take(&self) -> Option<UpstreamStream> {
        self.threads.get_or_default().lock().take(monotonic_now())
    }

    /// Keeps a connection whose last exchange ended cleanly. Drops it, which closes it, where the thread has `MAX_IDLE`
    /// already.
    pub fn keep(&self, io: UpstreamStream) {
        let pool = self.threads.get_or_default();
        if pool.lock().keep(io, monotonic_now()) {
            // Weak: the check must not keep the connections of a destination that no longer exists.
            let (pool, tasks) = (Arc::downgrade(pool), self.tasks.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = watch(pool) => {}
                    () = tasks.stopping() => {}
                }
            });
        }
    }
}

/// Checks a thread's connections until none is left.
async fn watch(pool: Weak<Mutex<ThreadIdlePool>>) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.lock().close_unusable(monotonic_now()) {
            return;
        }
    }
}

struct IdleStream {
    io: UpstreamStream,
    since: Instant,
}

/// Idle connections of one thread. The time is an argument.
#[derive(Default)]
struct ThreadIdlePool {
    kept: Vec<IdleStream>,
    is_watched: bool,
}

impl ThreadIdlePool {
    fn take(&mut self, now: Instant) -> Option<UpstreamStream> {
        while let Some(candidate) = self.kept.pop() {
            if candidate.is_old(now) {
                // Connections are taken from the end, so the others are older.
                self.kept.clear();
                return None;
            }
            if candidate.io.is_reusable() {
                return Some(candidate.io);
            }
        }
        None
    }

    /// Keeps `io`; returns true if the caller must start a check.
    fn keep(&mut self, io: UpstreamStream, now: Instant) -> bool {
        if self.kept.len() < MAX_IDLE {
            self.kept.push(IdleStream { io, since: now });
        }
        // One check for each thread: the flag is cleared only by the check that ends.
        !std::mem::replace(&mut self.is_watched, true)
    }

    /// Closes connections that cannot be used; returns true if some are left to be checked.
    fn close_unusable(&mut self, now: Instant) -> bool {
        self.kept.retain(|idle| !idle.is_old(now) && idle.io.is_reusable());
        if self.kept.is_empty() {
            // A thread that once had many connections gives the memory back.
            self.kept = Vec::new();
        }
        self.is_watched = !self.kept.is_empty();
        self.is_watched
    }
}

impl IdleStream {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > MAX_IDLE_TIME
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection and its other end.
    async fn connection() -> (UpstreamStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (UpstreamStream::Plain(connected.expect("a connection")), accepted.expect("a connection").0)
    }

    #[tokio::test]
    async fn connections_that_are_old_or_closed_by_the_server_are_closed() {
        let (mut pool, start) = (ThreadIdlePool::default(), monotonic_now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let ((old, _old_end), (closed, closed_end), (good, _good_end)) =
            (connection().await, connection().await, connection().await);
        assert!(pool.keep(old, at(0)), "the first one is to be watched");
        assert!(!pool.keep(closed, at(30)) && !pool.keep(good, at(30)), "one watches all");
        drop(closed_end);
        pool.kept[1].io.readable().await.expect("its end");
        assert!(pool.close_unusable(at(40)));
        assert_eq!(pool.kept.len(), 2);
        assert!(pool.close_unusable(at(56)));
        assert_eq!(pool.kept.len(), 1);
        assert!(!pool.close_unusable(at(90)), "nothing is left to watch");
        assert!(pool.keep(connection().await.0, at(90)), "the next one is to be watched again");
    }

    #[tokio::test]
    async fn the_connection_used_last_is_taken_first_and_an_old_one_never() {
        let (mut pool, start) = (ThreadIdlePool::default(), monotonic_now());
        let (first, last) = (connection().await, connection().await);
        let local = |io: &UpstreamStream| match io {
            UpstreamStream::Plain(stream) => stream.local_addr().expect("an address"),
            UpstreamStream::Tls(_) => unreachable!("it is plain"),
        };
        let expected = local(&last.0);
        pool.keep(first.0, start);
        pool.keep(last.0, start);
        assert_eq!(pool.take(start).as_ref().map(local), Some(expected));
        assert!(pool.take(start + MAX_IDLE_TIME + Duration::from_secs(1)).is_none());
        assert!(pool.kept.is_empty());
    }
}
