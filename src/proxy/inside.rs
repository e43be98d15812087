//! Requests that the modules in this process answer: called through a service that knows nothing of Pingora.

use std::convert::Infallible;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::uri::Authority;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use pingora::Result;
use pingora::proxy::Session;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::ctx::Ctx;
use super::failure::Failure;
use super::player::Player;
use super::{admit, forward, respond};
use crate::http::caller::Caller;
use crate::http::headers::strip_hop_by_hop;

/// What the modules are, to the proxy.
pub type Inside = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Largest request body that is read for a module; more is 413.
const MAX_BODY: usize = 12 * 1024 * 1024;

/// Hands the request to the modules and writes what they say.
pub async fn serve(session: &mut Session, ctx: &mut Ctx, inside: Inside) -> Result<()> {
    let request = match read(session, ctx).await {
        Ok(request) => request,
        Err(failure) => return respond::failure(session, ctx, failure).await,
    };
    let Ok(response) = inside.oneshot(request).await;
    let (parts, mut body) = response.into_parts();
    let mut headers = parts.headers;
    strip_hop_by_hop(&mut headers);
    if let (None, Some(length)) = (headers.get(header::CONTENT_LENGTH), http_body::Body::size_hint(&body).exact()) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    let end = session.req_header().method == http::Method::HEAD;
    respond::head(session, ctx, parts.status, headers, end).await?;
    if end {
        return Ok(());
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            ctx.failure = Some(Failure::Internal);
            session.set_keepalive(None);
            session.as_downstream_mut().shutdown().await;
            return Ok(());
        };
        if let Ok(bytes) = frame.into_data() {
            session.as_downstream_mut().write_response_body(bytes, false).await?;
        }
    }
    session.as_downstream_mut().write_response_body(Bytes::new(), true).await
}

async fn read(session: &mut Session, ctx: &Ctx) -> Result<Request<Body>, Failure> {
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_request_body().await.map_err(|_| Failure::ClientLeft)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Failure::BodyTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let head = session.req_header();
    let mut request = Request::new(Body::from(body.freeze()));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    strip_hop_by_hop(request.headers_mut());
    request.extensions_mut().insert(Caller {
        request_id: ctx.id.clone(),
        address: ctx.client,
        base: base(session, ctx),
    });
    Ok(request)
}

/// What absolute URLs to us begin with for this caller: as configured, else as the request came, a trusted proxy's word
/// for it first.
fn base(session: &Session, ctx: &Ctx) -> String {
    if let Some(url) = &ctx.world.server.public_url {
        return url.clone();
    }
    let request = session.req_header();
    let trusted = Player::peer(session).is_some_and(|peer| ctx.world.trusts(peer));
    // The nearest proxy writes at the right end.
    let said = |name: &str| {
        let value = request.headers.get_all(name).iter().next_back().filter(|_| trusted)?.to_str().ok()?;
        value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
    };
    let scheme = said("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https"));
    let host = said("x-forwarded-host")
        .filter(|host| host.parse::<Authority>().is_ok())
        .or_else(|| admit::host(request))
        .unwrap_or("localhost");
    format!("{}://{host}", scheme.unwrap_or_else(|| forward::scheme(session)))
}
