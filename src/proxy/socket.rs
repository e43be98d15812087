//! A player's connection: in the clear it is the socket itself, with nothing between us and the system; with TLS it is as
//! Pingora has it.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::Result;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::ext::get_tcp_info;
use pingora::protocols::l4::stream as l4;
use pingora::protocols::{ALPN, GetSocketDigest as _, SocketDigest, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A player's connection and what is known of its other end.
pub struct Socket {
    way: Way,
    fd: RawFd,
    peer: SocketAddr,
    /// Whether the other end has taken a whole answer.
    pub has_taken_answers: bool,
}

enum Way {
    Plain(TcpStream),
    Tls(Stream),
}

impl Socket {
    /// A new connection to `peer`.
    pub fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let fd = stream.as_raw_fd();
        Ok(Self { way: Way::Plain(stream), fd, peer, has_taken_answers: false })
    }

    /// The connection after the TLS handshake.
    pub async fn secured(self, tls: &Acceptor) -> Result<Self> {
        let Way::Plain(stream) = self.way else { return Ok(self) };
        let stream = tls.tls_handshake(known(stream, self.peer)).await?;
        Ok(Self { way: Way::Tls(Box::new(stream)), ..self })
    }

    /// Its other end.
    pub fn peer(&self) -> IpAddr {
        self.peer.ip()
    }

    /// The socket itself, where there is nothing in between.
    pub fn plain(&self) -> Option<&TcpStream> {
        match &self.way {
            Way::Plain(stream) => Some(stream),
            Way::Tls(_) => None,
        }
    }

    /// Whether it has TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.way, Way::Tls(_))
    }

    /// Whether the TLS handshake settled on HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        matches!(&self.way, Way::Tls(stream) if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)))
    }

    /// Bytes that the kernel still has to send on it.
    pub fn unsent(&self) -> Option<usize> {
        usize::try_from(get_tcp_info(self.fd).ok()?.tcpi_notsent_bytes).ok()
    }

    /// As Pingora has it.
    pub fn into_pingora(self) -> Stream {
        match self.way {
            Way::Plain(stream) => Box::new(known(stream, self.peer)),
            Way::Tls(stream) => stream,
        }
    }

    /// The same, as if `read` had not been read of it; `None` with TLS, which cannot be turned back.
    pub fn into_unread(self, read: &[u8]) -> Option<Stream> {
        let Way::Plain(stream) = self.way else { return None };
        let mut stream = known(stream, self.peer);
        stream.rewind(read);
        Some(Box::new(stream))
    }
}

fn known(stream: TcpStream, peer: SocketAddr) -> l4::Stream {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // It is new, and knows of nobody.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let mut stream = l4::Stream::from(stream);
    stream.set_socket_digest(digest);
    stream
}

/// What one way does, the other does.
macro_rules! either {
    ($socket:ident, $stream:ident => $does:expr) => {
        match &mut $socket.get_mut().way {
            Way::Plain($stream) => $does,
            Way::Tls($stream) => $does,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
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
        match &self.way {
            Way::Plain(stream) => stream.is_write_vectored(),
            Way::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
