//! A request that makes something else of its connection (RFC 9110 §7.8): WebSocket to a module. hyper speaks HTTP on
//! the connection from that request on, and a module that agrees gets the connection from it, as axum expects.

use std::convert::Infallible;
use std::io::IoSlice;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::ServiceExt;

use super::ctx::Ctx;
use super::inside::{self, Inside, Way};
use super::listener::Place;
use super::socket::Socket;
use super::{Gateway, access_log};
use crate::http::caller::REQUEST_ID;
use crate::telemetry::metrics::Metrics;

/// Whether `request` asks for a WebSocket (RFC 6455 §4.1).
pub fn is_asked(request: &RequestHeader) -> bool {
    let names = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let bodiless =
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().all(|it| !request.headers.contains_key(it));
    request.method == Method::GET && bodiless && request.headers.get(header::UPGRADE).is_some_and(names)
}

/// Has the admitted request of `ctx` answered, whose head is at the front of `read`. The connection ends with it,
/// unless a module takes it over: it then lives, and is counted, until the module drops it.
pub async fn serve(gateway: &Gateway, ctx: Ctx, socket: Socket, read: Bytes, place: &Arc<Place>) {
    let (inside, metrics) = (gateway.inside.clone(), Arc::clone(&gateway.metrics));
    let from = (Some(socket.peer()), socket.is_tls());
    let admitted = Mutex::new(Some(ctx));
    let service = service_fn(move |request| {
        let (ctx, inside, metrics) = (admitted.lock().take(), inside.clone(), Arc::clone(&metrics));
        answer(ctx, request, from, inside, metrics)
    });
    let connection = Held { read, socket, _place: Arc::clone(place) };
    let http = http1::Builder::new();
    // The answer was noted when it was made; a client that is gone by then misses nothing.
    let _ = http.serve_connection(TokioIo::new(connection), service).with_upgrades().await;
}

async fn answer(
    ctx: Option<Ctx>,
    request: Request<Incoming>,
    (peer, tls): (Option<IpAddr>, bool),
    inside: Inside,
    metrics: Arc<Metrics>,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    let Some(mut ctx) = ctx else {
        // One request was admitted, and no other may pass.
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let way = Way { host, peer, tls };
    let caller = inside::caller(&ctx, request.headers(), &way);
    request.extensions_mut().insert(caller);
    let method = request.method().clone();
    let Ok(mut response) = inside.oneshot(request).await;
    if let Ok(id) = HeaderValue::from_str(&ctx.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What comes next on it would not have been looked at.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    ctx.answered();
    access_log::record(&method, Some(response.status()), 0, &ctx, &metrics);
    Ok(response)
}

/// A connection with what was read of it put back in front, in its place among the open ones.
struct Held {
    read: Bytes,
    socket: Socket,
    _place: Arc<Place>,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let taken = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..taken]);
        self.read.advance(taken);
        if self.read.is_empty() {
            // A part of it would keep all of it.
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
