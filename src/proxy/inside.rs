//! Requests that the modules in this process answer: called through a service that knows nothing of Pingora.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use pingora::Result;
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::ctx::Ctx;
use super::failure::Failure;
use super::player::Player;
use super::{admit, respond};
use crate::http::caller::Caller;
use crate::http::headers::strip_hop_by_hop;

/// What the modules are, to the proxy.
pub type Inside = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Largest request body that is read for a module; more is 413. A module may take less.
const MAX_BODY: usize = 12 * 1024 * 1024;
/// Request bodies up to this are read before a module sees the request: the connection goes on whatever it says. Of
/// larger ones a module gets what it asks for, and it asks for nothing of a caller whom it refuses.
const SMALL_BODY: usize = 64 * 1024;

/// Where the next piece of a body is awaited; `None` is its end.
type Asked = oneshot::Sender<Option<Bytes>>;

/// Hands the request to the modules and writes what they say.
pub async fn serve(player: &mut impl Player, ctx: &mut Ctx, inside: Inside) -> Result<()> {
    let response = match ask(player, ctx, inside).await {
        Ok(response) => response,
        Err(failure) => return respond::failure(player, ctx, failure).await,
    };
    if player.has_read_body() {
        return answer(player, ctx, response).await;
    }
    player.close_after();
    answer(player, ctx, response).await?;
    // Closing on bytes that nobody has read would reset the connection, and the answer with it.
    player.drain().await;
    Ok(())
}

/// What the modules say.
async fn ask(player: &mut impl Player, ctx: &Ctx, inside: Inside) -> Result<Response<Body>, Failure> {
    let head = player.request();
    let announced = admit::announced(head);
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(Failure::BodyTooLarge);
    }
    let is_awaited = head.headers.contains_key(header::EXPECT);
    let small = announced.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= SMALL_BODY);
    let body = match small.filter(|_| !is_awaited) {
        _ if player.has_read_body() => Body::empty(),
        Some(length) => Body::from(whole(player, length).await?),
        None => {
            let (body, asked) = on_demand();
            let request = request(player, ctx, body);
            return tokio::select! {
                biased;
                Ok(response) = inside.oneshot(request) => Ok(response),
                failure = feed(player, asked) => Err(failure),
            };
        }
    };
    let Ok(response) = inside.oneshot(request(player, ctx, body)).await;
    Ok(response)
}

/// A small body of this length.
async fn whole(player: &mut impl Player, length: usize) -> Result<Bytes, Failure> {
    let first = player.read_piece().await?.unwrap_or_default();
    let mut all = BytesMut::new();
    while let Some(piece) = player.read_piece().await? {
        if all.is_empty() {
            all.reserve(length);
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// A body whose pieces are read when they are asked for.
fn on_demand() -> (Body, mpsc::Receiver<Asked>) {
    let (ask, asked) = mpsc::channel::<Asked>(1);
    let next = async |ask: mpsc::Sender<Asked>| {
        let (give, given) = oneshot::channel();
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let piece = match ask.send(give).await {
            Ok(()) => given.await.map_err(|_| broken()),
            Err(_) => Err(broken()),
        };
        Some((piece.transpose()?, ask))
    };
    (Body::from_stream(futures::stream::unfold(ask, next)), asked)
}

/// Reads what is asked for; ends only where the body does not come as it should.
async fn feed(player: &mut impl Player, mut asked: mpsc::Receiver<Asked>) -> Failure {
    let mut read = 0;
    while let Some(give) = asked.recv().await {
        let piece = match player.read_piece().await {
            Ok(piece) => piece,
            Err(failure) => return failure,
        };
        read += piece.as_ref().map_or(0, Bytes::len);
        if read > MAX_BODY {
            return Failure::BodyTooLarge;
        }
        // Who does not want it any more has answered, or will.
        let _ = give.send(piece);
    }
    std::future::pending().await
}

/// Writes what the modules said.
async fn answer(player: &mut impl Player, ctx: &mut Ctx, response: Response<Body>) -> Result<()> {
    let (parts, mut body) = response.into_parts();
    let mut headers = parts.headers;
    strip_hop_by_hop(&mut headers);
    let bodiless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = http_body::Body::size_hint(&body).exact().filter(|_| !bodiless);
    if let (None, Some(length)) = (headers.get(header::CONTENT_LENGTH), length) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    let end = bodiless || player.request().method == Method::HEAD;
    respond::head(player, ctx, parts.status, headers, end).await?;
    if end {
        return Ok(());
    }
    match pass_on(player, &mut body).await {
        Ok(()) => player.end().await,
        Err(failure) => {
            ctx.failure = Some(failure);
            player.abort().await;
            Ok(())
        }
    }
}

/// Writes `body` as it comes; each piece leaves before the next one is waited for.
async fn pass_on(player: &mut impl Player, body: &mut Body) -> Result<(), Failure> {
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                player.flush().await?;
                tokio::select! {
                    frame = body.frame() => frame,
                    () = player.hung_up() => return Err(Failure::ClientLeft),
                }
            }
        };
        let Some(frame) = frame else { return Ok(()) };
        // An empty chunk would be the last one.
        if let Some(bytes) = frame.map_err(|_| Failure::Internal)?.into_data().ok().filter(|bytes| !bytes.is_empty()) {
            player.write(&bytes).await?;
        }
    }
}

/// The request as a module sees it.
fn request(player: &impl Player, ctx: &Ctx, body: Body) -> Request<Body> {
    let head = player.request();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    strip_hop_by_hop(request.headers_mut());
    let way = Way { host: admit::host(head), peer: player.peer(), tls: player.is_tls() };
    request.extensions_mut().insert(caller(ctx, &head.headers, &way));
    request
}

/// How a request came to us.
pub struct Way<'a> {
    /// The host that it names.
    pub host: Option<&'a str>,
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    /// Whether it came over TLS.
    pub tls: bool,
}

/// What a module is told of who asks.
pub fn caller(ctx: &Ctx, headers: &HeaderMap, way: &Way<'_>) -> Caller {
    Caller { request_id: ctx.id.clone(), address: ctx.client, base: base(ctx, headers, way) }
}

/// What absolute URLs to us begin with for this caller: as configured, else as the request came, a trusted proxy's word
/// for it first.
fn base(ctx: &Ctx, headers: &HeaderMap, way: &Way<'_>) -> String {
    if let Some(url) = &ctx.world.server.public_url {
        return url.clone();
    }
    let trusted = way.peer.is_some_and(|peer| ctx.world.trusts(peer));
    // The nearest proxy writes at the right end.
    let said = |name: &str| {
        let value = headers.get_all(name).iter().next_back().filter(|_| trusted)?.to_str().ok()?;
        value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
    };
    let scheme = said("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https"));
    let host = said("x-forwarded-host").filter(|host| host.parse::<Authority>().is_ok());
    let host = host.or(way.host).unwrap_or("localhost");
    format!("{}://{host}", scheme.unwrap_or(if way.tls { "https" } else { "http" }))
}
