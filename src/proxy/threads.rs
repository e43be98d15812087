//! The threads that serve players. Each has a runtime of its own, so that what happens on a connection, and on those to the
//! store that it makes use of, wakes no other thread: among thousands of slow players that would cost more than their bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The threads; they end when this is dropped, with whatever they still serve.
pub struct Threads {
    threads: Vec<Arc<Thread>>,
    _running: Vec<oneshot::Sender<()>>,
}

struct Thread {
    runtime: Handle,
    connections: AtomicUsize,
}

impl Threads {
    /// Starts `count` threads, one at least.
    pub fn start(count: usize) -> io::Result<Self> {
        let (mut threads, mut running) = (Vec::new(), Vec::new());
        for _ in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            threads.push(Arc::new(Thread { runtime: runtime.handle().clone(), connections: AtomicUsize::new(0) }));
            let (sender, ended) = oneshot::channel::<()>();
            std::thread::Builder::new().name("players".to_owned()).spawn(move || {
                // It never is sent anything: it is dropped.
                let _ = runtime.block_on(ended);
            })?;
            running.push(sender);
        }
        Ok(Self { threads, _running: running })
    }

    /// A place on the thread that has the fewest connections.
    pub fn place(&self) -> Place {
        let fewest = self.threads.iter().min_by_key(|thread| thread.connections.load(Ordering::Relaxed));
        let thread = Arc::clone(fewest.expect("there is one at least"));
        thread.connections.fetch_add(1, Ordering::Relaxed);
        Place { thread }
    }
}

/// A connection's place on a thread, until it is dropped.
pub struct Place {
    thread: Arc<Thread>,
}

impl Place {
    /// Where the connection is to be served.
    pub fn runtime(&self) -> &Handle {
        &self.thread.runtime
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.thread.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
