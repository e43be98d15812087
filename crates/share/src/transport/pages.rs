//! Pages of the relay: one that plays a session (`/listen/{id}`) and one that shares (`/listen/host`), with their parts
//! under `/listen/assets/`.
//!
//! They are clients of the API like any other: nothing here knows a session, and a page is the same whether there is
//! one or not. Nothing in them is inline and nothing is from elsewhere, so that the policy (CSP) can be strict. A
//! ticket may stand in the page's address, hence no referrer.

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use utoipa::OpenApi;

use crate::refusal::Refusal;
use crate::session::id::SessionId;
use http_semantics::etag::{ETag, ETagCondition};
use server_kit::api::error::Error;
use server_kit::api::extractors::Path;

/// Policy of the listen page; it may stand in other pages.
const LISTEN: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'";
/// Policy of the host page: it plays chosen files, and it takes the token, so it stands in no other page.
const HOST: &str = "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; \
                    frame-ancestors 'none'";

/// Parts of the pages: name and text.
const ASSETS: [(&str, &str); 23] = [
    ("capture.js", include_str!("pages/capture.js")),
    ("chat.js", include_str!("pages/chat.js")),
    ("clock.js", include_str!("pages/clock.js")),
    ("decoder.js", include_str!("pages/decoder.js")),
    ("frame.js", include_str!("pages/frame.js")),
    ("host.js", include_str!("pages/host.js")),
    ("icon.svg", include_str!("pages/icon.svg")),
    ("jitter.js", include_str!("pages/jitter.js")),
    ("level.js", include_str!("pages/level.js")),
    ("line.js", include_str!("pages/line.js")),
    ("listen.css", include_str!("pages/listen.css")),
    ("listen.js", include_str!("pages/listen.js")),
    ("live.js", include_str!("pages/live.js")),
    ("lyrics.js", include_str!("pages/lyrics.js")),
    ("memory.js", include_str!("pages/memory.js")),
    ("outbox.js", include_str!("pages/outbox.js")),
    ("plain.js", include_str!("pages/plain.js")),
    ("relay.js", include_str!("pages/relay.js")),
    ("retry.js", include_str!("pages/retry.js")),
    ("socket.js", include_str!("pages/socket.js")),
    ("tap.js", include_str!("pages/tap.js")),
    ("texts.js", include_str!("pages/texts.js")),
    ("worklet.js", include_str!("pages/worklet.js")),
];
/// Texts of the pages, by language.
const TEXTS: &str = include_str!("pages/texts.json");

/// Returns the pages' paths.
pub fn routes() -> Router {
    let listen = StaticFile::new("listen.html", include_str!("pages/listen.html"), LISTEN);
    let host = StaticFile::new("host.html", include_str!("pages/host.html"), HOST);
    let page = async move |Path(id): Path<String>, headers: HeaderMap| {
        id.parse::<SessionId>().map(|_| listen.answer(&headers)).map_err(|refused: Refusal| Error::from(refused))
    };
    let router = Router::new()
        .route("/listen/{id}", get(page))
        .route("/listen/host", get(async move |headers: HeaderMap| host.answer(&headers)));
    ASSETS.iter().chain([&("texts.json", TEXTS)]).fold(router, |router, (name, text)| {
        let asset = StaticFile::new(name, text, LISTEN);
        router.route(&format!("/listen/assets/{name}"), get(async move |headers: HeaderMap| asset.answer(&headers)))
    })
}

/// Description of the pages.
#[derive(OpenApi)]
#[openapi(paths(listen, host))]
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

/// File with its headers.
#[derive(Clone)]
struct StaticFile {
    text: &'static str,
    tag: ETag,
    head: HeaderMap,
}

impl StaticFile {
    fn new(name: &str, text: &'static str, policy: &'static str) -> Self {
        let digest: String = Sha256::digest(text)[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = ETag::parse(format!("\"{digest}\"").as_bytes()).expect("hexadecimal digits in quotes are a tag");
        let head: [(HeaderName, &'static str); 5] = [
            (header::CONTENT_TYPE, media_type(name)),
            // The parts belong together: after an update none may be an old one.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut head: HeaderMap =
            head.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
        head.insert(header::ETAG, tag.to_header());
        Self { text, tag, head }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = ETagCondition::parse(headers.get_all(header::IF_NONE_MATCH));
        if known.is_some_and(|known| known.matches_weak(Some(&self.tag))) {
            return (StatusCode::NOT_MODIFIED, self.head.clone()).into_response();
        }
        (self.head.clone(), Body::from(Bytes::from_static(self.text.as_bytes()))).into_response()
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

#[cfg(test)]
mod tests;
