//! A connection that becomes one of another protocol (RFC 9110 §7.8), WebSocket for example: bytes pass both ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy, split};

use super::{Forwarding, UpstreamAnswer, answer, request};
use crate::proxy::admission::rate_limit;
use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::{live_stream, respond};
use http_server::{Downstream, DownstreamError};

/// Bytes that are read at once where the client has no speed.
const PIECE: usize = 8 * 1024;

/// Passes a 101 on, and then bytes; one that nobody asked for is the server's failure.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    forwarding: &Forwarding<'_>,
    answered: UpstreamAnswer,
) -> Result<(), DownstreamError> {
    let session = answered.is_new_session.then(|| Arc::clone(answered.in_flight.destination()));
    let mut response = answered.response;
    let protocol = response.headers().get(header::UPGRADE).cloned();
    let protocol = protocol.filter(|_| request::requested_upgrade(downstream.request()).is_some());
    let Some(protocol) = protocol else {
        return respond::failure(downstream, ctx, ProxyFailure::BadGateway).await;
    };
    let mut headers = std::mem::take(response.headers_mut());
    answer::transform_head(forwarding, StatusCode::SWITCHING_PROTOCOLS, &mut headers);
    answer::write_session(downstream, ctx, forwarding, session.as_deref(), &mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::UPGRADE, protocol);
    respond::head(downstream, ctx, StatusCode::SWITCHING_PROTOCOLS, headers, false).await?;
    downstream.flush().await?;
    let Ok(upstream) = hyper::upgrade::on(response).await else {
        ctx.failure = Some(ProxyFailure::BadGateway);
        downstream.abort().await;
        return Ok(());
    };
    let down = Arc::new(AtomicU64::new(0));
    live_stream::register(downstream, ctx, StatusCode::SWITCHING_PROTOCOLS, &HeaderMap::new());
    let ended = live_stream::wait_until_ended(ctx);
    if let Some(client) = downstream.tunnel() {
        let upstream =
            ByteCountingStream { stream: TokioIo::new(upstream), read: Arc::clone(&down), written: Arc::default() };
        let idle = forwarding.handler.timeouts.idle;
        ctx.failure = tokio::select! {
            // First, so that it knows from the beginning which logout comes after it.
            biased;
            reason = ended => Some(reason),
            failure = pass(client, upstream, ctx, idle) => failure,
        };
    }
    downstream.wrote_to_socket(usize::try_from(down.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
    Ok(())
}

/// Passes bytes both ways until the server ends, or nothing passes for `idle`. A client that has ended may still be told
/// something.
async fn pass(
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: ByteCountingStream<impl AsyncRead + AsyncWrite + Unpin>,
    ctx: &RequestContext,
    idle: Duration,
) -> Option<ProxyFailure> {
    let (read, written) = (Arc::clone(&upstream.read), Arc::clone(&upstream.written));
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (split(client), split(upstream));
    let up = async {
        // However either side ends it: the meaning of that is their protocol's.
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let _ = deliver(&mut from_server, &mut to_client, ctx).await;
    };
    let silence = async {
        let count = || (read.load(Ordering::Relaxed), written.load(Ordering::Relaxed));
        let mut before = count();
        loop {
            tokio::time::sleep(idle).await;
            let now = count();
            if now == before {
                return;
            }
            before = now;
        }
    };
    tokio::select! {
        () = down => None,
        () = up => None,
        () = silence => Some(ProxyFailure::GatewayTimeout),
    }
}

/// Passes the server's bytes to the client as an answer's: paced, and counted once they are written.
async fn deliver(
    from_server: &mut (impl AsyncRead + Unpin),
    to_client: &mut (impl AsyncWrite + Unpin),
    ctx: &RequestContext,
) -> io::Result<()> {
    let mut buffer = vec![0_u8; rate_limit::chunk_size(ctx).unwrap_or(PIECE)];
    loop {
        let read = from_server.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if let Some(wait) = rate_limit::reserve_bandwidth(ctx, read as u64) {
            tokio::time::sleep(wait).await;
        }
        to_client.write_all(&buffer[..read]).await?;
        to_client.flush().await?;
        ctx.record_sent(read as u64);
    }
}

/// A stream whose bytes are counted.
struct ByteCountingStream<S> {
    stream: S,
    read: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for ByteCountingStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ByteCountingStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &outcome {
            self.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
