//! One HTTP/1.1 exchange at a time on one connection: a request head out, a response head in, its body read in place.
//! RFC 9112. Our own because a body passes through one buffer that the writer to the client reads from directly, and a
//! paused reader must hold no more than that; a general client hands out owned chunks.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::body_reader::{BodyFraming, BodyReader};
use super::destination::Destination;

/// The first read: a response head with a small body fits.
const HEAD_BUFFER: usize = 8 * 1024;
/// Longest response head that is accepted.
const MAX_HEAD: usize = 64 * 1024;
/// Most header lines that are accepted.
const MAX_HEADERS: usize = 100;
/// Most interim answers (1xx) before the final one; with it they take no more than [`MAX_HEAD`].
const MAX_INTERIM: usize = 16;
/// Room for the fields that an object's answer has; more are taken too.
const KEPT_FIELDS: usize = 12;

/// What went wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Closed or reset before a response head was complete; `reused`: on a connection that had served before.
    #[error("the connection was closed before an answer came")]
    Closed {
        /// Whether the connection had served before, so that the server may just have closed it for idleness.
        reused: bool,
        /// The system's error; `None` where the server closed it in due form.
        #[source]
        source: Option<io::Error>,
    },
    /// No response head in time.
    #[error("no answer in time")]
    FirstByteTimeout,
    /// No body bytes in time.
    #[error("the body stalled")]
    Stalled,
    /// The connection was closed before the body's announced end.
    #[error("the body was cut off")]
    Truncated,
    /// The connection failed within the body.
    #[error("the connection broke within the body")]
    Reset(#[source] io::Error),
    /// Not HTTP/1.x, or framed ambiguously.
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
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    /// Waits until there is something to read, so that nobody holds a buffer for it before; TLS can only find out by
    /// reading.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }

    /// Whether there is something to read, as far as is known without asking the system.
    pub(super) fn has_more(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.readable().now_or_never().is_some(),
            Self::Tls(_) => true,
        }
    }

    /// Of `room`, what one read can fill: TLS gives a record at a time, and waits with the buffer in its hand.
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
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Whether an idle connection is still open and silent, as a pooled one must be. The system is asked only where it has
    /// said that something happened since the last read.
    pub(super) fn is_reusable(&self) -> bool {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        socket.readable().now_or_never().is_none()
            || matches!(socket.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Calls the same on either stream.
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
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A connection ready for one request.
pub struct UpstreamConnection {
    io: UpstreamStream,
    destination: Arc<Destination>,
    reused: bool,
}

impl UpstreamConnection {
    pub(super) fn new(io: UpstreamStream, destination: Arc<Destination>, reused: bool) -> Self {
        Self { io, destination, reused }
    }

    /// Sends `head` (a whole request head of a request without body) and reads the response head within `limit`.
    /// `head_only`: the request was a HEAD, so no body follows. Of the header fields only `Content-Length` and those
    /// that `keep` wants, in whatever case, are kept. Of the body, `room` bytes are read with the head where they are there.
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
            self.io.readable().await.map_err(closed)?;
            buffer = self.destination.buffers().take(HEAD_BUFFER + self.io.max_single_read(room));
            read_head(&mut self.io, &mut buffer, keep, self.reused).await
        };
        let parsed = timeout(limit, answer).await.map_err(|_| ExchangeError::FirstByteTimeout)??;
        let framing = framing(&parsed, head_only)?;
        let keep_alive = parsed.keep_alive && framing != BodyFraming::UntilClose;
        let reader = BodyReader::new(buffer, parsed.length, framing);
        Ok(UpstreamResponse {
            status: parsed.status,
            headers: parsed.headers,
            body: ResponseBody { io: Some(self.io), destination: self.destination, reader, keep_alive },
        })
    }
}

/// A response whose body has not been read yet.
pub struct UpstreamResponse {
    /// The status.
    pub status: StatusCode,
    /// The header fields as sent.
    pub headers: HeaderMap,
    /// The body.
    pub body: ResponseBody,
}

/// A response body, read in place. When it ended cleanly the connection goes back to its pool.
pub struct ResponseBody {
    io: Option<UpstreamStream>,
    destination: Arc<Destination>,
    reader: BodyReader,
    keep_alive: bool,
}

impl ResponseBody {
    /// The announced length in bytes, where there is one.
    pub fn content_length(&self) -> Option<u64> {
        self.reader.content_length()
    }

    /// Makes the next bytes available, about `room` at most, waiting at most `idle`; false at the body's clean end. Where
    /// `passing` is set and none are available then, those that are there are to be had by [`ResponseBody::splice_to`] only.
    pub async fn fill(&mut self, room: usize, passing: bool, idle: Duration) -> Result<bool, ExchangeError> {
        let Some(io) = &mut self.io else { return Ok(false) };
        let more = self.reader.next_buffered()?
            || timeout(idle, self.reader.fill(io, room, passing, self.destination.buffers()))
                .await
                .map_err(|_| ExchangeError::Stalled)??;
        if !more {
            self.release();
        }
        Ok(more)
    }

