//! For tests: a server on a real socket that answers each request as it is told.

mod ended_keys;

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

pub use ended_keys::{EndedKeys, ended_keys_response, store_refusal};

/// What to answer to the request of that number on its connection, both from 0; `None` closes the connection.
pub type ResponseScript = dyn Fn(&str, usize) -> Option<String> + Send + Sync;

/// A server; it ends when it is dropped.
pub struct ScriptedServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl ScriptedServer {
    /// Starts a server that answers as `script` says: it is given a request's head and its number on its connection, from
    /// 0, and returns the whole response, or `None` to close the connection. Panics if no port is free.
    pub async fn start(script: impl Fn(&str, usize) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (script, seen): (Arc<ResponseScript>, _) = (Arc::new(script), Arc::default());
        let (mut tasks, seen_too) = (JoinSet::new(), Arc::clone(&seen));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen_too)));
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    /// Where it is.
    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).expect("a URL")
    }

    /// The heads of all requests.
    pub fn received_heads(&self) -> Vec<String> {
        self.seen.lock().clone()
    }
}

/// An address at which nobody listens.
pub async fn unreachable_url() -> Url {
    ScriptedServer::start(|_, _| None).await.url()
}

/// An answer of `status` without a body.
pub fn empty_response(status: u16) -> Option<String> {
    Some(format!("HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\n\r\n"))
}

async fn serve(mut stream: TcpStream, script: Arc<ResponseScript>, seen: Arc<Mutex<Vec<String>>>) {
    for number in 0.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let answer = script(&head, number);
        seen.lock().push(head);
        let Some(answer) = answer else { return };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
