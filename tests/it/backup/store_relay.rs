//! A wire to the store on which one kind of request, or its answer, can be held.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::in_time;

/// Request that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its method, with the blank after it.
    pub method: &'static str,
    /// A part of its line.
    pub part: &'static str,
    /// True where the store gets it, and only its answer is held.
    pub is_answer: bool,
}

/// The wire.
pub struct StoreRelay {
    address: SocketAddr,
    held: Arc<Mutex<Option<Held>>>,
    caught: watch::Receiver<u32>,
    task: JoinHandle<()>,
}

impl StoreRelay {
    /// Opens a wire to the store at `store`.
    pub async fn start(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let held = Arc::<Mutex<Option<Held>>>::default();
        let (tell, caught) = watch::channel(0);
        let (shared, tell) = (Arc::clone(&held), Arc::new(tell));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, store, Arc::clone(&shared), Arc::clone(&tell)));
            }
        });
        Self { address, held, caught, task }
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds such requests from now on, or none.
    pub fn hold(&self, held: Option<Held>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// Waits until a request is held that was not seen before.
    pub async fn catches(&mut self) {
        in_time("the request comes", self.caught.changed()).await.expect("the wire is there");
    }
}

impl Drop for StoreRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(
    mut client: TcpStream,
    store: SocketAddr,
    held: Arc<Mutex<Option<Held>>>,
    tell: Arc<watch::Sender<u32>>,
) {
    let Ok(mut server) = TcpStream::connect(store).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(length @ 1..) = read else { return };
                let piece = &from_client[..length];
                let caught = held.lock().unwrap_or_else(PoisonError::into_inner).filter(|held| is_of(piece, held));
                if caught.is_none_or(|held| held.is_answer) && server.write_all(piece).await.is_err() {
                    return;
                }
                if let Some(held) = caught {
                    if held.is_answer {
                        // The store has done it once it answers.
                        let _ = server.read(&mut from_server).await;
                    }
                    tell.send_modify(|number| *number += 1);
                    // Until the process is gone.
                    while let Ok(1..) = client.read(&mut from_client).await {}
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&from_server[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether a piece is the beginning of such a request: a client writes its head at once.
fn is_of(piece: &[u8], held: &Held) -> bool {
    let line = piece.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(4096)]);
    line.starts_with(held.method) && line.contains(held.part)
}
