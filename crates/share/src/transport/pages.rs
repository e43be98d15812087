//! Pages of the relay: one that plays a session (`/listen/{id}`) and one that shares (`/listen/host`), with their parts
//! under `/listen/assets/`.
//!
//! They are clients of the API like any other: nothing here knows a session, and a page is the same whether there is
//! one or not. Nothing in them is inline and nothing is from elsewhere, so that the policy (CSP) can be strict. A
//! ticket may stand in the page's address, hence no referrer.

use axum::Router;
use axum::routing::get;
use http::{HeaderMap, HeaderValue};
use utoipa::OpenApi;

use crate::refusal::Refusal;
use crate::session::id::SessionId;
use server_kit::api::error::Error;
use server_kit::api::extractors::Path;
use web_pages::{Lifetime, SHARED, StaticFile, asset_routes};

/// Policy of the listen page; it may stand in other pages.
const LISTEN: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'";
/// Policy of the host page: it plays chosen files, and it takes the token, so it stands in no other page.
const HOST: &str = "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; \
                    frame-ancestors 'none'";

/// Parts of the pages: name and text.
const ASSETS: [(&str, &str); 19] = [
    ("capture.js", include_str!("pages/capture.js")),
    ("chat.js", include_str!("pages/chat.js")),
    ("clock.js", include_str!("pages/clock.js")),
    ("decoder.js", include_str!("pages/decoder.js")),
    ("frame.js", include_str!("pages/frame.js")),
    ("host.js", include_str!("pages/host.js")),
    ("jitter.js", include_str!("pages/jitter.js")),
    ("level.js", include_str!("pages/level.js")),
    ("line.js", include_str!("pages/line.js")),
    ("listen.css", include_str!("pages/listen.css")),
    ("listen.js", include_str!("pages/listen.js")),
    ("live.js", include_str!("pages/live.js")),
    ("lyrics.js", include_str!("pages/lyrics.js")),
    ("outbox.js", include_str!("pages/outbox.js")),
    ("plain.js", include_str!("pages/plain.js")),
    ("relay.js", include_str!("pages/relay.js")),
    ("socket.js", include_str!("pages/socket.js")),
    ("tap.js", include_str!("pages/tap.js")),
    ("worklet.js", include_str!("pages/worklet.js")),
];
/// Texts of the pages, by language.
const TEXTS: &str = include_str!("pages/texts.json");

/// Returns the pages' paths.
pub fn routes() -> Router {
    let (listen_policy, host_policy) = (HeaderValue::from_static(LISTEN), HeaderValue::from_static(HOST));
    let listen =
        StaticFile::new("listen.html", include_str!("pages/listen.html"), &listen_policy, Lifetime::Revalidated);
    let host = StaticFile::new("host.html", include_str!("pages/host.html"), &host_policy, Lifetime::Revalidated);
    let page = async move |Path(id): Path<String>, headers: HeaderMap| {
        id.parse::<SessionId>().map(|_| listen.answer(&headers)).map_err(|refused: Refusal| Error::from(refused))
    };
    let assets = ASSETS.iter().chain(&SHARED).chain([&("texts.json", TEXTS)]);
    Router::new()
        .route("/listen/{id}", get(page))
        .route("/listen/host", get(async move |headers: HeaderMap| host.answer(&headers)))
        .merge(asset_routes(
            "/listen/assets/",
            assets.map(|(name, text)| StaticFile::new(name, *text, &listen_policy, Lifetime::Revalidated)),
        ))
}

/// Description of the pages.
#[derive(OpenApi)]
#[openapi(paths(listen, host, asset))]
pub struct PageDescriptions;

/// Page that plays a session.
#[utoipa::path(get, path = "/listen/{id}", tag = "share", params(("id" = String, Path, description = "Six digits")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "Not modified"), (status = 400, description = "Not six digits")))]
#[expect(dead_code, reason = "stands here for its description")]
fn listen() {}

/// Page that shares what a browser plays.
#[utoipa::path(get, path = "/listen/host", tag = "share",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "Not modified")))]
#[expect(dead_code, reason = "stands here for its description")]
fn host() {}

/// Part of the pages: described so that no route with captures takes it.
#[utoipa::path(get, path = "/listen/assets/{name}", tag = "share",
    params(("name" = String, Path, description = "The file", example = "listen.js")),
    responses((status = 200, description = "The file", body = String, content_type = "text/javascript"),
        (status = 304, description = "Not modified"), (status = 404, description = "No such file")))]
#[expect(dead_code, reason = "stands here for its description")]
fn asset() {}

#[cfg(test)]
mod tests;
