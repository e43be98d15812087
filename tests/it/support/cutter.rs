//! A wire to a server that can be cut: a TCP relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The relay; it stops when dropped.
pub struct Cutter {
    address: SocketAddr,
    left: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Cutter {
    /// Starts one to `server`.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let budget = Arc::clone(&left);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let left = Arc::clone(&budget);
                connections.spawn(async move {
                    // A broken connection is what this is about.
                    let _ = relay(client, server, &left).await;
                });
            }
        });
        Self { address, left, task }
    }

    /// Its address as a URL without path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The connection that carries the `bytes`-th byte of an answer from now on is closed there; then none.
    pub fn cut_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    /// Cuts nothing any more.
    pub fn mend(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
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
