//! A byte stream whose other end must take bytes: HTTP/2 queues frames of many streams, so that none of them sees that
//! nobody reads the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::connection_limits::{ConnectionLimits, DataRate, DataRateMeter};
use primitives::clock::monotonic_now;

/// A stream on which a write that waits for longer than the limit, or too long for the least rate, fails with
/// `TimedOut`. Reads are not limited.
pub struct WriteDeadline<S> {
    stream: S,
    limit: Duration,
    rate: DataRate,
    meter: DataRateMeter,
    /// Bytes that were accepted so far.
    written: u64,
    /// `None` while no write waits.
    waiting: Option<WaitingWrite>,
}

/// A write that waits.
struct WaitingWrite {
    since: Instant,
    /// Time that the meter knows already.
    recorded: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<S> WriteDeadline<S> {
    /// Wraps `stream`, whose writes are held to the limits of writes.
    pub fn new(stream: S, limits: &ConnectionLimits) -> Self {
        let (limit, rate) = (limits.write, limits.response_rate);
        Self { stream, limit, rate, meter: DataRateMeter::default(), written: 0, waiting: None }
    }

    /// Passes the outcome of a write on; fails it where writes have been pending for too long.
    fn hold<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            let Some(waiting) = self.waiting.take() else { return outcome };
            let waited = waiting.since.elapsed().saturating_sub(waiting.recorded);
            let is_fast_enough = self.meter.record(self.rate, waited, self.written);
            return if is_fast_enough { outcome } else { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) };
        }
        // Made only for a write that waits, since most are accepted at once. It is kept over calls: a caller that polls
        // again for other reasons must not start the time anew.
        let mut waiting = self.waiting.take().unwrap_or_else(|| WaitingWrite {
            since: monotonic_now(),
            recorded: Duration::ZERO,
            timer: Box::pin(tokio::time::sleep(self.limit.min(self.meter.remaining(self.rate)))),
        });
        while waiting.timer.as_mut().poll(cx).is_ready() {
            let waited = waiting.since.elapsed();
            let is_fast_enough = self.meter.record(self.rate, waited.saturating_sub(waiting.recorded), self.written);
            if waited >= self.limit || !is_fast_enough {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            waiting.recorded = waited;
            let left = (self.limit - waited).min(self.meter.remaining(self.rate));
            waiting.timer = Box::pin(tokio::time::sleep(left));
        }
        self.waiting = Some(waiting);
        Poll::Pending
    }

    /// Counts the bytes that a write has moved.
    fn count(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &outcome {
            self.written += *written as u64;
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let outcome = self.count(outcome);
        self.hold(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        let outcome = self.count(outcome);
        self.hold(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.hold(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.hold(cx, outcome)
    }
}
