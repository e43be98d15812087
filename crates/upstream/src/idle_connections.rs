//! Connections between two requests. Each thread has its own: the system tells of a connection's events to the one that
//! made it. Those that the server closed, and those that nobody used for long, are closed within seconds also where no
//! further request comes.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thread_local::ThreadLocal;

use super::connection::UpstreamStream;
use primitives::lifecycle::BackgroundTasks;

/// Idle connections kept for each thread.
const MAX_IDLE: usize = 256;
/// An idle connection is not used again after this long: most servers close theirs at 60 s or later.
const MAX_IDLE_TIME: Duration = Duration::from_secs(55);
/// Between two looks at the connections of a thread that has some. A look costs no system call where nothing happened.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The idle connections to one server.
pub struct IdleConnections {
    threads: ThreadLocal<Arc<Mutex<ThreadIdlePool>>>,
    tasks: BackgroundTasks,
}

impl IdleConnections {
    /// None yet; `tasks` runs the looks at them.
    pub fn new(tasks: BackgroundTasks) -> Self {
        Self { threads: ThreadLocal::new(), tasks }
    }

    /// The one used last that still looks alive.
    pub fn take(&self) -> Option<UpstreamStream> {
        self.threads.get_or_default().lock().take(Instant::now())
    }

    /// Keeps a connection whose last exchange ended cleanly for the next request.
    pub fn keep(&self, io: UpstreamStream) {
        let pool = self.threads.get_or_default();
        if pool.lock().keep(io, Instant::now()) {
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

/// Looks at a thread's connections until none is left.
async fn watch(pool: Weak<Mutex<ThreadIdlePool>>) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.lock().close_unusable(Instant::now()) {
            return;
        }
    }
}

struct IdleStream {
    io: UpstreamStream,
    since: Instant,
}

/// The connections of one thread. The time is an argument.
#[derive(Default)]
struct ThreadIdlePool {
    kept: Vec<IdleStream>,
    is_watched: bool,
}

impl ThreadIdlePool {
    fn take(&mut self, now: Instant) -> Option<UpstreamStream> {
        while let Some(candidate) = self.kept.pop() {
            if candidate.is_old(now) {
                // The others are older.
                self.kept.clear();
                return None;
            }
            if candidate.io.is_reusable() {
                return Some(candidate.io);
            }
        }
        None
    }

    /// Whether somebody has to begin to watch.
    fn keep(&mut self, io: UpstreamStream, now: Instant) -> bool {
        if self.kept.len() < MAX_IDLE {
            self.kept.push(IdleStream { io, since: now });
        }
        !std::mem::replace(&mut self.is_watched, true)
    }

    /// Whether there is still something to watch.
    fn close_unusable(&mut self, now: Instant) -> bool {
        self.kept.retain(|idle| !idle.is_old(now) && idle.io.is_reusable());
        if self.kept.is_empty() {
            // Room for as many as there once were is of no use either.
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
        let (mut pool, start) = (ThreadIdlePool::default(), Instant::now());
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
        let (mut pool, start) = (ThreadIdlePool::default(), Instant::now());
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
