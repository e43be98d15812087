//! One HTTP/1 connection of a player: request heads are read here, within their time and size and checked as they came,
//! so that no parser has smoothed them over. GET and HEAD of objects and what the modules answer are served at once; a
//! connection with any other request is handed to Pingora with what was read of it.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use memchr::memchr_iter;
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::time::timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use super::ctx::Ctx;
use super::direct::Direct;
use super::listener::Place;
use super::player::Player as _;
use super::socket::Socket;
use super::{Gateway, KEEP_ALIVE_SECONDS, upgrade};

/// First read buffer of a request.
const BUFFER: usize = 4096;
/// Longest request head.
const MAX_HEAD: usize = 64 * 1024;
/// Most header lines.
const MAX_HEADERS: usize = 100;
/// What HTTP/2 begins with, as far as it looks like the head of a request (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// How long a client may take to take its end.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Serves `socket` to its end; gives it back where `h2c` and its first bytes are HTTP/2's.
pub async fn serve(
    proxy: &Arc<HttpProxy<Gateway>>,
    gateway: &Gateway,
    mut socket: Socket,
    h2c: bool,
    header_timeout: Duration,
    shutdown: &ShutdownWatch,
    place: &Arc<Place>,
) -> Option<Stream> {
    let mut ahead = BytesMut::new();
    match requests(gateway, &mut socket, &mut ahead, header_timeout, shutdown).await {
        Next::Pingora if h2c && ahead.starts_with(PREFACE) => return socket.into_unread(&ahead),
        // Boxed like the answer to a request, so that an idle connection has no room for either.
        Next::Pingora => Box::pin(hand_over(proxy, socket.into_pingora(), ahead, shutdown)).await,
        Next::Upgrade(ctx, head) => {
            let mut read = BytesMut::from(head);
            read.unsplit(ahead);
            Box::pin(upgrade::serve(gateway, *ctx, socket, read.freeze(), place)).await;
        }
        Next::Close => {
            // Over TLS the end has to be said, or it could be anybody's. A client that is gone takes nothing.
            let _ = timeout(CLOSE_TIME, socket.shutdown()).await;
        }
    }
    None
}

/// What is to be done with a connection.
enum Next {
    /// It ends.
    Close,
    /// A request that was not taken is at the front of the buffer.
    Pingora,
    /// This request, with this head, may make something else of it.
    Upgrade(Box<Ctx>, Bytes),
}

/// Answers the requests that can be answered directly, one after the other.
async fn requests(
    gateway: &Gateway,
    socket: &mut Socket,
    ahead: &mut BytesMut,
    header_timeout: Duration,
    shutdown: &ShutdownWatch,
) -> Next {
    let mut idle = header_timeout;
    // One wait of each kind for the whole connection: to begin anew with each request costs more than the request's route.
    let mut stopping = pin!(stopped(shutdown.clone()));
    let mut overdue = pin!(tokio::time::sleep(idle));
    loop {
        overdue.as_mut().reset(tokio::time::Instant::now() + idle);
        let length = match head(socket, ahead, overdue.as_mut(), header_timeout, stopping.as_mut()).await {
            Head::Whole(length) => length,
            Head::TooLong => {
                refuse(gateway, socket, ahead).await;
                return Next::Close;
            }
            Head::Gone => return Next::Close,
        };
        let raw = ahead.split_to(length).freeze();
        let taken = direct_request(&raw).and_then(|mut request| {
            gateway.open_path(&mut request);
            Some((gateway.takes_directly(&request)?, request))
        });
        let Some((ctx, request)) = taken else {
            put_back(ahead, &raw);
            return Next::Pingora;
        };
        let keep_alive = !*shutdown.borrow() && wants_keep_alive(&request.headers);
        let mut player = Direct::new(socket, ahead, request, raw, keep_alive, gateway.write_timeout());
        if let Some(ctx) = Box::pin(gateway.serve_directly(&mut player, ctx)).await {
            return Next::Upgrade(ctx, player.raw_head().unwrap_or_default());
        }
        if !player.is_reusable() {
            return Next::Close;
        }
        socket.has_taken_answers = true;
        idle = Duration::from_secs(KEEP_ALIVE_SECONDS);
    }
}

/// Puts what was taken from the front of `ahead` there again.
fn put_back(ahead: &mut BytesMut, taken: &[u8]) {
    let behind = std::mem::replace(ahead, BytesMut::from(taken));
    ahead.unsplit(behind);
}

