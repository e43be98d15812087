//! The pages of the relay: where a session is heard (`/listen/{id}`) and from where one is shared (`/listen/host`), with
//! their parts under `/listen/assets/`.
//!
//! They are clients of the API like any other: nothing here knows a session, and a page is the same whether there is one
//! or not. Nothing in them is inline and nothing is from elsewhere, so that the policy (CSP) can be strict. A ticket may
//! stand in the page's address, hence no referrer.

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use utoipa::OpenApi;

use super::id::SessionId;
use super::refused::Refused;
use http_semantics::etag::{ETag, ETagCondition};
use server_kit::api::error::Error;
use server_kit::api::extractors::Path;

/// What the listen page may do; it may stand in other pages.
const LISTEN: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'";
/// What the host page may do: it plays chosen files, and it takes the token, so it stands in no other page.
const HOST: &str = "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; \
                    frame-ancestors 'none'";

/// The parts: name and text.
const ASSETS: [(&str, &str); 23] = [
    ("capture.js", include_str!("page/capture.js")),
    ("chat.js", include_str!("page/chat.js")),
    ("clock.js", include_str!("page/clock.js")),
    ("decoder.js", include_str!("page/decoder.js")),
    ("frame.js", include_str!("page/frame.js")),
    ("host.js", include_str!("page/host.js")),
    ("icon.svg", include_str!("page/icon.svg")),
    ("jitter.js", include_str!("page/jitter.js")),
    ("level.js", include_str!("page/level.js")),
    ("line.js", include_str!("page/line.js")),
    ("listen.css", include_str!("page/listen.css")),
    ("listen.js", include_str!("page/listen.js")),
    ("live.js", include_str!("page/live.js")),
    ("lyrics.js", include_str!("page/lyrics.js")),
    ("memory.js", include_str!("page/memory.js")),
    ("outbox.js", include_str!("page/outbox.js")),
    ("plain.js", include_str!("page/plain.js")),
    ("relay.js", include_str!("page/relay.js")),
    ("retry.js", include_str!("page/retry.js")),
    ("socket.js", include_str!("page/socket.js")),
    ("tap.js", include_str!("page/tap.js")),
    ("texts.js", include_str!("page/texts.js")),
    ("worklet.js", include_str!("page/worklet.js")),
];
/// The words of the pages, by language.
const TEXTS: &str = include_str!("page/texts.json");

/// The pages' paths.
pub fn routes() -> Router {
    let listen = File::new("listen.html", include_str!("page/listen.html"), LISTEN);
    let host = File::new("host.html", include_str!("page/host.html"), HOST);
    let page = async move |Path(id): Path<String>, headers: HeaderMap| {
        id.parse::<SessionId>().map(|_| listen.answer(&headers)).map_err(|refused: Refused| Error::from(refused))
    };
    let router = Router::new()
        .route("/listen/{id}", get(page))
        .route("/listen/host", get(async move |headers: HeaderMap| host.answer(&headers)));
    ASSETS.iter().chain([&("texts.json", TEXTS)]).fold(router, |router, (name, text)| {
        let asset = File::new(name, text, LISTEN);
        router.route(&format!("/listen/assets/{name}"), get(async move |headers: HeaderMap| asset.answer(&headers)))
    })
}

/// The description of the pages.
#[derive(OpenApi)]
#[openapi(paths(listen, host))]
pub struct Pages;

/// The page that plays a session.
#[utoipa::path(get, path = "/listen/{id}", tag = "share", params(("id" = String, Path, description = "Six digits")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "Not modified"), (status = 400, description = "Not six digits")))]
#[expect(dead_code, reason = "stands here for its description")]
fn listen() {}

/// The page that shares what a browser plays.
#[utoipa::path(get, path = "/listen/host", tag = "share",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "Not modified")))]
#[expect(dead_code, reason = "stands here for its description")]
fn host() {}

/// A file and what is said of it.
#[derive(Clone)]
struct File {
    text: &'static str,
    tag: ETag,
    head: HeaderMap,
}

impl File {
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
