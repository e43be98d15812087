//! A wire to a server that can be cut: a TCP relay.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How the wire is. With every change of it those connections break that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// No connection is taken.
    Shut,
    /// Nothing comes through, and nobody is told: connections break only with the next change.
    Still,
}

/// The relay; it stops when dropped.
pub struct Cutter {
    address: SocketAddr,
    left: Arc<AtomicI64>,
    taken: Arc<AtomicUsize>,
    wire: watch::Sender<Wire>,
    task: JoinHandle<()>,
}

impl Cutter {
    /// Starts one to `server`.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let taken = Arc::new(AtomicUsize::new(0));
        let (wire, mut now) = watch::channel(Wire::Whole);
        let (budget, count) = (Arc::clone(&left), Arc::clone(&taken));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *now.borrow_and_update() == Wire::Shut {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(carry(client, server, Arc::clone(&budget), now.clone()));
            }
        });
        Self { address, left, taken, wire, task }
    }

    /// Its address as a URL without path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The connection that carries the `bytes`-th byte of an answer from now on is closed there; then none.
    pub fn cut_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    /// Every connection breaks; new ones are taken.
    pub fn cut(&self) {
        self.wire.send_replace(Wire::Whole);
    }

    /// Every connection breaks, and no other is taken until it is mended.
    pub fn shut(&self) {
        self.wire.send_replace(Wire::Shut);
    }

    /// Every connection, those to come too, hangs until it is mended.
    pub fn hang(&self) {
        self.wire.send_replace(Wire::Still);
    }

    /// Cuts nothing any more, and takes connections.
    pub fn mend(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
        self.wire.send_if_modified(|wire| std::mem::replace(wire, Wire::Whole) != Wire::Whole);
    }

    /// How many connections were taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a connection until it ends or breaks, which is what this is about.
async fn carry(client: TcpStream, server: SocketAddr, left: Arc<AtomicI64>, mut wire: watch::Receiver<Wire>) {
    let mut relayed = pin!(relay(client, server, &left));
    let still = *wire.borrow() == Wire::Still;
    tokio::select! {
        _ = &mut relayed, if !still => return,
        _ = wire.changed() => {}
    }
    if !still && *wire.borrow() == Wire::Still {
        let _ = wire.changed().await;
    }
}

async fn relay(client: TcpStream, server: SocketAddr, left: &AtomicI64) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return to_client.shutdown().await;
            }
            let bytes = length as i64;
            let before = left.fetch_sub(bytes, Ordering::SeqCst);
            if before <= bytes {
                left.store(i64::MAX, Ordering::SeqCst);
                to_client.write_all(&buffer[..usize::try_from(before).unwrap_or(0)]).await?;
                return to_client.shutdown().await;
            }
            to_client.write_all(&buffer[..length]).await?;
        }
    };
    tokio::select! {
        ended = answers => ended,
        ended = copy(&mut from_client, &mut to_server) => ended.map(|_| ()),
    }
}
