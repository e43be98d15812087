//! A request of a client and the way back to it, as handlers see it: the same over HTTP/1.1 and HTTP/2.

use std::future::Future;
use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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
    /// The request's body is not framed as RFC 9112 §7.1 has it.
    #[error("{0}")]
    MalformedBody(&'static str),
    /// The handler wrote more or less than the length that it announced, or not first a head and then a body: a bug.
    #[error("the answer was written in the wrong order or length")]
    Misused,
}

/// One request and its answer.
///
/// The answer is a head, then its body piece by piece, then [`Downstream::end`]; or [`Downstream::abort`] anywhere. A
/// future that is dropped before its end leaves an exchange that can only be aborted.
pub trait Downstream: Send + Sync {
    /// The request's head.
    fn request(&self) -> &Parts;
    /// The other end of the connection.
    fn peer(&self) -> IpAddr;
    /// Whether it came over TLS.
    fn is_tls(&self) -> bool;
    /// The status of the answer that has begun; interim ones (1xx) do not count.
    fn status(&self) -> Option<StatusCode>;
    /// Bytes of the answer's body so far.
    fn body_sent(&self) -> u64;
    /// Bytes of the body that it takes now without being waited for, as far as is known: larger pieces cost less CPU for
    /// each byte, but bytes that are not taken are held.
    fn writable_bytes(&self) -> usize {
        USUAL_PIECE
    }
    /// The socket that takes the bytes of the body as they are; `None` where they are framed or encrypted, or not to be
    /// written yet.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
    /// Notes that so many bytes of the body were written to [`Downstream::socket`].
    fn wrote_to_socket(&mut self, _count: usize) {}
    /// Ends the connection with this answer, where a connection carries one exchange at a time.
    fn close_after(&mut self);

    /// Sends an interim answer (1xx, RFC 9110 §15.2), where the client's version has them.
    fn write_interim(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Begins the answer. Its framing follows from the status, the method and `Content-Length`; without one the body
    /// may have any length.
    fn write_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
    ) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Goes on with the body; waits until the bytes are taken. Empty pieces are nothing.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Whether written bytes are kept until the other end has room for them: [`Downstream::write_owned`] then saves a copy.
    fn buffers_writes(&self) -> bool {
        false
    }
    /// As [`Downstream::write`], of bytes that can be kept.
    fn write_owned(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Sends everything written so far without waiting for more.
    fn flush(&mut self) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Ends the answer, with trailers where there are any and the framing has room for them.
    fn end(&mut self, trailers: Option<HeaderMap>) -> impl Future<Output = Result<(), DownstreamError>> + Send;
    /// Breaks the answer off, so that it cannot be taken for a whole one.
    fn abort(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether there is no more of the request's body to read.
    fn has_read_body(&self) -> bool;
    /// Whether the client sends the body only after `100 Continue` (RFC 9110 §10.1.1), which reading it sends.
    fn awaits_continue(&self) -> bool;
    /// Reads on in the request's body; `None` at its end. Can be dropped and called again.
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>, DownstreamError>> + Send;
    /// The trailers of the request's body, once its end was read.
    fn take_trailers(&mut self) -> Option<HeaderMap>;
    /// Reads and drops the rest of the request's body, for a while.
    fn drain(&mut self) -> impl Future<Output = ()> + Send;

    /// Resolves when the client has gone; a half-closed connection is still listening. Can be dropped and called again.
    fn closed(&mut self) -> impl Future<Output = ()> + Send;
    /// As [`Downstream::closed`], but a client that has said that nothing more will come is waited for only a little while
    /// longer: most that have closed their half have closed the other one too, which they cannot say.
    fn closed_with_grace(&mut self) -> impl Future<Output = ()> + Send {
        self.closed()
    }
    /// As [`Downstream::closed`], but a client that has said that nothing more will come has gone too: an answer that
    /// never ends would be kept up for nobody otherwise.
    fn closed_or_half_closed(&mut self) -> impl Future<Output = ()> + Send {
        self.closed()
    }

    /// Turns the connection into a byte stream of another protocol, after the head of a 101 was written (RFC 9110 §7.8);
    /// `None` where the version has no such thing.
    fn tunnel(&mut self) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send>;
}
