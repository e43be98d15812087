//! The film page (`/watch/{id}`): plays a film in a browser, and lists what can be continued. Its parts are below
//! `/watch/assets/`.
//!
//! It is a client of the API like any other: nothing here knows a session, and the page is the same whether there is such a
//! film or not. Nothing in it is inline and nothing is from elsewhere, so that its policy (CSP) can be strict; hosts that
//! manifests may name (`AllowedHosts`) are the one exception. The page takes a token, so it stands in no other page.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{HeaderMap, HeaderValue};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::movie_id::movie_id;
use crate::settings::Settings;
use server_kit::api::error::Error;
use server_kit::api::extractors::Path;
use web_pages::{Lifetime, SHARED, StaticFile, asset_routes};

/// Folder of the parts.
const ASSETS_PATH: &str = "/watch/assets/";
/// The page.
const PAGE: &str = include_str!("page/watch.html");
/// Mark in the page where the interval between reports stands, in seconds.
const INTERVAL_MARK: &str = "{report_interval}";

/// Parts of the page: name and text.
const ASSETS: [(&str, &str); 13] = [
    ("api.js", include_str!("page/api.js")),
    ("continue.js", include_str!("page/continue.js")),
    ("controls.js", include_str!("page/controls.js")),
    ("dash.js", include_str!("page/dash.js")),
    ("hls.js", include_str!("page/hls.js")),
    ("keys.js", include_str!("page/keys.js")),
    ("native.js", include_str!("page/native.js")),
    ("notice.js", include_str!("page/notice.js")),
    ("players.js", include_str!("page/players.js")),
    ("reports.js", include_str!("page/reports.js")),
    ("session.js", include_str!("page/session.js")),
    ("watch.css", include_str!("page/watch.css")),
    ("watch.js", include_str!("page/watch.js")),
];
/// Texts of the page, by language.
const TEXTS: &str = include_str!("page/texts.json");
/// Players that others have made, under names with their version: see `page/vendor/README.md`.
const PLAYERS: [(&str, &str); 5] = [
    ("hls-1.7.4.min.js", include_str!("page/vendor/hls.min.js")),
    ("hls-1.7.4.worker.js", include_str!("page/vendor/hls.worker.js")),
    ("hls-1.7.4.LICENSE.txt", include_str!("page/vendor/hls.LICENSE")),
    ("shaka-player-5.2.12.dash.js", include_str!("page/vendor/shaka-player.dash.js")),
    ("shaka-player-5.2.12.LICENSE.txt", include_str!("page/vendor/shaka-player.LICENSE")),
];

/// Returns the paths of the page, where `settings` have it.
pub fn page_routes(settings: &Settings) -> Option<OpenApiRouter> {
    let router = settings.page.then(|| page_router(&settings.allowed_hosts, settings.report_interval))?;
    Some(OpenApiRouter::with_openapi(PageDescription::openapi()).merge(router.into()))
}

fn page_router(allowed_hosts: &[String], report_interval: Duration) -> Router {
    let policy = content_security_policy(allowed_hosts);
    let text = PAGE.replace(INTERVAL_MARK, &report_interval.as_secs().max(1).to_string());
    let film = StaticFile::new("watch.html", text, &policy, Lifetime::Revalidated);
    let list = film.clone();
    let page = async move |Path(id): Path<String>, headers: HeaderMap| -> Result<_, Error> {
        movie_id(&id).map(|_| film.answer(&headers))
    };
    let parts = ASSETS.iter().chain(&SHARED).chain([&("texts.json", TEXTS)]);
    let parts = parts.map(|(name, text)| StaticFile::new(name, *text, &policy, Lifetime::Revalidated));
    let players = PLAYERS.iter().map(|(name, text)| StaticFile::new(name, *text, &policy, Lifetime::Immutable));
    Router::new()
        .route("/watch/{id}", get(page))
        .route("/watch/", get(async move |headers: HeaderMap| list.answer(&headers)))
        .merge(asset_routes(ASSETS_PATH, parts.chain(players)))
}

/// Returns the policy of the page; films may come from `hosts` too, on any port, as manifests may name them. Media are `blob:` where a
/// script hands them to the browser, and players begin a track of subtitles with an empty one, which is `data:`.
fn content_security_policy(hosts: &[String]) -> HeaderValue {
    let hosts: String = hosts.iter().map(|host| format!(" {host}:*")).collect();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; worker-src 'self'; \
         connect-src 'self'{hosts}; media-src 'self' blob: data:{hosts}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("names of hosts are ASCII")
}

/// Description of the page.
#[derive(OpenApi)]
#[openapi(paths(watch, list, asset))]
struct PageDescription;

/// Page that plays a film.
#[utoipa::path(get, path = "/watch/{id}", tag = "films",
    params(("id" = String, Path, description = "The film", example = "dune")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "Not modified"), (status = 400, description = "An id that cannot be")))]
#[expect(dead_code, reason = "stands here for its description")]
fn watch() {}

/// Page that lists the films that can be continued.
#[utoipa::path(get, path = "/watch/", tag = "films",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "Not modified")))]
#[expect(dead_code, reason = "stands here for its description")]
fn list() {}

/// Part of the page: described so that no route with captures takes it.
#[utoipa::path(get, path = "/watch/assets/{name}", tag = "films",
    params(("name" = String, Path, description = "The file", example = "watch.js")),
    responses((status = 200, description = "The file", body = String, content_type = "text/javascript"),
        (status = 304, description = "Not modified"), (status = 404, description = "No such file")))]
#[expect(dead_code, reason = "stands here for its description")]
fn asset() {}

#[cfg(test)]
mod tests;
