//! Requests that the modules in this process answer: called through a service that knows nothing of Pingora.

use std::convert::Infallible;

use axum::body::Body;
use futures::FutureExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use pingora::Result;
use pingora::http::RequestHeader;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::ctx::Ctx;
use super::failure::Failure;
use super::player::Player;
use super::respond;
use crate::http::caller::Caller;
use crate::http::headers::strip_hop_by_hop;

/// What the modules are, to the proxy.
pub type Inside = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Largest request body that is read for a module; more is 413. A module may take less.
const MAX_BODY: usize = 12 * 1024 * 1024;

/// Hands the request to the modules and writes what they say.
pub async fn serve(player: &mut impl Player, ctx: &mut Ctx, inside: Inside) -> Result<()> {
    let body = match player.read_body(MAX_BODY).await {
        Ok(body) => body,
        Err(failure) => return respond::failure(player, ctx, failure).await,
    };
    let Ok(response) = inside.oneshot(request(player.request(), ctx, Body::from(body))).await;
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
fn request(head: &RequestHeader, ctx: &Ctx, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    strip_hop_by_hop(request.headers_mut());
    request.extensions_mut().insert(caller(ctx));
    request
}

/// What a module is told of who asks.
pub fn caller(ctx: &Ctx) -> Caller {
    Caller { request_id: ctx.id.clone(), address: ctx.client }
}
