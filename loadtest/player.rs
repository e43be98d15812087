//! A player that compares every byte with the file, over HTTP/1.1 or HTTP/2, at the pace of music or somewhat faster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Bytes between two pauses, and the pause: 1.3 Mbit/s.
const PIECE: usize = 32 * 1024;
const PAUSE: Duration = Duration::from_millis(200);
/// Longer than the proxy may need to find a way on.
const SILENCE: Duration = Duration::from_secs(40);

/// What to ask for, and what must come.
pub struct Wish {
    pub path: String,
    pub token: String,
    pub file: Arc<[u8]>,
    /// The first byte and the one behind the last; `None`: all.
    pub range: Option<(usize, usize)>,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte.
    Whole,
    /// An error in place of an answer.
    Refused(u16),
    /// An answer that broke off.
    Broken(String),
    /// Another byte, length or status than it should be.
    Wrong(String),
}

impl Wish {
    fn expected(&self) -> &[u8] {
        self.range.map_or(&self.file, |(first, end)| &self.file[first..end])
    }

    fn range_value(&self) -> Option<String> {
        self.range.map(|(first, end)| format!("bytes={first}-{}", end - 1))
    }

    /// The outcome that the head decides, if it does.
    fn judge(&self, status: u16, length: Option<usize>) -> Option<Outcome> {
        let right = if self.range.is_some() { 206 } else { 200 };
        match (status, length) {
            (status, Some(length)) if status == right && length == self.expected().len() => None,
            (500.., _) => Some(Outcome::Refused(status)),
            _ => Some(Outcome::Wrong(format!("status {status}, length {length:?}"))),
        }
    }
}

/// One player's connection.
pub enum Player {
    H1(TcpStream),
    H2(SendRequest<Bytes>),
}

impl Player {
    /// Connects; `tasks` drives an HTTP/2 connection.
    pub async fn connect(address: SocketAddr, http2: bool, tasks: &mut JoinSet<()>) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if !http2 {
            return Ok(Self::H1(stream));
        }
        let (send, connection) = h2::client::handshake(stream).await?;
        tasks.spawn(async move {
            // Each stream tells of its own end.
            let _ended = connection.await;
        });
        Ok(Self::H2(send))
    }

    /// Plays a wish to its end. After anything but a whole answer the connection is of no further use.
    pub async fn play(&mut self, wish: &Wish) -> Outcome {
        let played = match self {
            Self::H1(stream) => play_h1(stream, wish).await,
            Self::H2(send) => play_h2(send, wish).await,
        };
        played.unwrap_or_else(|error| Outcome::Broken(format!("{error:#}")))
    }
}

/// Compares what comes with what must.
struct Check<'a> {
    expected: &'a [u8],
    at: usize,
    paused_at: usize,
}

impl<'a> Check<'a> {
    fn new(expected: &'a [u8]) -> Self {
        Self { expected, at: 0, paused_at: 0 }
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Outcome> {
        if !self.expected[self.at..].starts_with(bytes) {
            return Err(Outcome::Wrong(format!("other bytes after {}", self.at)));
        }
        self.at += bytes.len();
        if self.at - self.paused_at >= PIECE {
            self.paused_at = self.at;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.at == self.expected.len()
    }
}

async fn play_h1(stream: &mut TcpStream, wish: &Wish) -> Result<Outcome> {
    let range = wish.range_value().map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    let Wish { path, token, .. } = wish;
    let request = format!("GET {path} HTTP/1.1\r\nHost: media.example\r\nAuthorization: Bearer {token}\r\n{range}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(PIECE);
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        ensure!(read(stream, &mut buffer).await? > 0, "closed before an answer");
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    let lengths = head.lines().filter_map(|line| line.split_once(": "));
    let length =
        lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).find_map(|(_, v)| v.parse().ok());
    if let Some(outcome) = wish.judge(status, length) {
        return Ok(outcome);
    }
    buffer.drain(..end + 4);
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap_or_default();
    let mut check = Check::new(wish.expected());
    loop {
        if let Err(wrong) = check.take(&buffer).await {
            return Ok(wrong);
        }
        if check.is_done() {
            return Ok(Outcome::Whole);
        }
        buffer.clear();
        let read = read(stream, &mut buffer).await.with_context(|| format!("request {id} after {}", check.at))?;
        ensure!(read > 0, "request {id}: closed after {} of {length:?} bytes", check.at);
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize> {
    buffer.reserve(PIECE / 2);
    Ok(timeout(SILENCE, stream.read_buf(buffer)).await.context("silence")??)
}

async fn play_h2(send: &mut SendRequest<Bytes>, wish: &Wish) -> Result<Outcome> {
    let mut request = http::Request::get(format!("http://media.example{}", wish.path))
        .header("authorization", format!("Bearer {}", wish.token));
    if let Some(range) = wish.range_value() {
        request = request.header("range", range);
    }
    let mut ready = timeout(SILENCE, send.clone().ready()).await.context("no room for a stream")??;
    let (answer, _) = ready.send_request(request.body(())?, true)?;
    let (head, mut body) = timeout(SILENCE, answer).await.context("silence")??.into_parts();
    let length = head.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(outcome) = wish.judge(head.status.as_u16(), length) {
        return Ok(outcome);
    }
    let id = head.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let mut check = Check::new(wish.expected());
    while let Some(bytes) = timeout(SILENCE, body.data()).await.context("silence")? {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) if error.is_reset() && error.is_remote() => {
                bail!("request {id}: reset after {}: {error}", check.at)
            }
            // The library's own complaint: a clean end before the announced length.
            Err(error) => return Ok(Outcome::Wrong(format!("after {}: {error}", check.at))),
        };
        if let Err(wrong) = check.take(&bytes).await {
            return Ok(wrong);
        }
        body.flow_control().release_capacity(bytes.len())?;
    }
    if check.is_done() { Ok(Outcome::Whole) } else { Ok(Outcome::Wrong(format!("a clean end after {}", check.at))) }
}
