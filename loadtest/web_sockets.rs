//! WebSockets that stay open while something happens to the server: an echo server behind it, and clients that compare
//! what comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use primitives::clock::monotonic_now;

/// Time between two messages of a client.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest time for a message to come back.
const SILENCE: Duration = Duration::from_secs(10);

/// Clients and the server that answers them.
pub struct WebSockets {
    runtime: Runtime,
    /// Address of the echo server.
    pub upstream: SocketAddr,
    clients: JoinSet<Result<Seen>>,
    end: watch::Sender<bool>,
}

/// What clients have seen.
#[derive(Default)]
pub struct Seen {
    /// Messages that came back.
    pub messages: u64,
    /// Times that they took.
    pub delays: Vec<Duration>,
    /// What happened to the sockets that were cut.
    pub cut: Vec<String>,
}

impl WebSockets {
    /// Starts the echo server.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let upstream = listener.local_addr()?;
        runtime.spawn(async move {
            let mut echoes = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                echoes.spawn(echo(stream));
            }
        });
        Ok(Self { runtime, upstream, clients: JoinSet::new(), end: watch::Sender::new(false) })
    }

    /// Opens so many by `address`; they send until [`WebSockets::close`].
    pub fn open(&mut self, count: usize, address: SocketAddr, path: &str) -> Result<()> {
        let Self { runtime, clients, end, .. } = self;
        runtime.block_on(async {
            for _ in 0..count {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}{path}"), stream).await?;
                clients.spawn(converse(socket, end.subscribe()));
            }
            Ok(())
        })
    }

    /// Ends the clients; what they have seen until then.
    pub fn close(self) -> Seen {
        let Self { runtime, mut clients, end, .. } = self;
        end.send_replace(true);
        let mut all = Seen::default();
        runtime.block_on(async {
            while let Some(ended) = clients.join_next().await {
                match ended.map_err(Into::into).flatten() {
                    Ok(seen) => {
                        all.messages += seen.messages;
                        all.delays.extend(seen.delays);
                    }
                    Err(error) => all.cut.push(format!("{error:#}")),
                }
            }
        });
        all
    }
}

async fn echo(stream: TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn converse(mut socket: WebSocketStream<TcpStream>, mut end: watch::Receiver<bool>) -> Result<Seen> {
    let mut seen = Seen::default();
    while !*end.borrow() {
        let sent = Message::binary(seen.messages.to_be_bytes().to_vec());
        let began: Instant = monotonic_now();
        socket.send(sent.clone()).await?;
        let heard = timeout(SILENCE, socket.next()).await.context("silence")?.context("it was closed")??;
        ensure!(heard == sent, "another message came back");
        seen.delays.push(began.elapsed());
        seen.messages += 1;
        // Who waits for the end does not wait for the pause. The sender lives until all have ended.
        let _ = timeout(PAUSE, end.changed()).await;
    }
    Ok(seen)
}
