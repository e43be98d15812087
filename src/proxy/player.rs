//! Who asks, as the phases see it: a request that was read and an answer that is written piece by piece. Two ship: a
//! session of Pingora, and [`super::direct::Direct`], which serves objects over HTTP/1.1 without one.

use std::future::Future;
use std::net::IpAddr;

use bytes::Bytes;
use http::StatusCode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tokio::net::TcpStream;

use super::failure::Failure;

/// Bytes of a body that are read at once for a player that is behind: what it costs in memory while it does not read.
pub const SMALL_PIECE: usize = 32 * 1024;
/// The same where it is not known whether a player is behind.
const USUAL_PIECE: usize = 64 * 1024;

/// One request of a player and the way back to it.
pub trait Player: Send {
    /// The request's head.
    fn request(&self) -> &RequestHeader;
    /// The head as it came over an HTTP/1 connection.
    fn raw_head(&self) -> Option<Bytes>;
    /// The other end of the connection.
    fn peer(&self) -> Option<IpAddr>;
    /// Whether it came over TLS.
    fn is_tls(&self) -> bool;
    /// The status of the answer that has begun.
    fn answered_with(&self) -> Option<StatusCode>;
    /// Bytes of the answer's body so far.
    fn sent(&self) -> usize;
    /// Bytes of the body that it takes now without being waited for, as far as is known: larger pieces cost less CPU for
    /// each byte, but what is not taken is held.
    fn room(&self) -> usize {
        USUAL_PIECE
    }
    /// The socket that takes the bytes of the body as they are; `None` where they are wrapped, or not to be written yet.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
    /// So many bytes of the body were written to [`Player::socket`].
    fn passed(&mut self, _count: usize) {}
    /// The connection ends with this answer.
    fn close_after(&mut self);
    /// Begins the answer.
    fn write_head(&mut self, head: ResponseHeader) -> impl Future<Output = Result<()>> + Send;
    /// Goes on with the body; waits until the bytes are taken.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Whether what is written is kept until the other end has room for it: [`Player::write_kept`] then saves a copy.
    fn keeps(&self) -> bool {
        false
    }
    /// As [`Player::write`], where the bytes are their own already.
    fn write_kept(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Sends what was written so far without waiting for more.
    fn flush(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Ends the answer.
    fn end(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// Whether there is no more of the request's body to read.
    fn has_read_body(&mut self) -> bool;
    /// Reads on in the request's body; `None` at its end.
    fn read_piece(&mut self) -> impl Future<Output = Result<Option<Bytes>, Failure>> + Send;
    /// Reads and drops what is left of the request's body.
    fn drain(&mut self) -> impl Future<Output = ()> + Send;
    /// Breaks the answer off, so that it cannot be taken for a whole one.
    fn abort(&mut self) -> impl Future<Output = ()> + Send;
    /// Resolves when the player has gone; a half-closed one is still listening.
    fn left(&mut self) -> impl Future<Output = ()> + Send;
    /// As [`Player::left`], but whoever has said that nothing more will come has gone too: what never ends is kept up
    /// for nobody otherwise.
    fn hung_up(&mut self) -> impl Future<Output = ()> + Send {
        self.left()
    }
}

impl Player for Session {
    fn request(&self) -> &RequestHeader {
        self.req_header()
    }

    fn raw_head(&self) -> Option<Bytes> {
        self.as_http1().map(|h1| h1.get_headers_raw_bytes())
    }

    fn peer(&self) -> Option<IpAddr> {
        self.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip)
    }

    fn is_tls(&self) -> bool {
        self.digest().is_some_and(|digest| digest.ssl_digest.is_some())
    }

    fn answered_with(&self) -> Option<StatusCode> {
        self.response_written().map(|response| response.status)
    }

    fn sent(&self) -> usize {
        self.body_bytes_sent()
    }

    fn close_after(&mut self) {
        self.set_keepalive(None);
    }

    async fn write_head(&mut self, head: ResponseHeader) -> Result<()> {
        self.as_downstream_mut().write_response_header(Box::new(head)).await
    }

    /// HTTP/1 takes the bytes where they are; HTTP/2 keeps them until its window opens, so it gets its own copy.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let ServerSession::H1(h1) = self.as_downstream_mut() else {
            return self.write_kept(Bytes::copy_from_slice(bytes)).await;
        };
        h1.write_body(bytes).await.map(|_| ()).map_err(|error| unwritten(&error))
    }

    fn keeps(&self) -> bool {
        self.as_http1().is_none()
    }

    async fn write_kept(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let written = self.as_downstream_mut().write_response_body(bytes, false).await;
        written.map_err(|error| unwritten(&error))
    }

    /// It keeps nothing back of an answer that comes piece by piece.
    async fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        self.as_downstream_mut().write_response_body(Bytes::new(), true).await
    }

    fn has_read_body(&mut self) -> bool {
        self.as_downstream_mut().is_body_done()
    }

    async fn read_piece(&mut self) -> Result<Option<Bytes>, Failure> {
        self.read_request_body().await.map_err(|_| Failure::ClientLeft)
    }

    async fn drain(&mut self) {
        // What cannot be drained goes with the connection.
        let _ = self.as_downstream_mut().drain_request_body().await;
    }

    async fn abort(&mut self) {
        self.set_keepalive(None);
        self.as_downstream_mut().shutdown().await;
    }

    async fn left(&mut self) {
        // What it sends of a body is passed over.
        while self.as_downstream_mut().read_body_or_idle(false).await.is_ok() {}
    }
}

fn unwritten(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::WriteTimedout => Failure::ClientStalled,
        _ => Failure::ClientLeft,
    }
}
