//! A client's connection: in the clear it is the socket itself, with nothing between us and the system; with TLS it is
//! rustls' stream over it. Bytes that came before they were wanted are kept here.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt as _;
use pingora::protocols::l4::ext::get_tcp_info;
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::DownstreamError;
use super::connection_limits::{ConnectionLimits, DataRateMeter};
use crate::acme_challenges::ACME_TLS_PROTOCOL;
use crate::client_revalidation::ClientRevalidation;
use crate::connection_info::{ConnectionInfo, ResponseRules};
use crate::tls_server::TlsServer;
use crate::transport::{self, PlainStream};
use primitives::clock::monotonic_now;

/// First read buffer of a request, in bytes.
pub const HEAD_BUFFER: usize = 4096;
/// Least spare bytes of a buffer for another read into it.
const LEAST_ROOM: usize = 1024;
/// Time for a client to take the connection's end, or to say that it has read some more of what came before.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Time in all for a client that goes on sending.
const MAX_CLOSE_TIME: Duration = Duration::from_secs(10);
/// Most bytes that are read and dropped then: one that sends as fast as it can costs no more than that.
const MAX_CLOSE_BYTES: usize = 16 * 1024 * 1024;

/// A client's connection and what is known of its other end.
pub struct ClientSocket {
    transport: Transport,
    fd: RawFd,
    info: ConnectionInfo,
    revalidation: Option<Box<ClientRevalidation>>,
    /// Bytes that were read and not used yet.
    pub read_ahead: BytesMut,
    /// The client has said that it sends no more.
    pub is_half_closed: bool,
    /// A whole answer was written before.
    pub has_taken_answers: bool,
    /// Time for which writes have waited.
    write_meter: DataRateMeter,
}

enum Transport {
    Plain(PlainStream),
    /// Boxed: its state is several times that of a socket, and most connections of a machine behind a balancer have none.
    Tls(Box<TlsStream<RewoundSocket<PlainStream>>>),
}

impl ClientSocket {
    /// Wraps a new connection of `peer`, whose responses follow `rules`; fails where the socket takes no options.
    pub fn new(stream: PlainStream, peer: IpAddr, rules: &Arc<ResponseRules>) -> io::Result<Self> {
        transport::configure(&stream)?;
        let fd = transport::descriptor(&stream);
        Ok(Self {
            transport: Transport::Plain(stream),
            fd,
            info: ConnectionInfo {
                peer: peer.to_canonical(),
                is_tls: false,
                client_certificate: None,
                rules: Arc::clone(rules),
            },
            revalidation: None,
            read_ahead: BytesMut::new(),
            is_half_closed: false,
            has_taken_answers: false,
            write_meter: DataRateMeter::default(),
        })
    }

    /// Makes the TLS handshake, which begins with what was read ahead, and returns the connection; one with TLS is
    /// returned as it is. Fails where the handshake does.
    pub async fn accept_tls(mut self, tls: &TlsServer) -> io::Result<Self> {
        let Transport::Plain(socket) = self.transport else { return Ok(self) };
        let read = std::mem::take(&mut self.read_ahead);
        let stream = tls.acceptor().accept(RewoundSocket { read, socket }).await?;
        let client_certificate = tls.client_certificate(stream.get_ref().1);
        let revalidation = tls.client_revalidation(stream.get_ref().1).map(Box::new);
        let info = ConnectionInfo { is_tls: true, client_certificate, ..self.info };
        Ok(Self { transport: Transport::Tls(Box::new(stream)), info, revalidation, ..self })
    }

    /// Takes what verifies the client's certificate for as long as the connection is open, where it has shown one.
    pub fn take_revalidation(&mut self) -> Option<Box<ClientRevalidation>> {
        self.revalidation.take()
    }

    /// Replaces the client's address by the one that a trusted source gives.
    pub fn set_peer(&mut self, peer: IpAddr) {
        self.info.peer = peer.to_canonical();
    }

    /// Returns the facts about the connection.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Makes the end of the connection look like a failure (RST), which tells the client that a response without a
    /// length is not whole (RFC 9112 §8).
    pub fn reset_on_close(&self) {
        // With TLS a missing `close_notify` tells the same (RFC 9112 §9.8).
        if let Some(stream) = self.plain() {
            // Where it cannot be set, the connection is gone already.
            let _ = stream.set_zero_linger();
        }
    }

