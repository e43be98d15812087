//! Requests with any method and body, for plain routes: hyper's HTTP/1.1 client with a pool of idle connections for
//! each thread, and its HTTP/2 client with one connection of each thread for all its requests. Objects use [`super::connection`] instead, which moves bodies without handing them out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, Request, Response, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use thread_local::ThreadLocal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::connection::UpstreamStream;
use super::destination::{ConnectError, Destination};
use super::settings::UpstreamHttpVersion;
use primitives::clock::monotonic_now;

/// Most idle connections kept for each thread.
const MAX_IDLE: usize = 256;
/// Time after which an idle connection is not used again. Most servers close theirs after 60 s or later.
const MAX_IDLE_TIME: Duration = Duration::from_secs(55);
/// Most header lines of a response.
const MAX_HEADERS: usize = 256;
/// Largest response head in bytes, and most bytes of a body that wait to be taken.
const MAX_BUFFER: usize = 64 * 1024;
/// Most bytes from a request to the end of its response head: interim responses (1xx), the head, and the part of the
/// body read with it.
const MAX_BEFORE_ANSWER: usize = 4 * MAX_BUFFER;
/// Allowance without a bound, while no response head is waited for.
const UNBOUNDED: usize = usize::MAX;

/// Bytes that an HTTP/2 server may send ahead of their reader, on a stream and on a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Time without a frame after which an HTTP/2 connection is asked for a sign of life, and time for the answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Pool of idle connections. Each thread has its own, because the runtime of the thread that made a connection drives
/// it.
#[derive(Default)]
pub struct HttpPool {
    idle: ThreadLocal<Mutex<Vec<IdleHttpConnection>>>,
    /// The HTTP/2 connection that all requests of a thread share.
    shared: ThreadLocal<Mutex<Option<http2::SendRequest<RequestBody>>>>,
}

struct IdleHttpConnection {
    sender: SendRequest<RequestBody>,
    allowance: Arc<AtomicUsize>,
    since: Instant,
}

/// A connection on which one request can be sent. [`HttpConnection::keep`] returns it to the pool after the end of the
/// response.
pub struct HttpConnection {
    sender: RequestSender,
    destination: Arc<Destination>,
    /// True if the connection had served before: the server may have closed it for idleness.
    pub is_reused: bool,
}

enum RequestSender {
    /// HTTP/1.1.
    Http1 {
        sender: SendRequest<RequestBody>,
        /// Bytes that the server may still send before the response head is complete.
        allowance: Arc<AtomicUsize>,
    },
    /// HTTP/2.
    Http2(http2::SendRequest<RequestBody>),
}

impl HttpConnection {
    /// Returns a connection for `version` that is still open, or makes a new one within `limit`, TLS included.
    pub async fn idle_or_new(
        destination: &Arc<Destination>,
        version: UpstreamHttpVersion,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let shared = if version == UpstreamHttpVersion::Http1 { None } else { destination.http_pool().shared() };
        if let Some(sender) = shared {
            let sender = RequestSender::Http2(sender);
            return Ok(Self { sender, destination: Arc::clone(destination), is_reused: true });
        }
        while version != UpstreamHttpVersion::Http2
            && let Some((mut sender, allowance)) = destination.http_pool().take()
        {
            // A connection that is still busy with its last request is dropped, not waited for.
            if sender.ready().now_or_never().is_some_and(|ready| ready.is_ok()) {
                let sender = RequestSender::Http1 { sender, allowance };
                return Ok(Self { sender, destination: Arc::clone(destination), is_reused: true });
            }
        }
        Self::new(destination, version, limit).await
    }

    /// Makes a new connection for `version` within `limit`, TLS included.
    pub async fn new(
        destination: &Arc<Destination>,
        version: UpstreamHttpVersion,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let stream = destination.open(limit, version).await?;
        let is_known = version == UpstreamHttpVersion::Http2 && !destination.is_tls();
        let sender = match is_known || stream.has_chosen_http2() {
            true => RequestSender::Http2(Self::http2(destination, stream).await?),
            false => Self::http1(stream).await?,
        };
        Ok(Self { sender, destination: Arc::clone(destination), is_reused: false })
    }

    async fn http2(
        destination: &Destination,
        stream: UpstreamStream,
    ) -> Result<http2::SendRequest<RequestBody>, ConnectError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_BUFFER as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| ConnectError::Refused(io::Error::other(error)))?;
        drive_connection(connection);
        destination.http_pool().share(sender.clone());
        Ok(sender)
    }

    async fn http1(stream: UpstreamStream) -> Result<RequestSender, ConnectError> {
        let allowance = Arc::new(AtomicUsize::new(UNBOUNDED));
        let io = BoundedStream { stream, allowance: Arc::clone(&allowance) };
        let mut builder = Builder::new();
        builder.max_headers(MAX_HEADERS).max_buf_size(MAX_BUFFER);
        let shaken = builder.handshake(TokioIo::new(io)).await;
        let (sender, connection) = shaken.map_err(|error| ConnectError::Refused(io::Error::other(error)))?;
        // Upgrades (101), such as WebSocket, take the connection over.
        drive_connection(connection.with_upgrades());
        Ok(RequestSender::Http1 { sender, allowance })
    }

    /// Sends `request`, whose target must be a path and which must have a `Host`, and waits for the response head.
    /// Dropping the future before that closes the connection. [`SendError::is_unsent`] says whether it is safe to send
    /// the request again.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        let answer = match &mut self.sender {
            RequestSender::Http1 { sender, allowance } => {
                allowance.store(MAX_BEFORE_ANSWER, Ordering::Relaxed);
                let answer = sender.try_send_request(request).await;
                // The body is not bounded: its reader slows the server down by itself.
                allowance.store(UNBOUNDED, Ordering::Relaxed);
                answer
            }
            RequestSender::Http2(sender) => {
                sender.try_send_request(into_http2(request, self.destination.is_tls())).await
            }
        };
        answer.map_err(|mut error| {
            let is_unsent = error.take_message().is_some();
            SendError { source: error.into_error(), is_unsent }
        })
    }

    /// Returns the connection to the pool. Needs the response to be read to its end.
    pub fn keep(self) {
        if let RequestSender::Http1 { sender, allowance } = self.sender {
            self.destination.http_pool().put(sender, allowance);
        }
    }
}

