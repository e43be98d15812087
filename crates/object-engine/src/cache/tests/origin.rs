//! A small store on a real socket: serves objects with ranges and conditions, records its requests, and holds back or
//! cuts its bodies on demand.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use url::Url;

/// Store of the tests.
pub struct Store {
    /// Address of the store.
    pub url: Url,
    /// Objects and behaviour of the store.
    pub script: Arc<Script>,
    _tasks: JoinSet<()>,
}

/// Object: its bytes, entity tag, and further header lines.
#[derive(Clone)]
pub struct Thing {
    pub bytes: Vec<u8>,
    pub etag: &'static str,
    pub headers: &'static str,
}

/// Objects and behaviour of the store.
pub struct Script {
    pub things: Mutex<HashMap<String, Thing>>,
    /// Methods and ranges of its requests, such as `GET bytes=0-4095`.
    pub seen: Mutex<Vec<String>>,
    /// Semaphore at which bodies wait after their first bytes.
    pub gate: Semaphore,
    /// True if bodies wait at `gate`.
    pub gated: AtomicBool,
    /// Number of bodies that break off after half of their bytes.
    pub cuts: AtomicUsize,
    /// True if every request is answered with 500.
    pub broken: AtomicBool,
    /// True if every request is answered with 403.
    pub denied: AtomicBool,
    /// Number of bodies that were left before their end.
    pub left: watch::Sender<usize>,
}

impl Store {
    /// Starts a store with `things` on a free port.
    pub async fn start(things: &[(&str, Thing)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound")).parse().expect("a URL");
        let script = Arc::new(Script {
            things: Mutex::new(things.iter().map(|(key, thing)| ((*key).to_owned(), thing.clone())).collect()),
            seen: Mutex::default(),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
            cuts: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            denied: AtomicBool::new(false),
            left: watch::channel(0).0,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&script)));
        Self { url, script, _tasks: tasks }
    }

    /// Returns the requests since the last call.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.script.seen.lock())
    }

    /// Puts `thing` in place of the object at `key`.
    pub fn put(&self, key: &str, thing: Thing) {
        self.script.things.lock().insert(key.to_owned(), thing);
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        connections.spawn(async move {
            let _ = converse(stream, &script).await;
        });
    }
}

async fn converse(mut stream: TcpStream, script: &Script) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8(std::mem::take(&mut buffer)).expect("a request head is ASCII");
        answer(&mut stream, &head, script).await?;
    }
}

async fn answer(stream: &mut TcpStream, head: &str, script: &Script) -> io::Result<()> {
    let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let method = head.split(' ').next().unwrap_or_default();
    let range = line("Range: ");
    script.seen.lock().push(range.as_ref().map_or(method.to_owned(), |range| format!("{method} {range}")));
    let refuse = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    if script.broken.load(Ordering::SeqCst) {
        return stream.write_all(refuse("500 Internal Server Error").as_bytes()).await;
    }
    if script.denied.load(Ordering::SeqCst) {
        return stream.write_all(refuse("403 Forbidden").as_bytes()).await;
    }
    let key = head.split(['?', ' ']).nth(1).and_then(|path| path.strip_prefix("/bucket/")).unwrap_or_default();
    let Some(thing) = script.things.lock().get(key).cloned() else {
        let body = "<Error><Code>NoSuchKey</Code></Error>";
        let (length, body) = (body.len(), if method == "HEAD" { "" } else { body });
        let text = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{body}");
        return stream.write_all(text.as_bytes()).await;
    };
    if line("If-Match: ").is_some_and(|tag| tag != thing.etag) {
        return stream.write_all(refuse("412 Precondition Failed").as_bytes()).await;
    }
    let total = thing.bytes.len();
    let asked = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (status, extra, body) = match asked {
        None => ("200 OK", String::new(), &thing.bytes[..]),
        Some((first, last)) => {
            let first: usize = first.parse().expect("a position");
            let last = last.parse::<usize>().map_or(total, |last| last + 1).min(total);
            if first >= total {
                return stream.write_all(refuse("416 Range Not Satisfiable").as_bytes()).await;
            }
            let said = format!("Content-Range: bytes {first}-{}/{total}\r\n", last - 1);
            ("206 Partial Content", said, &thing.bytes[first..last])
        }
    };
    let (length, tag, more) = (body.len(), thing.etag, thing.headers);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: {tag}\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\
         Date: Wed, 21 Oct 2015 08:28:00 GMT\r\n{extra}{more}\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if method == "HEAD" {
        return Ok(());
    }
    send(stream, body, script).await
}

async fn send(stream: &mut TcpStream, body: &[u8], script: &Script) -> io::Result<()> {
    let half = body.len() / 2;
    stream.write_all(&body[..half]).await?;
    if script.gated.load(Ordering::SeqCst) {
        let gone = async {
            // A client that has what it wants sends nothing: anything read here is its leaving.
            let _ = stream.read(&mut [0]).await;
        };
        tokio::select! {
            permit = script.gate.acquire() => permit.expect("it is never closed").forget(),
            () = gone => {
                script.left.send_modify(|left| *left += 1);
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }
    let cut = script.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |cuts| cuts.checked_sub(1)).is_ok();
    if cut {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    stream.write_all(&body[half..]).await
}

/// Waits until `state` is true; panics where a test would hang.
pub async fn eventually(what: &str, mut state: impl FnMut() -> bool) {
    let waiting = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("it never holds: {what}"));
}