    /// Returns the TCP socket itself; `None` with TLS, and where it is a Unix socket.
    pub fn plain(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Plain(stream) => transport::tcp(stream),
            Transport::Tls(_) => None,
        }
    }

    /// Returns true where the TLS handshake selected HTTP/2.
    pub fn negotiated_http2(&self) -> bool {
        matches!(&self.transport, Transport::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Returns true where the TLS handshake was an ACME server's look at a challenge's certificate.
    pub fn is_acme_challenge(&self) -> bool {
        matches!(&self.transport, Transport::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS_PROTOCOL))
    }

    /// Returns the bytes that the kernel has accepted and not yet sent; `None` where it does not say.
    pub fn unsent(&self) -> Option<usize> {
        usize::try_from(get_tcp_info(self.fd).ok()?.tcpi_notsent_bytes).ok()
    }

    /// Returns the bytes that the other end's kernel has acknowledged so far.
    fn acknowledged(&self) -> u64 {
        get_tcp_info(self.fd).map_or(0, |info| info.tcpi_bytes_acked)
    }

    /// Reads more into `read_ahead`, about `room` bytes at most; returns 0 when the client sends no more. Can be
    /// dropped and called again.
    pub async fn read_more(&mut self, room: usize) -> io::Result<usize> {
        // Pieces that were split off share the buffer: one of its own for each would let a body of many small ones cost
        // more than its length.
        if self.read_ahead.capacity() - self.read_ahead.len() < LEAST_ROOM.min(room) {
            self.read_ahead.reserve(room);
        }
        let read = match &mut self.transport {
            Transport::Plain(stream) => stream.read_buf(&mut self.read_ahead).await?,
            Transport::Tls(stream) => stream.read_buf(&mut self.read_ahead).await?,
        };
        self.is_half_closed |= read == 0;
        Ok(read)
    }

    /// Takes the first `length` bytes that were read ahead. Where there are no others they get a buffer of their own size: a
    /// request's head is kept for as long as its answer takes, and most are a fraction of the buffer.
    pub fn take_front(&mut self, length: usize) -> Bytes {
        if self.read_ahead.len() == length {
            return Bytes::copy_from_slice(&std::mem::take(&mut self.read_ahead));
        }
        self.read_ahead.split_to(length).freeze()
    }

    /// Reads as [`Self::read_more`] does, with nothing read ahead: the buffer is there only when there is something to
    /// read, since most connections are idle most of the time.
    pub async fn first_read(&mut self) -> io::Result<usize> {
        self.read_ahead = BytesMut::new();
        poll_fn(|cx| {
            let mut fresh = BytesMut::with_capacity(HEAD_BUFFER);
            let read = poll_read_buf(Pin::new(&mut *self), cx, &mut fresh);
            if let Poll::Ready(Ok(count)) = &read {
                self.is_half_closed |= *count == 0;
                self.read_ahead = fresh;
            }
            read
        })
        .await
    }

    /// Writes all of `bytes`; fails as [`DownstreamError::Stalled`] once the other end takes none of them for the limit
    /// of writes, or fewer than its rate asks for. The kernel accepts more only in large steps, so its count of
    /// acknowledged bytes decides, not its acceptance.
    pub async fn write_all(
        &mut self,
        bytes: &mut (impl Buf + Send),
        limits: &ConnectionLimits,
    ) -> Result<(), DownstreamError> {
        while bytes.has_remaining() {
            if self.write_within(limits, |socket, cx| poll_write_buf(socket, cx, bytes)).await? == 0 {
                return Err(DownstreamError::Closed);
            }
        }
        self.write_within(limits, AsyncWrite::poll_flush).await
    }

    /// Ends the connection so that what was written arrives: closing on bytes that nobody has read would reset it, and
    /// the system would drop what it has not sent yet. Until the client ends it too, its bytes are read and dropped.
    pub async fn close(mut self) {
        let ending = async {
            // Over TLS the end has to be said, or it could be anybody's. A client that is gone takes nothing.
            if !matches!(timeout(CLOSE_TIME, self.shutdown()).await, Ok(Ok(()))) {
                return;
            }
            let (mut buffer, mut dropped) = ([0; 1024], 0);
            while !self.is_half_closed && dropped < MAX_CLOSE_BYTES {
                match timeout(CLOSE_TIME, self.read(&mut buffer)).await {
                    Ok(Ok(length @ 1..)) => dropped += length,
                    Ok(Ok(0) | Err(_)) | Err(_) => return,
                }
            }
        };
        let _ = timeout(MAX_CLOSE_TIME, ending).await;
    }

    async fn write_within<T>(
        &mut self,
        limits: &ConnectionLimits,
        mut write: impl FnMut(Pin<&mut Self>, &mut Context<'_>) -> Poll<io::Result<T>> + Send,
    ) -> Result<T, DownstreamError> {
        let closed = |_| DownstreamError::Closed;
        // Most writes are accepted at once, and need neither a timer nor the system's count.
        if let Some(written) = poll_fn(|cx| write(Pin::new(&mut *self), cx)).now_or_never() {
            return written.map_err(closed);
        }
        let (mut before, mut quiet) = (self.acknowledged(), Duration::ZERO);
        loop {
            let begun = monotonic_now();
            let wait = limits.write.saturating_sub(quiet).min(self.write_meter.remaining(limits.response_rate));
            let written = timeout(wait, poll_fn(|cx| write(Pin::new(&mut *self), cx))).await;
            let (now, waited) = (self.acknowledged(), begun.elapsed());
            let is_fast_enough = self.write_meter.record(limits.response_rate, waited, now);
            quiet = if now == before { quiet + waited } else { Duration::ZERO };
            match written {
                _ if !is_fast_enough => return Err(DownstreamError::Stalled),
                Ok(written) => return written.map_err(closed),
                Err(_) if quiet >= limits.write => return Err(DownstreamError::Stalled),
                Err(_) => before = now,
            }
        }
    }
}

/// Evaluates the same expression on either transport.
macro_rules! either {
    ($socket:ident, $stream:ident => $does:expr) => {
        match &mut $socket.get_mut().transport {
            Transport::Plain($stream) => $does,
            Transport::Tls($stream) => $does,
        }
    };
}

/// Reads from the transport, not from what was read ahead.
impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A client's connection as a byte stream that begins with what was read ahead.
pub struct RewoundSocket<S> {
    read: BytesMut,
    socket: S,
}

impl RewoundSocket<ClientSocket> {
    /// Takes the connection over.
    pub fn new(mut socket: ClientSocket) -> Self {
        Self { read: std::mem::take(&mut socket.read_ahead), socket }
    }
}

impl<'a> RewoundSocket<&'a mut ClientSocket> {
    /// Borrows the connection.
    pub fn borrowed(socket: &'a mut ClientSocket) -> Self {
        Self { read: std::mem::take(&mut socket.read_ahead), socket }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RewoundSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let taken = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..taken]);
        self.read.advance(taken);
        if self.read.is_empty() {
            // An empty part of a buffer would keep all of it.
            self.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RewoundSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
