//! Requests with any method and body, for plain routes: hyper's HTTP/1.1 client with a pool of idle connections for
//! each thread. Objects use [`super::connection`] instead, which moves bodies without handing them out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use thread_local::ThreadLocal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::connection::UpstreamStream;
use super::destination::{ConnectError, Destination};
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

/// Pool of idle connections. Each thread has its own, because the runtime of the thread that made a connection drives
/// it.
#[derive(Default)]
pub struct HttpPool {
    idle: ThreadLocal<Mutex<Vec<IdleHttpConnection>>>,
}

struct IdleHttpConnection {
    sender: SendRequest<RequestBody>,
    allowance: Arc<AtomicUsize>,
    since: Instant,
}

/// A connection on which one request can be sent. [`HttpConnection::keep`] returns it to the pool after the end of the
/// response.
pub struct HttpConnection {
    sender: SendRequest<RequestBody>,
    /// Bytes that the server may still send before the response head is complete.
    allowance: Arc<AtomicUsize>,
    destination: Arc<Destination>,
    /// True if the connection had served before: the server may have closed it for idleness.
    pub is_reused: bool,
}

impl HttpConnection {
    /// Returns an idle connection that is still open, or makes a new one within `limit`, TLS included.
    pub async fn idle_or_new(destination: &Arc<Destination>, limit: Duration) -> Result<Self, ConnectError> {
        while let Some((mut sender, allowance)) = destination.http_pool().take() {
            // A connection that is still busy with its last request is dropped, not waited for.
            if sender.ready().now_or_never().is_some_and(|ready| ready.is_ok()) {
                return Ok(Self { sender, allowance, destination: Arc::clone(destination), is_reused: true });
            }
        }
        Self::new(destination, limit).await
    }

    /// Makes a new connection within `limit`, TLS included.
    pub async fn new(destination: &Arc<Destination>, limit: Duration) -> Result<Self, ConnectError> {
        let allowance = Arc::new(AtomicUsize::new(UNBOUNDED));
        let io = BoundedStream { stream: destination.open(limit).await?, allowance: Arc::clone(&allowance) };
        let mut builder = Builder::new();
        builder.max_headers(MAX_HEADERS).max_buf_size(MAX_BUFFER);
        let shaken = builder.handshake(TokioIo::new(io)).await;
        let (sender, connection) = shaken.map_err(|error| ConnectError::Refused(io::Error::other(error)))?;
        // Upgrades (101), such as WebSocket, take the connection over.
        drive_connection(connection.with_upgrades());
        Ok(Self { sender, allowance, destination: Arc::clone(destination), is_reused: false })
    }

    /// Sends `request`, whose target must be a path and which must have a `Host`, and waits for the response head.
    /// Dropping the future before that closes the connection. [`SendError::is_unsent`] says whether it is safe to send
    /// the request again.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        self.allowance.store(MAX_BEFORE_ANSWER, Ordering::Relaxed);
        let answer = self.sender.try_send_request(request).await;
        // The body is not bounded: its reader slows the server down by itself.
        self.allowance.store(UNBOUNDED, Ordering::Relaxed);
        answer.map_err(|mut error| {
            let is_unsent = error.take_message().is_some();
            SendError { source: error.into_error(), is_unsent }
        })
    }

    /// Returns the connection to the pool. Needs the response to be read to its end.
    pub fn keep(self) {
        self.destination.http_pool().put(self.sender, self.allowance);
    }
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