/// What came of waiting for a request head.
enum Head {
    /// A whole one, of so many bytes at the front of the buffer.
    Whole(usize),
    /// More than is read of one.
    TooLong,
    /// None in time, or the client left.
    Gone,
}

/// Waits for a whole request head at the front of `buffer`; for the first byte of it only until `overdue` or `stopping`.
async fn head(
    socket: &mut Socket,
    buffer: &mut BytesMut,
    overdue: Pin<&mut Sleep>,
    header_timeout: Duration,
    stopping: Pin<&mut impl Future<Output = ()>>,
) -> Head {
    if buffer.is_empty() {
        let read = tokio::select! {
            biased;
            read = first_read(socket, buffer) => read.ok(),
            () = stopping => None,
            () = overdue => None,
        };
        if read.is_none_or(|read| read == 0) {
            return Head::Gone;
        }
    }
    let rest = async {
        let mut searched = 0;
        loop {
            if let Some(end) = end_of_head(buffer, searched) {
                return Head::Whole(end);
            }
            // The end may be split over two reads.
            searched = buffer.len().saturating_sub(3);
            if buffer.len() >= MAX_HEAD {
                return Head::TooLong;
            }
            buffer.reserve(BUFFER);
            if !matches!(socket.read_buf(buffer).await, Ok(read) if read > 0) {
                return Head::Gone;
            }
        }
    };
    timeout(header_timeout, rest).await.unwrap_or(Head::Gone)
}

/// Reads into a buffer that is there only when there is something to read: most connections are idle most of the time.
async fn first_read(socket: &mut Socket, buffer: &mut BytesMut) -> io::Result<usize> {
    *buffer = BytesMut::new();
    poll_fn(|cx| {
        let mut fresh = BytesMut::with_capacity(BUFFER);
        let read = poll_read_buf(Pin::new(&mut *socket), cx, &mut fresh);
        if read.is_ready() {
            *buffer = fresh;
        }
        read
    })
    .await
}

/// Heads with bare line feeds end here too, for the check of the head to refuse them.
fn end_of_head(buffer: &[u8], from: usize) -> Option<usize> {
    let after_lines = memchr_iter(b'\n', &buffer[from..]).map(|at| from + at + 1);
    after_lines.into_iter().find_map(|at| match buffer[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    })
}

/// Says that the head is too long; whose request it was can no longer be known.
async fn refuse(gateway: &Gateway, socket: &mut Socket, ahead: &mut BytesMut) {
    let (parts, ()) = http::Request::new(()).into_parts();
    let (request, raw) = (RequestHeader::from(parts), ahead.split().freeze());
    let mut player = Direct::new(socket, ahead, request, raw, false, gateway.write_timeout());
    gateway.refuse_head(&mut player).await;
}

async fn stopped(mut shutdown: ShutdownWatch) {
    while !*shutdown.borrow() {
        if shutdown.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether `request` is a GET or HEAD without body or upgrade.
pub fn only_reads(request: &RequestHeader) -> bool {
    let more = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT];
    matches!(request.method, Method::GET | Method::HEAD) && !request.headers.keys().any(|name| more.contains(name))
}

/// The request, if it is one that may need nothing of Pingora's: in HTTP/1.1, with a path for its target. Its target and
/// values are parts of `head`.
fn direct_request(head: &Bytes) -> Option<RequestHeader> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    if !matches!(parsed.parse_with_uninit_headers(head, &mut lines), Ok(httparse::Status::Complete(length)) if length == head.len())
    {
        return None;
    }
    let method = parsed.method?.parse().ok()?;
    if parsed.version != Some(1) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_maybe_shared(head.slice_ref(line.value)).ok()?);
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(parsed.path?.as_bytes())).ok()?;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = Some(uri).filter(|uri| uri.authority().is_none())?;
    (parts.method, parts.version, parts.headers) = (method, Version::HTTP_11, headers);
    Some(RequestHeader::from(parts))
}

fn wants_keep_alive(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    !lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
}

/// Gives the connection to Pingora for good, with what was read of its next request.
async fn hand_over(proxy: &Arc<HttpProxy<Gateway>>, stream: Stream, ahead: BytesMut, shutdown: &ShutdownWatch) {
    let mut session = ServerSession::new_http1(stream);
    session.set_keepalive((!*shutdown.borrow()).then_some(KEEP_ALIVE_SECONDS));
    session.set_pipelined_prefix(ahead);
    let mut reused = proxy.process_new_http(session, shutdown).await;
    while let Some((stream, settings)) = reused.map(|reused| reused.consume()) {
        let mut session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        reused = proxy.process_new_http(session, shutdown).await;
    }
}
