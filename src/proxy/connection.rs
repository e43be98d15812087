//! One HTTP/1 connection of a player: request heads are read here, within their time and size and checked as they came,
//! so that no parser has smoothed them over. GET and HEAD of objects and what the modules answer are served at once; a
//! connection with any other request is handed to Pingora with what was read of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use memchr::memmem;
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::time::timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ctx::Ctx;
use super::direct::Direct;
use super::listener::Place;
use super::player::Player as _;
use super::{Gateway, KEEP_ALIVE_SECONDS, upgrade};

/// First read buffer of a connection.
const BUFFER: usize = 4096;
/// Longest request head.
const MAX_HEAD: usize = 64 * 1024;
/// Most header lines.
const MAX_HEADERS: usize = 100;
/// What HTTP/2 begins with, as far as it looks like the head of a request (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// How long a client may take to take its end.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Serves `stream` to its end; gives it back where `h2c` and its first bytes are HTTP/2's.
pub async fn serve(
    proxy: &Arc<HttpProxy<Gateway>>,
    gateway: &Gateway,
    mut stream: Stream,
    h2c: bool,
    header_timeout: Duration,
    shutdown: &ShutdownWatch,
    place: &Arc<Place>,
) -> Option<Stream> {
    let mut ahead = BytesMut::new();
    match requests(gateway, &mut stream, &mut ahead, header_timeout, shutdown).await {
        Next::Pingora if h2c && ahead.starts_with(PREFACE) => return unread(stream, &ahead),
        Next::Pingora => hand_over(proxy, stream, ahead, shutdown).await,
        Next::Upgrade(ctx, head) => {
            let mut read = BytesMut::from(head);
            read.unsplit(ahead);
            upgrade::serve(gateway, *ctx, stream, read.freeze(), place).await;
        }
        Next::Close => {
            // Over TLS the end has to be said, or it could be anybody's. A client that is gone takes nothing.
            let _ = timeout(CLOSE_TIME, AsyncWriteExt::shutdown(&mut stream)).await;
        }
    }
    None
}

/// `stream` as if `read` had not been read; plain TCP only.
fn unread(stream: Stream, read: &[u8]) -> Option<Stream> {
    let mut stream = stream.into_any().downcast::<TcpStream>().ok()?;
    stream.rewind(read);
    Some(stream)
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
    stream: &mut Stream,
    ahead: &mut BytesMut,
    header_timeout: Duration,
    shutdown: &ShutdownWatch,
) -> Next {
    let mut idle = header_timeout;
    loop {
        let length = match head(stream, ahead, idle, header_timeout, shutdown).await {
            Head::Whole(length) => length,
            Head::TooLong => {
                refuse(gateway, stream, ahead).await;
                return Next::Close;
            }
            Head::Gone => return Next::Close,
        };
        let Some(request) = direct_request(&ahead[..length]) else {
            return Next::Pingora;
        };
        if !gateway.takes_directly(&request) {
            return Next::Pingora;
        }
        let raw = ahead.split_to(length).freeze();
        let keep_alive = !*shutdown.borrow() && wants_keep_alive(&request.headers);
        let write_timeout = gateway.write_timeout();
        let mut player = Direct::new(stream, ahead, request, raw, write_timeout, keep_alive);
        if let Some(ctx) = gateway.serve_directly(&mut player).await {
            return Next::Upgrade(ctx, player.raw_head().unwrap_or_default());
        }
        if !player.is_reusable() {
            return Next::Close;
        }
        idle = Duration::from_secs(KEEP_ALIVE_SECONDS);
    }
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

/// Waits for a whole request head at the front of `buffer`.
async fn head(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    idle: Duration,
    header_timeout: Duration,
    shutdown: &ShutdownWatch,
) -> Head {
    if buffer.is_empty() {
        // An idle connection holds no buffer of its own for longer than it takes to see the first byte.
        *buffer = BytesMut::with_capacity(BUFFER);
        let mut stopping = shutdown.clone();
        let first = async {
            tokio::select! {
                biased;
                read = stream.read_buf(buffer) => read.ok().filter(|read| *read > 0),
                () = stopped(&mut stopping) => None,
            }
        };
        if !matches!(timeout(idle, first).await, Ok(Some(_))) {
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
            if !matches!(stream.read_buf(buffer).await, Ok(read) if read > 0) {
                return Head::Gone;
            }
        }
    };
    timeout(header_timeout, rest).await.unwrap_or(Head::Gone)
}

/// Heads with bare line feeds end here too, for the check of the head to refuse them.
fn end_of_head(buffer: &[u8], from: usize) -> Option<usize> {
    let found = |needle: &[u8]| memmem::find(&buffer[from..], needle).map(|at| from + at + needle.len());
    match (found(b"\n\r\n"), found(b"\n\n")) {
        (Some(proper), Some(bare)) => Some(proper.min(bare)),
        (proper, bare) => proper.or(bare),
    }
}

/// Says that the head is too long; whose request it was can no longer be known.
async fn refuse(gateway: &Gateway, stream: &mut Stream, ahead: &mut BytesMut) {
    let (parts, ()) = http::Request::new(()).into_parts();
    let (request, raw) = (RequestHeader::from(parts), ahead.split().freeze());
    let mut player = Direct::new(stream, ahead, request, raw, gateway.write_timeout(), false);
    gateway.refuse_head(&mut player).await;
}

async fn stopped(shutdown: &mut ShutdownWatch) {
    while !*shutdown.borrow() {
        if shutdown.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether `request` is a GET or HEAD without body or upgrade.
pub fn only_reads(request: &RequestHeader) -> bool {
    let more = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT];
    matches!(request.method, Method::GET | Method::HEAD) && !more.iter().any(|name| request.headers.contains_key(name))
}

/// The request, if it is one that may need nothing of Pingora's: in HTTP/1.1, with a path for its target.
fn direct_request(head: &[u8]) -> Option<RequestHeader> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut lines);
    if !matches!(parsed.parse(head), Ok(httparse::Status::Complete(length)) if length == head.len()) {
        return None;
    }
    let method = parsed.method?.parse().ok()?;
    if parsed.version != Some(1) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for line in parsed.headers.iter() {
        headers.append(HeaderName::from_bytes(line.name.as_bytes()).ok()?, HeaderValue::from_bytes(line.value).ok()?);
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = parsed.path?.parse::<Uri>().ok().filter(|uri| uri.authority().is_none())?;
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
