//! A connection that a request takes over whole, with its head put back in front.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection_guard::ConnectionGuard;
use crate::connection_info::ConnectionInfo;
use crate::connection_limits::ConnectionLimits;
use crate::socket::{ClientSocket, RewoundSocket};
use crate::write_deadline::WriteDeadline;

/// A connection with everything that was read of it in front. It counts as open until it is dropped.
pub struct ConnectionTakeover {
    info: ConnectionInfo,
    target: Uri,
    stream: WriteDeadline<RewoundSocket<ClientSocket>>,
    _guard: Arc<ConnectionGuard>,
}

impl ConnectionTakeover {
    /// Takes over `socket` from a request for `target`, whose `head` was read already. Writes on it
    /// are held to `limits`.
    pub fn new(
        mut socket: ClientSocket,
        head: Bytes,
        target: Uri,
        limits: &ConnectionLimits,
        guard: Arc<ConnectionGuard>,
    ) -> Self {
        // The new owner reads the request from its first byte, then what was read ahead.
        let mut read = BytesMut::from(head);
        read.unsplit(std::mem::take(&mut socket.read_ahead));
        socket.read_ahead = read;
        let info = socket.info().clone();
        let stream = WriteDeadline::new(RewoundSocket::new(socket), limits);
        Self { info, target, stream, _guard: guard }
    }

    /// Returns the target of the first request, without the credentials that stand in the head.
    pub fn target(&self) -> &Uri {
        &self.target
    }

    /// Returns the facts about the connection.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

impl AsyncRead for ConnectionTakeover {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ConnectionTakeover {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
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
