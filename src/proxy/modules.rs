//! Requests that the modules in this process answer: called through a service that knows nothing of the server.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::admission::{self, authorization};
use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::{certificate_claims, respond, traces};
use http_semantics::cross_site::{ForeignPage, is_from_foreign_page};
use http_semantics::headers::strip_hop_by_hop;
use http_semantics::request_info::RequestInfo;
use http_server::{Downstream, DownstreamError};
use routing::pattern::{PathPattern, Separator, Specificity};

/// The router of the modules, as the proxy calls it.
pub type ModuleService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The paths that the modules answer.
#[derive(Clone, Debug, Default)]
pub struct ModulePaths(Arc<[PathPattern]>);

impl ModulePaths {
    /// Paths of these templates, such as `/api/v1/tracks/{id}/position`.
    pub fn new<'a>(templates: impl IntoIterator<Item = &'a str>) -> Self {
        Self(templates.into_iter().filter_map(|template| PathPattern::parse(template).ok()).collect())
    }

    /// Returns true where one of them matches `path`.
    pub fn contain(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(path, Separator::Slash))
    }

    /// Returns the template of the one that matches `path` most narrowly.
    pub fn template(&self, path: &str) -> Option<String> {
        let matching = self.0.iter().filter(|pattern| pattern.is_match(path, Separator::Slash));
        matching.min_by_key(|pattern| pattern.specificity()).map(ToString::to_string)
    }

    /// Returns true where one of them matches `path` more narrowly than the path of a route: a capture in the place of a
    /// word of ours would take that word for an id.
    pub fn takes_precedence(&self, path: &str, route: Option<&PathPattern>) -> bool {
        let narrower = |pattern: &PathPattern| {
            pattern.specificity() < route.map_or_else(Specificity::any, PathPattern::specificity)
        };
        self.0.iter().any(|pattern| pattern.is_match(path, Separator::Slash) && narrower(pattern))
    }
}

/// Largest request body that is read for a module; more is 413. A module may take less.
const MAX_BODY: usize = 12 * 1024 * 1024;
/// Request bodies up to this are read before a module sees the request: the connection goes on whatever it says. Of
/// larger ones a module gets what it asks for, and it asks for nothing of a caller whom it refuses.
const SMALL_BODY: usize = 64 * 1024;

/// Time that a small body may take to arrive.
const SMALL_BODY_TIME: Duration = Duration::from_secs(30);

/// Request of a module for the next chunk of the body; the reply `None` is its end.
type BodyChunkRequest = oneshot::Sender<Option<Bytes>>;

/// Hands the request to the modules and writes their response.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    modules: ModuleService,
    paths: &ModulePaths,
) -> Result<(), DownstreamError> {
    let timer = ctx.attempt_stats.trace.start_detail();
    let response = match ask(downstream, ctx, modules).await {
        Ok(response) => {
            let path = downstream.request().uri.path();
            traces::module_answered(ctx, timer, (path, paths), response.status());
            response
        }
        Err(failure) => return respond::failure(downstream, ctx, failure).await,
    };
    if downstream.has_read_body() {
        return answer(downstream, ctx, response).await;
    }
    downstream.close_after();
    answer(downstream, ctx, response).await?;
    // Closing on bytes that nobody has read would reset the connection, and the answer with it.
    downstream.drain().await;
    Ok(())
}

