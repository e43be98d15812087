//! A client's request and the way back for its response, as handlers see it: the same over HTTP/1.1 and HTTP/2.

use std::future::{Future, ready};
use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::connection_info::ConnectionInfo;

/// Bytes of a body that are read at once for a client that is behind: the memory that it costs while it does not read.
pub const SMALL_PIECE: usize = 32 * 1024;
/// The same where it is not known whether a client is behind.
pub const USUAL_PIECE: usize = 64 * 1024;

/// Failure of the client's side of an exchange. The connection, or the HTTP/2 stream, is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownstreamError {
    /// The connection is closed or broken.
    #[error("the client closed the connection")]
    Closed,
    /// No byte was taken, or sent, within the time limit.
    #[error("the client neither takes nor sends bytes")]
    Stalled,
    /// The exchange took longer than any may.
    #[error("the request took longer than it may")]
    Overdue,
    /// The request's body is not framed as RFC 9112 §7.1 has it.
    #[error("{0}")]
    MalformedBody(&'static str),
    /// The handler wrote more or less than the length that it announced, or not first a head and then a body: a bug.
    #[error("the answer was written in the wrong order or length")]
    Misused,
}

/// Answer to the question whether a client takes the next bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyReadiness {
    /// It takes some, as far as is known.
    Ready,
    /// It does not yet, and what is kept for all such clients is too much: what is kept of this body should be released, and
    /// the question asked again.
    MemoryIsShort,
}

/// One request and its response.
///
/// The response is a head, then its body piece by piece, then [`Downstream::end`]; or [`Downstream::abort`] anywhere. A
/// future that is dropped before its end leaves an exchange that can only be aborted.
pub trait Downstream: Send + Sync {
    /// Returns the request's head.
    fn request(&self) -> &Parts;
    /// Returns the facts about the connection.
    fn connection(&self) -> &ConnectionInfo;
    /// Returns the client's address, as far as the connection tells it.
    fn peer(&self) -> IpAddr {
        self.connection().peer
    }
    /// Returns true where the request came over TLS.
    fn is_tls(&self) -> bool {
        self.connection().is_tls
    }
    /// Returns the status of the response once it has begun; interim ones (1xx) do not count.
    fn status(&self) -> Option<StatusCode>;
    /// Returns the bytes of the response's body that were written so far.
    fn body_sent(&self) -> u64;
    /// Returns the bytes of the body that are taken now without waiting, as far as is known: larger pieces cost less
    /// CPU for each byte, but bytes that are not taken are held in memory.
    fn writable_bytes(&self) -> usize {
        USUAL_PIECE
    }
    /// Returns the socket that takes the bytes of the body as they are; `None` where they are framed or encrypted, or
    /// not to be written yet.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
    /// Notes that so many bytes of the body were written to [`Downstream::socket`].
    fn wrote_to_socket(&mut self, _count: usize) {}
    /// Ends the connection after this response, where a connection carries one exchange at a time.
    fn close_after(&mut self);

    /// Sends an interim response (1xx, RFC 9110 §15.2); does nothing where the client's version has none.
    fn write_interim(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Begins the response. Its framing follows from the status, the method and `Content-Length`; without one the body
    /// may have any length.
    fn write_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
    ) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Goes on with the body; waits until the bytes are taken. Empty pieces are nothing.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Waits, after the head, until the client takes bytes of the body, so that nothing is read for one that does not.
    /// Meanwhile the caller keeps about `kept` bytes in memory. Fails as [`Downstream::write`] does. Can be dropped and
    /// called again.
    fn body_readiness(&mut self, _kept: usize) -> impl Future<Output = Result<BodyReadiness, DownstreamError>> + Send {
        ready(Ok(BodyReadiness::Ready))
    }
    /// Returns true where written bytes are kept until the other end has room for them: [`Downstream::write_owned`]
    /// then saves a copy.
    fn buffers_writes(&self) -> bool {
        false
    }
    /// Writes as [`Downstream::write`] does, of bytes that can be kept.
    fn write_owned(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Sends everything written so far without waiting for more.
    fn flush(&mut self) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Ends the response, with trailers where there are any and the framing has room for them.
    fn end(&mut self, trailers: Option<HeaderMap>) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Breaks the response off, so that it cannot be taken for a whole one.
    fn abort(&mut self) -> impl Future<Output = ()> + Send;

    /// Returns true where there is no more of the request's body to read.
    fn has_read_body(&self) -> bool;
    /// Returns true where the client sends the body only after `100 Continue` (RFC 9110 §10.1.1), which reading it
    /// sends.
    fn awaits_continue(&self) -> bool;
    /// Reads on in the request's body; `None` at its end. Fails where the client stalls, closes, or sends malformed
    /// chunks. Can be dropped and called again.
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>, DownstreamError>> + Send;
    /// Takes the trailers of the request's body, once its end was read.
    fn take_trailers(&mut self) -> Option<HeaderMap>;
    /// Reads and drops the rest of the request's body, for a few seconds at most.
    fn drain(&mut self) -> impl Future<Output = ()> + Send;

    /// Resolves when the client has gone; a half-closed connection is still listening. Can be dropped and called again.
    fn closed(&mut self) -> impl Future<Output = ()> + Send;
    /// Resolves as [`Downstream::closed`] does, and also a little while after a client has half-closed: most clients
    /// that close their half have closed the other one too, which they cannot say.
    fn closed_with_grace(&mut self) -> impl Future<Output = ()> + Send {
        self.closed()
    }
    /// Resolves as [`Downstream::closed`] does, and also when a client half-closes: a response that never ends would
    /// otherwise be kept up for nobody.
    fn closed_or_half_closed(&mut self) -> impl Future<Output = ()> + Send {
        self.closed()
    }

    /// Turns the connection into a byte stream of another protocol, after the head of a 101 was written (RFC 9110
    /// §7.8); `None` where the version has no such thing.
    fn tunnel(&mut self) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send>;
}
