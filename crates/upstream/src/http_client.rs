//! Requests of any method and body to a server: hyper's HTTP/1.1, with idle connections kept for each worker. Plain
//! routes use it; objects have an exchange of their own ([`super::connection`]), which moves bodies without handing them out.

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

/// Idle connections kept for each thread.
const MAX_IDLE: usize = 256;
/// Time after which an idle connection is not used again: most servers close theirs at 60 s or later.
const MAX_IDLE_TIME: Duration = Duration::from_secs(55);
/// Most header lines of an answer.
const MAX_HEADERS: usize = 256;
/// Largest head of an answer in bytes, and most bytes of its body that wait to be taken.
const MAX_BUFFER: usize = 64 * 1024;
/// Most bytes from a request to the head of its answer: interim answers (1xx), the head, and what is read with it of the body.
const MAX_BEFORE_ANSWER: usize = 4 * MAX_BUFFER;
/// No bound: no answer is waited for.
const UNBOUNDED: usize = usize::MAX;

/// Idle connections. Each thread has its own: the system tells of a connection's events to the one that made it.
#[derive(Default)]
pub struct HttpPool {
    idle: ThreadLocal<Mutex<Vec<IdleHttpConnection>>>,
}

struct IdleHttpConnection {
    sender: SendRequest<RequestBody>,
    allowance: Arc<AtomicUsize>,
    since: Instant,
}

/// A connection ready for one request; after the answer's end [`HttpConnection::keep`] has it used again.
pub struct HttpConnection {
    sender: SendRequest<RequestBody>,
    /// Bytes that the server may still send before its answer.
    allowance: Arc<AtomicUsize>,
    destination: Arc<Destination>,
    /// It had served before, so that the server may just have closed it for idleness.
    pub is_reused: bool,
}

impl HttpConnection {
    /// An idle connection that is still open, or a new one within `limit`.
    pub async fn idle_or_new(destination: &Arc<Destination>, limit: Duration) -> Result<Self, ConnectError> {
        while let Some((mut sender, allowance)) = destination.http_pool().take() {
            // One that is still busy with the last request is not waited for.
            if sender.ready().now_or_never().is_some_and(|ready| ready.is_ok()) {
                return Ok(Self { sender, allowance, destination: Arc::clone(destination), is_reused: true });
            }
        }
        Self::new(destination, limit).await
    }

    /// A new connection within `limit`, TLS included.
    pub async fn new(destination: &Arc<Destination>, limit: Duration) -> Result<Self, ConnectError> {
        let allowance = Arc::new(AtomicUsize::new(UNBOUNDED));
        let io = BoundedStream { stream: destination.open(limit).await?, allowance: Arc::clone(&allowance) };
        let mut builder = Builder::new();
        builder.max_headers(MAX_HEADERS).max_buf_size(MAX_BUFFER);
        let shaken = builder.handshake(TokioIo::new(io)).await;
        let (sender, connection) = shaken.map_err(|error| ConnectError::Refused(io::Error::other(error)))?;
        drive_connection(connection.with_upgrades());
        Ok(Self { sender, allowance, destination: Arc::clone(destination), is_reused: false })
    }

    /// Sends `request`, whose target is a path and which has a `Host`. Dropped before the answer, it closes the connection.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        self.allowance.store(MAX_BEFORE_ANSWER, Ordering::Relaxed);
        let answer = self.sender.try_send_request(request).await;
        self.allowance.store(UNBOUNDED, Ordering::Relaxed);
        answer.map_err(|mut error| {
            let is_unsent = error.take_message().is_some();
            SendError { source: error.into_error(), is_unsent }
        })
    }

    /// Keeps the connection for another request, once the answer was read to its end.
    pub fn keep(self) {
        self.destination.http_pool().put(self.sender, self.allowance);
    }
}

/// A connection on which a server may send so much before its answer and no more: hyper reads interim answers for as long as
/// there are any.
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
            // The answer may have come meanwhile, and ended the bound.
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

/// Failure of a request before its answer.
#[derive(Debug, thiserror::Error)]
#[error("the exchange with the server failed")]
pub struct SendError {
    /// The cause.
    pub source: hyper::Error,
    /// No byte of the request was written.
    pub is_unsent: bool,
}

#[expect(clippy::disallowed_methods, reason = "it ends with its connection, which belongs to this worker")]
fn drive_connection(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        // The request under way has the error.
        let _ = connection.await;
    });
}

impl HttpPool {
    fn take(&self) -> Option<(SendRequest<RequestBody>, Arc<AtomicUsize>)> {
        let mut idle = self.idle.get_or_default().lock();
        while let Some(candidate) = idle.pop() {
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
        if idle.len() >= MAX_IDLE {
            idle.retain(|it| !it.sender.is_closed() && it.since.elapsed() <= MAX_IDLE_TIME);
        }
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(IdleHttpConnection { sender, allowance, since: Instant::now() });
        }
    }
}

/// Part of a request's body.
pub enum BodyPart {
    /// Bytes.
    Data(Bytes),
    /// The trailers, which end it.
    Trailers(HeaderMap),
    /// Its end.
    End,
}

/// The body of a request, fed through a channel.
pub struct RequestBody {
    /// `None` behind the end.
    parts: Option<mpsc::Receiver<BodyPart>>,
    length: Option<u64>,
}

/// Error of a body whose feeding was given up: the request must not look whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub struct IncompleteBody;

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self { parts: None, length: Some(0) }
    }

    /// A body of `length` bytes, or of any length, and its feeder; a feeder that is dropped before the end breaks it off.
    pub fn channel(length: Option<u64>) -> (mpsc::Sender<BodyPart>, Self) {
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