/// Returns the response of the modules.
async fn ask(
    downstream: &mut impl Downstream,
    ctx: &RequestContext,
    modules: ModuleService,
) -> Result<Response<Body>, ProxyFailure> {
    let head = downstream.request();
    let announced = admission::declared_length(head);
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(ProxyFailure::BodyTooLarge);
    }
    let is_awaited = head.headers.contains_key(header::EXPECT);
    let small = announced.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= SMALL_BODY);
    let body = match small.filter(|_| !is_awaited) {
        _ if downstream.has_read_body() => Body::empty(),
        Some(length) => {
            // In all, however it comes: nobody has been asked for leave yet.
            let whole = timeout(SMALL_BODY_TIME, whole(downstream, length)).await;
            Body::from(whole.map_err(|_| ProxyFailure::ClientStalled)??)
        }
        None => {
            let (body, asked) = on_demand();
            let request = request(downstream, ctx, body);
            return tokio::select! {
                biased;
                Ok(response) = modules.oneshot(request) => Ok(response),
                failure = feed(downstream, asked) => Err(failure),
            };
        }
    };
    let Ok(response) = modules.oneshot(request(downstream, ctx, body)).await;
    Ok(response)
}

/// A small body of this length.
async fn whole(downstream: &mut impl Downstream, length: usize) -> Result<Bytes, ProxyFailure> {
    let first = downstream.read_body().await?.unwrap_or_default();
    let mut all = BytesMut::new();
    while let Some(piece) = downstream.read_body().await? {
        if all.is_empty() {
            all.reserve(length);
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// A body whose chunks are read when the module asks for them.
fn on_demand() -> (Body, mpsc::Receiver<BodyChunkRequest>) {
    let (ask, asked) = mpsc::channel::<BodyChunkRequest>(1);
    let next = async |ask: mpsc::Sender<BodyChunkRequest>| {
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
async fn feed(downstream: &mut impl Downstream, mut asked: mpsc::Receiver<BodyChunkRequest>) -> ProxyFailure {
    let mut read = 0;
    while let Some(give) = asked.recv().await {
        let piece = match downstream.read_body().await {
            Ok(piece) => piece,
            Err(error) => return error.into(),
        };
        read += piece.as_ref().map_or(0, Bytes::len);
        if read > MAX_BODY {
            return ProxyFailure::BodyTooLarge;
        }
        // Who does not want it any more has answered, or will.
        let _ = give.send(piece);
    }
    std::future::pending().await
}

/// Writes what the modules said.
async fn answer(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    response: Response<Body>,
) -> Result<(), DownstreamError> {
    let (parts, mut body) = response.into_parts();
    let mut headers = parts.headers;
    strip_hop_by_hop(&mut headers);
    let bodiless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = http_body::Body::size_hint(&body).exact().filter(|_| !bodiless);
    if let (None, Some(length)) = (headers.get(header::CONTENT_LENGTH), length) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    let end = bodiless || downstream.request().method == Method::HEAD;
    respond::head(downstream, ctx, parts.status, headers, end).await?;
    if end {
        return Ok(());
    }
    match pass_on(downstream, &mut body).await {
        Ok(()) => downstream.end(None).await,
        Err(failure) => {
            ctx.failure = Some(failure);
            downstream.abort().await;
            Ok(())
        }
    }
}

/// Writes `body` as it comes; each piece leaves before the next one is waited for.
async fn pass_on(downstream: &mut impl Downstream, body: &mut Body) -> Result<(), ProxyFailure> {
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                downstream.flush().await?;
                tokio::select! {
                    frame = body.frame() => frame,
                    () = downstream.closed_or_half_closed() => return Err(ProxyFailure::ClientLeft),
                }
            }
        };
        let Some(frame) = frame else { return Ok(()) };
        // An empty chunk would be the last one.
        if let Some(bytes) =
            frame.map_err(|_| ProxyFailure::Internal)?.into_data().ok().filter(|bytes| !bytes.is_empty())
        {
            downstream.write(&bytes).await?;
        }
    }
}

/// The request as a module sees it.
fn request(downstream: &impl Downstream, ctx: &RequestContext, body: Body) -> Request<Body> {
    let head = downstream.request();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let origin = RequestOrigin {
        host: admission::request_host(head),
        peer_address: Some(downstream.peer()),
        is_tls: downstream.is_tls(),
    };
    add_request_info(&mut request, ctx, &origin);
    strip_hop_by_hop(request.headers_mut());
    request
}

/// Adds what a module is to know of the caller, and of a page of another site that sent the request.
pub fn add_request_info<B>(request: &mut Request<B>, ctx: &RequestContext, origin: &RequestOrigin<'_>) {
    let own = authorization::own_hosts(&ctx.runtime, origin.host);
    let cors = ctx.runtime.server.api_cors.as_deref();
    if is_from_foreign_page(request.method(), request.headers(), own, cors) {
        request.extensions_mut().insert(ForeignPage);
    }
    if let Some(certificate) = &ctx.client_certificate {
        request.extensions_mut().insert(certificate_claims::certificate_claim(certificate));
    }
    let info = request_info(ctx, request.headers(), origin);
    request.extensions_mut().insert(info);
    request.extensions_mut().insert(Arc::clone(&ctx.runtime.authenticator));
}

/// The module that answers `path`, for the log.
pub fn module_name(path: &str) -> &'static str {
    let path = path.strip_prefix("/t/***").unwrap_or(path);
    let Some(operation) = path.strip_prefix("/api/v1/") else {
        return match path.split('/').nth(1) {
            Some("health") => "health",
            Some("openapi.json" | "docs") => "openapi",
            Some("listen") => "share",
            Some("watch") => "films",
            Some("player") => "player-page",
            _ => "api",
        };
    };
    let mut segments = operation.split('/');
    let (first, second, third) = (segments.next(), segments.next(), segments.next());
    match (first.unwrap_or_default(), second, third) {
        ("share", ..) => "share",
        ("usage", ..) => "limits",
        ("playback", ..) => "players",
        ("lyrics", ..) => "lyrics",
        ("playlists", ..) => "playlists",
        ("radio", ..) => "radio",
        ("recognition", ..) => "recognition",
        ("queue" | "channels", ..) => "channels",
        ("scheduler", ..) => "schedules",
        ("backup", ..) => "backup",
        ("telegram", ..) => "telegram",
        ("stream", ..) | ("admin", Some("subscriptions" | "stream-sessions"), _) => "films",
        ("progress", ..) | ("tracks", _, Some("position")) => "positions",
        ("tracks", _, Some("events")) => "playback",
        ("tracks", None, _) => "catalogue",
        ("logout", ..) | ("tracks", ..) | ("admin", Some("stream-cache"), _) => "streaming-urls",
        ("admin", ..) => "catalogue",
        _ => "api",
    }
}

/// Connection and host that a request came by.
pub struct RequestOrigin<'a> {
    /// The host that it names.
    pub host: Option<&'a str>,
    /// The other end of the connection.
    pub peer_address: Option<IpAddr>,
    /// True where it came over TLS.
    pub is_tls: bool,
}

/// Information about the caller for a module.
fn request_info(ctx: &RequestContext, headers: &HeaderMap, origin: &RequestOrigin<'_>) -> RequestInfo {
    RequestInfo {
        request_id: ctx.id.clone(),
        client_address: ctx.client_address,
        base_url: base_url(ctx, headers, origin),
    }
}

/// Returns the beginning of absolute URLs to this server for this caller: as configured, else as the request came, a
/// trusted proxy's word for it first.
fn base_url(ctx: &RequestContext, headers: &HeaderMap, origin: &RequestOrigin<'_>) -> String {
    if let Some(url) = &ctx.runtime.server.public_url {
        return url.clone();
    }
    let trusted = origin.peer_address.is_some_and(|peer| ctx.runtime.trusts(peer));
    // The nearest proxy writes at the right end.
    let said = |name: &str| {
        let value = headers.get_all(name).iter().next_back().filter(|_| trusted)?.to_str().ok()?;
        value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
    };
    let scheme = said("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https"));
    let host = said("x-forwarded-host").filter(|host| host.parse::<Authority>().is_ok());
    let host = host.or(origin.host).unwrap_or("localhost");
    format!("{}://{host}", scheme.unwrap_or(if origin.is_tls { "https" } else { "http" }))
}
