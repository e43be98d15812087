//! One HTTP/1.1 connection of a client (RFC 9112): request heads are read here, within their time and size, and checked
//! as they came, so that no parser has smoothed them over.

mod exchange;
mod request_body;
mod request_head;
mod response_head;
mod takeover;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::Uri;
use pingora::time::timeout;
use tokio::time::Sleep;

use self::exchange::Http1Exchange;
#[cfg(test)]
pub use self::request_body::{BodyStep, RequestBodyDecoder};
pub use self::request_head::RequestHeadError;
#[cfg(test)]
pub use self::request_head::{find_end, parse};
pub use self::response_head::date;
pub use self::takeover::ConnectionTakeover;
use super::connection_guard::ConnectionGuard;
use super::connection_limits::ConnectionLimits;
use super::socket::{ClientSocket, HEAD_BUFFER};
use super::{Downstream as _, Handler};

/// Beginning of an HTTP/2 connection, as far as it looks like the head of a request (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Age of a connection from which on it counts as idle in a shutdown: the first request of a younger one is on its way.
const NEW_CONNECTION_TIME: Duration = Duration::from_secs(1);

/// Serves `socket` to its end. Returns it where `h2c` is set and its first bytes are HTTP/2's.
pub async fn serve<H: Handler>(
    handler: &Arc<H>,
    mut socket: ClientSocket,
    h2c: bool,
    limits: &ConnectionLimits,
    guard: &Arc<ConnectionGuard>,
) -> Option<ClientSocket> {
    match requests(handler, &mut socket, h2c, limits, guard).await {
        ConnectionOutcome::Http2 => return Some(socket),
        ConnectionOutcome::TakeOver(admitted, head, target) => {
            let connection = ConnectionTakeover::new(socket, head, target, limits, Arc::clone(guard));
            Box::pin(handler.take_over(admitted, connection)).await;
        }
        ConnectionOutcome::Close => socket.close().await,
        ConnectionOutcome::Drop => {}
    }
    None
}

/// Outcome of serving a connection's requests.
enum ConnectionOutcome<A> {
    /// It ends in order, the last answer being taken first.
    Close,
    /// It ends at once.
    Drop,
    /// It is one of HTTP/2.
    Http2,
    /// The request with this head and target takes it over.
    TakeOver(A, Bytes, Uri),
}

/// Answers requests, one after the other.
async fn requests<H: Handler>(
    handler: &Arc<H>,
    socket: &mut ClientSocket,
    h2c: bool,
    limits: &ConnectionLimits,
    guard: &ConnectionGuard,
) -> ConnectionOutcome<H::Admitted> {
    let (mut idle, mut left) = (limits.head, limits.requests.unwrap_or(u64::MAX));
    // One wait of each kind for the whole connection: a new one for each request costs more than finding its route.
    let is_settled = tokio::time::Instant::now() + NEW_CONNECTION_TIME;
    let mut stopping = pin!(async {
        guard.stopping().await;
        tokio::time::sleep_until(is_settled).await;
    });
    let mut overdue = pin!(tokio::time::sleep(idle));
    loop {
        overdue.as_mut().reset(tokio::time::Instant::now() + idle);
        let (raw, request) = match next_head(socket, overdue.as_mut(), limits, stopping.as_mut()).await {
            HeadOutcome::Whole(raw) if h2c && raw == PREFACE => {
                // The HTTP/2 library reads the preface itself.
                socket.read_ahead = [&raw[..], &socket.read_ahead[..]].concat()[..].into();
                return ConnectionOutcome::Http2;
            }
            HeadOutcome::Whole(raw) => {
                let request = request_head::parse(&raw, limits.header_lines);
                (raw, request)
            }
            HeadOutcome::Fault(fault) => (Bytes::new(), Err(fault)),
            HeadOutcome::None => return ConnectionOutcome::Drop,
        };
        if guard.is_revoked() {
            return ConnectionOutcome::Close;
        }
        let mut request = match request {
            Ok(request) => request,
            Err(fault) => {
                let mut exchange = Http1Exchange::new(socket, request_head::empty_parts(), false, limits, guard);
                Box::pin(handler.refuse(&mut exchange, fault)).await;
                return ConnectionOutcome::Close;
            }
        };
        handler.strip_credentials(&mut request);
        guard.activity().set_request(&request);
        left = left.saturating_sub(1);
        let keep_alive = left > 0 && request_head::wants_keep_alive(&request);
        let mut exchange = Http1Exchange::new(socket, request, keep_alive, limits, guard);
        // Boxed, so that an idle connection has no room for a request's state.
        if let Some(admitted) = Box::pin(handler.handle(&mut exchange)).await {
            return ConnectionOutcome::TakeOver(admitted, raw, exchange.request().uri.clone());
        }
        let (is_reusable, is_broken) = (exchange.is_reusable(), exchange.is_broken());
        guard.activity().clear_request();
        match (is_reusable, is_broken) {
            (true, _) => {}
            (false, false) => return ConnectionOutcome::Close,
            (false, true) => {
                // What a client does not read would else wait in the kernel for as long as it answers probes.
                socket.reset_on_close();
                return ConnectionOutcome::Drop;
            }
        }
        socket.has_taken_answers = true;
        idle = limits.idle;
    }
}

/// Outcome of waiting for a request head.
enum HeadOutcome {
    /// A whole one.
    Whole(Bytes),
    /// One that cannot be taken.
    Fault(RequestHeadError),
    /// None in time, or the client left.
    None,
}

/// Waits for a whole request head: for its first byte until `overdue` or `stopping`, for the rest, blank lines before
/// it included, no longer than its limit.
async fn next_head(
    socket: &mut ClientSocket,
    overdue: Pin<&mut Sleep>,
    limits: &ConnectionLimits,
    stopping: Pin<&mut impl Future<Output = ()>>,
) -> HeadOutcome {
    if socket.read_ahead.is_empty() {
        if socket.is_half_closed {
            return HeadOutcome::None;
        }
        let read = tokio::select! {
            // Bytes first: a request that is there is served, even where shutdown begins at the same moment.
            biased;
            read = socket.first_read() => read.ok(),
            () = stopping => None,
            () = overdue => None,
        };
        if read.is_none_or(|read| read == 0) {
            return HeadOutcome::None;
        }
    }
    let rest = async {
        let (mut searched, mut blank) = (0, 0);
        loop {
            // RFC 9112 §2.2: empty lines before a request are passed over.
            while searched == 0 && socket.read_ahead.starts_with(b"\r\n") {
                socket.read_ahead.advance(2);
                blank += 2;
            }
            if let Some(end) = request_head::find_end(&socket.read_ahead, searched) {
                // More may have been read ahead than a head can have.
                if end > limits.head_bytes {
                    return HeadOutcome::Fault(RequestHeadError::TooLong);
                }
                return HeadOutcome::Whole(socket.take_front(end));
            }
            // The end may be split over two reads.
            searched = socket.read_ahead.len().saturating_sub(3);
            if socket.read_ahead.len() + blank >= limits.head_bytes {
                return HeadOutcome::Fault(RequestHeadError::TooLong);
            }
            if socket.is_half_closed || !matches!(socket.read_more(HEAD_BUFFER).await, Ok(read) if read > 0) {
                return HeadOutcome::None;
            }
        }
    };
    timeout(limits.head, rest).await.unwrap_or(HeadOutcome::None)
}
