//! The byte stream under an HTTP/2 connection, on which every frame is counted before the library sees it: it answers
//! PING and SETTINGS however many come, and tells nobody of resets.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::frame_budget::{FloodKind, FrameBudget};
use super::frame_scanner::FrameScanner;
use primitives::clock::monotonic_now;

/// Bytes of a client's connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// A stream that gives nothing more to read once its client has sent too many frames.
pub struct FrameGuard<S> {
    stream: S,
    received: FrameScanner,
    sent: FrameScanner,
    budget: FrameBudget,
    /// `None` once a flood was reported.
    report: Option<oneshot::Sender<FloodKind>>,
}

impl<S> FrameGuard<S> {
    /// Wraps `stream`, which begins with the client's preface; the receiver is told of a flood.
    pub fn new(stream: S) -> (Self, oneshot::Receiver<FloodKind>) {
        let (report, flood) = oneshot::channel();
        let (received, sent) = (FrameScanner::new(PREFACE), FrameScanner::new(0));
        let budget = FrameBudget::new(monotonic_now());
        (Self { stream, received, sent, budget, report: Some(report) }, flood)
    }

    /// Counts the frames that begin in the first `count` bytes of `pieces`.
    fn count_sent<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>, mut count: usize) {
        for piece in pieces {
            let written = &piece[..count.min(piece.len())];
            self.sent.scan(written, |frame| self.budget.send(frame));
            count -= written.len();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameGuard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.report.is_none() {
            // Nobody is to be woken: the connection is about to be ended.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let mut flood = None;
        let budget = &mut this.budget;
        this.received.scan(&buf.filled()[before..], |frame| flood = flood.or(budget.receive(frame, monotonic_now)));
        match flood {
            None => Poll::Ready(Ok(())),
            Some(kind) => {
                buf.set_filled(before);
                // The receiver is gone only where the connection is.
                let _ = this.report.take().map(|report| report.send(kind));
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.count_sent([bytes], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.count_sent(slices.iter().map(|slice| &**slice), written);
        Poll::Ready(Ok(written))
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
