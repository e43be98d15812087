//! A raw socket: sends exactly these bytes, reads exactly what comes back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::eventually::in_time;

/// The connection.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response as it was on the wire.
#[derive(Clone, Debug)]
pub struct RawResponse {
    /// The status.
    pub status: u16,
    /// The header block as text, status line included.
    pub head: String,
    /// The body, by Content-Length, chunks or the end of the connection.
    pub body: Vec<u8>,
}

impl RawResponse {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("the gate accepts"))
    }

    /// Over a connection that is there.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends these bytes. A connection that the other side has closed already is no failure here: what it said before
    /// is what counts.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// As [`Self::send`]; false where the other side takes nothing any more.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Whether the other side has closed; what it sends until then is passed over.
    pub async fn has_ended(&mut self) -> bool {
        let ended = timeout(Duration::from_millis(1), async {
            while self.more().await? > 0 {}
            io::Result::Ok(())
        })
        .await;
        self.buffer.clear();
        ended.is_ok()
    }

    /// Closes our half.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("the socket is open");
    }

    /// Leaves for good (RST): unlike an end in order, this cannot be taken for a half-close.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("the socket is open");
    }

    /// Reads one response to a request of `method` within `limit`; an error when the connection closes before a whole
    /// one has come, or when time is up.
    pub async fn response(&mut self, method: &str, limit: Duration) -> io::Result<RawResponse> {
        timeout(limit, self.read_response(method)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// All that comes until the other side closes, within `limit`.
    pub async fn rest(&mut self, limit: Duration) -> io::Result<Vec<u8>> {
        let read = timeout(limit, async {
            while self.more().await? > 0 {}
            io::Result::Ok(())
        })
        .await;
        read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads exactly `length` bytes.
    pub async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        in_time("bytes come, or the end", self.fill(length)).await?;
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads `length` bytes, or those that come before the other side closes; then also says `true`.
    pub async fn up_to(&mut self, length: usize) -> (Vec<u8>, bool) {
        let closed = in_time("bytes come, or the end", self.fill(length)).await.is_err();
        let there = length.min(self.buffer.len());
        (self.buffer.drain(..there).collect(), closed)
    }

    async fn read_response(&mut self, method: &str) -> io::Result<RawResponse> {
        let head = self.head().await?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, head.clone()))?;
        let mut response = RawResponse { status, head, body: Vec::new() };
        if method == "HEAD" || matches!(status, 100..200 | 204 | 304) {
            return Ok(response);
        }
        let chunked = response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if let Some(length) = response.header("content-length").and_then(|value| value.parse().ok()) {
            response.body = self.exactly(length).await?;
        } else if chunked {
            response.body = self.chunks().await?;
        } else {
            while self.more().await? > 0 {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Ok(response)
    }

    /// The header block, through its empty line.
    pub async fn head(&mut self) -> io::Result<String> {
        let hearing = async {
            loop {
                if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    return io::Result::Ok(at + 4);
                }
                self.fill(self.buffer.len() + 1).await?;
            }
        };
        let end = in_time("a head comes, or the end", hearing).await?;
        Ok(String::from_utf8_lossy(&self.buffer.drain(..end).collect::<Vec<u8>>()).into_owned())
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                self.fill(self.buffer.len() + 1).await?;
            };
            let size = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| io::Error::other("a bad chunk size"))?;
            if size == 0 {
                self.buffer.drain(..line + 2);
                return self.trailers().await.map(|()| body);
            }
            let chunk = self.exactly(line + 2 + size + 2).await?;
            body.extend_from_slice(&chunk[line + 2..line + 2 + size]);
        }
    }

    /// Passes over the fields behind the last chunk, through the empty line.
    async fn trailers(&mut self) -> io::Result<()> {
        while !self.buffer.starts_with(b"\r\n") {
            match self.buffer.windows(2).position(|two| two == b"\r\n") {
                Some(line) => drop(self.buffer.drain(..line + 2)),
                None => self.fill(self.buffer.len() + 1).await?,
            }
            self.fill(2).await?;
        }
        self.buffer.drain(..2);
        Ok(())
    }

    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            if self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}