/// Turns a request of HTTP/1.1 into one of HTTP/2: the host becomes the authority, and what is about the connection goes (RFC 9113
/// §8.2.2, §8.3.1).
fn into_http2(mut request: Request<RequestBody>, is_tls: bool) -> Request<RequestBody> {
    const OF_CONNECTION: [HeaderName; 5] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let host = request.headers_mut().remove(header::HOST);
    for name in OF_CONNECTION {
        request.headers_mut().remove(name);
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    // A host that is no authority leaves a target that hyper refuses to send.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    request
}

/// A stream from which only `allowance` bytes can be read; then a read fails. hyper alone would read interim responses
/// for as long as a server sends them.
struct BoundedStream {
    stream: UpstreamStream,
    allowance: Arc<AtomicUsize>,
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.allowance.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server sends no end of interim answers",
            )));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let taken = left.saturating_sub(buf.filled().len() - before);
        if left != UNBOUNDED {
            // The response may have come meanwhile and lifted the bound: a failed exchange leaves that in place.
            let _ = self.allowance.compare_exchange(left, taken, Ordering::Relaxed, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Failure of a request before its response head.
#[derive(Debug, thiserror::Error)]
#[error("the exchange with the server failed")]
pub struct SendError {
    /// Cause, as hyper reports it.
    pub source: hyper::Error,
    /// True if no byte of the request was written.
    pub is_unsent: bool,
}

#[expect(clippy::disallowed_methods, reason = "it ends with its connection, which belongs to this worker")]
fn drive_connection(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        // Dropped: the request under way gets the same error.
        let _ = connection.await;
    });
}

impl HttpPool {
    /// Returns the HTTP/2 connection of this thread, if it is open.
    fn shared(&self) -> Option<http2::SendRequest<RequestBody>> {
        self.shared.get_or_default().lock().clone().filter(|sender| !sender.is_closed())
    }

    /// Has the requests of this thread that come next sent over `sender`.
    fn share(&self, sender: http2::SendRequest<RequestBody>) {
        *self.shared.get_or_default().lock() = Some(sender);
    }

    fn take(&self) -> Option<(SendRequest<RequestBody>, Arc<AtomicUsize>)> {
        let mut idle = self.idle.get_or_default().lock();
        while let Some(candidate) = idle.pop() {
            // The newest is taken first: if it is too old, all others are.
            if candidate.since.elapsed() > MAX_IDLE_TIME {
                idle.clear();
                return None;
            }
            if !candidate.sender.is_closed() {
                return Some((candidate.sender, candidate.allowance));
            }
        }
        None
    }

    fn put(&self, sender: SendRequest<RequestBody>, allowance: Arc<AtomicUsize>) {
        let mut idle = self.idle.get_or_default().lock();
        // Clean up only when full: a closed connection costs nothing while there is room.
        if idle.len() >= MAX_IDLE {
            idle.retain(|it| !it.sender.is_closed() && it.since.elapsed() <= MAX_IDLE_TIME);
        }
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(IdleHttpConnection { sender, allowance, since: monotonic_now() });
        }
    }
}

/// Part of a request body.
pub enum BodyPart {
    /// Bytes of the body.
    Data(Bytes),
    /// Trailers, which end the body.
    Trailers(HeaderMap),
    /// End of the body without trailers.
    End,
}

/// Body of a request, fed through a channel.
pub struct RequestBody {
    /// `None` after the end of the body.
    parts: Option<mpsc::Receiver<BodyPart>>,
    length: Option<u64>,
}

/// Failure of a body whose sender was dropped before its end. It makes hyper close the connection, so that the request
/// does not look complete.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub struct IncompleteBody;

impl RequestBody {
    /// Creates an empty body.
    pub fn empty() -> Self {
        Self { parts: None, length: Some(0) }
    }

    /// Creates a body of `length` bytes, or of unknown length, and its sender. Dropping the sender before
    /// [`BodyPart::End`] or [`BodyPart::Trailers`] aborts the request.
    pub fn channel(length: Option<u64>) -> (mpsc::Sender<BodyPart>, Self) {
        // One part at a time: a slow server slows the client down instead of filling memory.
        let (feeder, parts) = mpsc::channel(1);
        (feeder, Self { parts: Some(parts), length })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = IncompleteBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncompleteBody>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        let part = ready!(parts.poll_recv(cx));
        if !matches!(part, Some(BodyPart::Data(_))) {
            self.parts = None;
        }
        Poll::Ready(match part {
            Some(BodyPart::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(BodyPart::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(BodyPart::End) => None,
            None => Some(Err(IncompleteBody)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
