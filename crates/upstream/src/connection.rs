//! HTTP/1.1 exchanges on one connection, one at a time (RFC 9112): sends a request head, reads the response head, and
//! gives the body in place. Not hyper, because a body passes through one buffer that the writer to the client reads
//! directly, and a paused client must hold no more than that; a general HTTP client hands out owned chunks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::{HeaderMap, StatusCode};
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::body_reader::{BodyFraming, BodyReader};
use super::destination::Destination;
use super::response_head::{framing, read_head};
use super::tls::has_chosen_http2;

/// Bytes of the first read: enough for a response head and a small body.
const HEAD_BUFFER: usize = 8 * 1024;

/// Failure of an exchange on a connection.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection was closed or reset before the response head was complete.
    #[error("the connection was closed before an answer came")]
    Closed {
        /// True if the connection had served before and no byte of the response came: the server may only have closed
        /// it for idleness.
        reused: bool,
        /// The system's error; `None` where the server closed the connection cleanly.
        #[source]
        source: Option<io::Error>,
    },
    /// The response head was not complete within the limit.
    #[error("no answer in time")]
    FirstByteTimeout,
    /// No byte of the body came within the idle limit.
    #[error("the body stalled")]
    Stalled,
    /// The connection was closed before the announced end of the body.
    #[error("the body was cut off")]
    Truncated,
    /// The connection failed while the body was read.
    #[error("the connection broke within the body")]
    Reset(#[source] io::Error),
    /// The response is not HTTP/1.x, too long, or its length is ambiguous; the text says which.
    #[error("the answer is not valid HTTP/1.1: {0}")]
    Malformed(&'static str),
}

/// A byte stream to an upstream server.
pub enum UpstreamStream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl UpstreamStream {
    /// Returns true where HTTP/2 was chosen in the TLS handshake.
    pub(super) fn has_chosen_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => has_chosen_http2(stream),
        }
    }

    /// Reads once and appends to `buffer`; returns the number of bytes, 0 at the end of the stream.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    /// Waits until there may be bytes to read, so that a waiting request holds no buffer. With TLS it returns at once:
    /// only a read can tell.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }

    /// Returns true if there may be bytes to read, as far as is known without a system call.
    pub(super) fn has_more(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.readable().now_or_never().is_some(),
            // A decrypted record may be waiting in memory, of which the socket's readiness says nothing.
            Self::Tls(_) => true,
        }
    }

    /// Returns how much of `room` one read can fill beyond the head. None with TLS, which gives one record at a time
    /// and would hold the buffer while it waits.
    fn max_single_read(&self, room: usize) -> usize {
        match self {
            Self::Plain(_) => room,
            Self::Tls(_) => 0,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                // rustls keeps what the socket did not take: without a flush the request could stay there.
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Returns true if an idle connection is still open and silent, as one in a pool must be. Asks the system only
    /// where it signalled an event since the last read.
    pub(super) fn is_reusable(&self) -> bool {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // A byte before any request would be taken for the next response; 0 bytes mean that the server closed.
        socket.readable().now_or_never().is_none()
            || matches!(socket.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Runs the same expression on either kind of stream.
macro_rules! either {
    ($io:ident, $stream:ident => $does:expr) => {
        match $io.get_mut() {
            UpstreamStream::Plain($stream) => $does,
            UpstreamStream::Tls($stream) => $does,
        }
    };
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        // Both kinds pass several buffers to the system in one call.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A connection on which one request can be sent.
pub struct UpstreamConnection {
    io: UpstreamStream,
    destination: Arc<Destination>,
    reused: bool,
}

impl UpstreamConnection {
    pub(super) fn new(io: UpstreamStream, destination: Arc<Destination>, reused: bool) -> Self {
        Self { io, destination, reused }
    }

    /// Sends `head`, a whole request head without a body, and reads the response head; both together within `limit`.
    /// `head_only` says that the request is a HEAD, so that no body follows. Keeps `Content-Length` and the header
    /// fields that `keep` accepts; `keep` gets each name in the case in which the server wrote it. Reads up to `room`
    /// bytes of the body together with the head where they are already there. Fails with `Closed`, `FirstByteTimeout`
    /// or `Malformed`.
    pub async fn exchange(
        mut self,
        head: &[u8],
        head_only: bool,
        keep: fn(&str) -> bool,
        room: usize,
        limit: Duration,
    ) -> Result<UpstreamResponse, ExchangeError> {
        let reused = self.reused;
        let closed = |error| ExchangeError::Closed { reused, source: Some(error) };
        let mut buffer = Vec::new();
        let answer = async {
            self.io.write(head).await.map_err(closed)?;
            // The buffer is taken only when bytes are there: many requests wait at the same time.
            self.io.readable().await.map_err(closed)?;
            buffer = self.destination.buffers().take(HEAD_BUFFER + self.io.max_single_read(room));
            read_head(&mut self.io, &mut buffer, keep, self.reused).await
        };
        let parsed = timeout(limit, answer).await.map_err(|_| ExchangeError::FirstByteTimeout)??;
        let framing = framing(&parsed, head_only)?;
        // A body that ends with the connection leaves none to be used again.
        let keep_alive = parsed.keep_alive && framing != BodyFraming::UntilClose;
        let reader = BodyReader::new(buffer, parsed.length, framing);
        Ok(UpstreamResponse {
            status: parsed.status,
            headers: parsed.headers,
            body: ResponseBody { io: Some(self.io), destination: self.destination, reader, keep_alive },
        })
    }
}

/// A response of which the head has been read.
pub struct UpstreamResponse {
    /// Status code.
    pub status: StatusCode,
    /// Header fields that were kept, in the order in which they were sent.
    pub headers: HeaderMap,
    /// Body, not read yet.
    pub body: ResponseBody,
}

/// A response body, read in place. After its clean end the connection goes back to the pool.
pub struct ResponseBody {
    io: Option<UpstreamStream>,
    destination: Arc<Destination>,
    reader: BodyReader,
    keep_alive: bool,
}

impl ResponseBody {
    /// Returns the announced length in bytes; `None` where none was announced.
    pub fn content_length(&self) -> Option<u64> {
        self.reader.content_length()
    }

    /// Makes the next bytes of the body available, about `room` at most, and waits at most `idle` for them. Returns
    /// false at the clean end. Where `passing` is set it may return true with no bytes available: then
    /// [`ResponseBody::splice_to`] must be called to move them. Fails with `Stalled`, `Truncated`, `Reset` or
    /// `Malformed`.
    pub async fn fill(&mut self, room: usize, passing: bool, idle: Duration) -> Result<bool, ExchangeError> {
        let Some(io) = &mut self.io else { return Ok(false) };
        // Bytes that came with earlier ones need no wait.
        let more = self.reader.next_buffered()?
            || timeout(idle, self.reader.fill(io, room, passing, self.destination.buffers()))
                .await
                .map_err(|_| ExchangeError::Stalled)??;
        if !more {
            self.release();
        }
        Ok(more)
    }

    /// Returns the bytes that the last [`ResponseBody::fill`] made available; the next call drops them.
    pub fn available(&self) -> &[u8] {
        self.reader.available()
    }

    /// Moves up to `room` bytes that are there to the socket `to`, without waiting, and returns how many. Bytes that
    /// `to` does not accept are made available instead. Returns 0 if no bytes are there, or splicing is not possible. An error is one of
    /// `to`.
    pub fn splice_to(&mut self, to: &TcpStream, room: usize) -> io::Result<usize> {
        match &self.io {
            Some(UpstreamStream::Plain(from)) => self.reader.splice_to(from, to, room, self.destination.pipes()),
            _ => Ok(0),
        }
    }

    /// Ends reading: gives the connection back to the pool if the body was read to its end.
    pub fn finish(&mut self) {
        if self.reader.next_buffered().is_ok_and(|more| !more) && self.reader.is_done() {
            self.release();
        }
    }

    /// Reads and returns up to `limit` bytes, for the body of an error response. Gives the connection back to the pool
    /// if the body ends within them. Errors end the reading; `idle` limits each wait.
    pub async fn drain(&mut self, limit: usize, idle: Duration) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() <= limit {
            match self.fill(limit, false, idle).await {
                Ok(true) => read.extend_from_slice(self.available()),
                Ok(false) => break,
                Err(_) => {
                    // The state of the connection is not known: it must not be used again.
                    self.io = None;
                    break;
                }
            }
        }
        read.truncate(limit);
        read
    }

    fn release(&mut self) {
        // Bytes behind the end of the body would be taken for the next response.
        if let Some(io) = self.io.take().filter(|_| self.keep_alive && !self.reader.has_surplus()) {
            self.destination.keep(io);
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // Also for a body that was left half read: the buffer is of use to the next one.
        self.destination.buffers().keep(self.reader.take_buffer());
    }
}