    /// What the last [`ResponseBody::fill`] made available; the next one drops it.
    pub fn available(&self) -> &[u8] {
        self.reader.available()
    }

    /// Passes about `room` bytes that are there to the socket `to`, and says how many; those that it does not take now are
    /// available then. An error is that of `to`.
    pub fn splice_to(&mut self, to: &TcpStream, room: usize) -> io::Result<usize> {
        match &self.io {
            Some(UpstreamStream::Plain(from)) => self.reader.splice_to(from, to, room, self.destination.pipes()),
            _ => Ok(0),
        }
    }

    /// All that is wanted of the body was taken: its connection goes back to the pool where nothing is left to be read.
    pub fn finish(&mut self) {
        if self.reader.next_buffered().is_ok_and(|more| !more) && self.reader.is_done() {
            self.release();
        }
    }

    /// Reads the rest where it is at most `limit` bytes, so that the connection can be used again; returns what was read.
    pub async fn drain(&mut self, limit: usize, idle: Duration) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() <= limit {
            match self.fill(limit, false, idle).await {
                Ok(true) => read.extend_from_slice(self.available()),
                Ok(false) => break,
                Err(_) => {
                    self.io = None;
                    break;
                }
            }
        }
        read.truncate(limit);
        read
    }

    fn release(&mut self) {
        if let Some(io) = self.io.take().filter(|_| self.keep_alive && !self.reader.has_surplus()) {
            self.destination.keep(io);
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.destination.buffers().keep(self.reader.take_buffer());
    }
}

struct ResponseHead {
    status: StatusCode,
    headers: HeaderMap,
    /// The values of `Transfer-Encoding`, joined.
    encoding: Option<Vec<u8>>,
    keep_alive: bool,
    length: usize,
}

async fn read_head(
    io: &mut UpstreamStream,
    buffer: &mut Vec<u8>,
    keep: fn(&str) -> bool,
    reused: bool,
) -> Result<ResponseHead, ExchangeError> {
    // Interim answers stay in the buffer until the final head is there: what a store sends costs each byte once, and is
    // bounded as a whole.
    let (mut start, mut interim) = (0, 0);
    loop {
        let known = buffer.len();
        match io.read(buffer).await {
            Ok(1..) => {}
            ended => {
                let reused = reused && buffer.is_empty();
                return Err(ExchangeError::Closed { reused, source: ended.err() });
            }
        }
        // Only a line's end can complete a head: one that comes byte by byte is parsed once for each line.
        let has_line = known == 0 || buffer[known..].contains(&b'\n');
        while has_line && let Some(head) = parse_head(&buffer[start..], keep)? {
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                buffer.drain(..start);
                return Ok(head);
            }
            start += head.length;
            interim += 1;
            if interim > MAX_INTERIM {
                return Err(ExchangeError::Malformed("it sends too many interim answers"));
            }
        }
        if buffer.len() >= MAX_HEAD {
            return Err(ExchangeError::Malformed("its head is too long"));
        }
    }
}

fn parse_head(buffer: &[u8], keep: fn(&str) -> bool) -> Result<Option<ResponseHead>, ExchangeError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let malformed = || ExchangeError::Malformed("its head cannot be parsed");
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, buffer, &mut lines);
    let httparse::Status::Complete(length) = read.map_err(|_| malformed())? else {
        return Ok(None);
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(malformed)?;
    let mut headers = HeaderMap::with_capacity(KEPT_FIELDS);
    let (mut encoding, mut close, mut keep_alive) = (None::<Vec<u8>>, false, parsed.version == Some(1));
    for line in parsed.headers.iter() {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        if is("connection") {
            close |= has_token(line.value, "close");
            keep_alive |= has_token(line.value, "keep-alive");
        } else if is("transfer-encoding") {
            match &mut encoding {
                Some(encoding) => encoding.extend_from_slice(line.value),
                None => encoding = Some(line.value.to_vec()),
            }
        } else if is("content-length") || keep(line.name) {
            // Names are built of kept fields only: stores send many that nobody asks for.
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| malformed())?;
            headers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| malformed())?);
        }
    }
    Ok(Some(ResponseHead { status, headers, encoding, keep_alive: keep_alive && !close, length }))
}

fn has_token(list: &[u8], word: &str) -> bool {
    list.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// RFC 9112 §6.3.
fn framing(head: &ResponseHead, head_only: bool) -> Result<BodyFraming, ExchangeError> {
    if head_only || matches!(head.status.as_u16(), 101 | 204 | 304) {
        return Ok(BodyFraming::Length(0));
    }
    let ambiguous = ExchangeError::Malformed("its length is ambiguous");
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), &head.encoding) {
        (Some(_), Some(_)) => Err(ambiguous),
        (None, Some(encoding)) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::chunked()),
        (None, Some(_)) => Err(ExchangeError::Malformed("its transfer coding is unknown")),
        (None, None) => Ok(BodyFraming::UntilClose),
        (Some(length), None) => {
            if lengths.any(|other| other != length) {
                return Err(ambiguous);
            }
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|text| text.parse().ok()).map(BodyFraming::Length).ok_or(ambiguous)
        }
    }
}
