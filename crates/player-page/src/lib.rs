//! The player page (`/player/`): the library, the queue, and the sound of one window. Its parts are below
//! `/player/assets/`.
//!
//! It is a client of the API like any other, and knows no module: a panel whose paths are not there is not shown. Nothing
//! in it is inline and nothing is from elsewhere, so that its policy (CSP) can be strict; the provider that signs users in
//! is the one exception. The page holds a token, so it stands in no other page.

mod audio;
pub mod settings;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use settings::Settings;
use web_pages::{Lifetime, SHARED, StaticFile, asset_routes};

/// Folder of the parts.
const ASSETS_PATH: &str = "/player/assets/";
/// The page.
const PAGE: &str = include_str!("page/player.html");
/// Parts of the page: name and text.
const ASSETS: [(&str, &str); 22] = [
    ("announce.js", include_str!("page/announce.js")),
    ("api.js", include_str!("page/api.js")),
    ("app.js", include_str!("page/app.js")),
    ("commands.js", include_str!("page/commands.js")),
    ("deck.js", include_str!("page/deck.js")),
    ("frame.js", include_str!("page/frame.js")),
    ("icons.js", include_str!("page/icons.js")),
    ("keys.js", include_str!("page/keys.js")),
    ("library.js", include_str!("page/library.js")),
    ("lit.js", include_str!("page/lit.js")),
    ("live.js", include_str!("page/live.js")),
    ("lyrics.js", include_str!("page/lyrics.js")),
    ("panels.js", include_str!("page/panels.js")),
    ("places.js", include_str!("page/places.js")),
    ("playback.js", include_str!("page/playback.js")),
    ("player.css", include_str!("page/player.css")),
    ("queue.js", include_str!("page/queue.js")),
    ("radio.js", include_str!("page/radio.js")),
    ("session.js", include_str!("page/session.js")),
    ("shuffle.js", include_str!("page/shuffle.js")),
    ("signin.js", include_str!("page/signin.js")),
    ("sleep.js", include_str!("page/sleep.js")),
];
/// Texts of the page, by language.
const TEXTS: &str = include_str!("page/texts.json");
/// What others have made, under names with their version: see `page/vendor/README.md`.
const VENDORED: [(&str, &str); 6] = [
    ("lit-html-3.3.3/lit-html.js", include_str!("page/vendor/lit-html.js")),
    ("lit-html-3.3.3/directive.js", include_str!("page/vendor/directive.js")),
    ("lit-html-3.3.3/directive-helpers.js", include_str!("page/vendor/directive-helpers.js")),
    ("lit-html-3.3.3/directives/repeat.js", include_str!("page/vendor/directives/repeat.js")),
    ("lit-html-3.3.3/directives/live.js", include_str!("page/vendor/directives/live.js")),
    ("lit-html-3.3.3/LICENSE.txt", include_str!("page/vendor/lit-html.LICENSE")),
];

/// Returns the paths of the page.
pub fn page_routes(settings: &Settings) -> OpenApiRouter {
    OpenApiRouter::with_openapi(PageDescription::openapi()).merge(page_router(settings).into())
}

fn page_router(settings: &Settings) -> Router {
    let policy = content_security_policy(settings);
    let page = StaticFile::new("player.html", PAGE, &policy, Lifetime::Revalidated);
    let told = page_settings(settings);
    let parts = ASSETS.iter().chain(&SHARED).chain(&audio::SCRIPTS).chain([&("texts.json", TEXTS)]);
    let parts = parts.map(|(name, text)| StaticFile::new(name, *text, &policy, Lifetime::Revalidated));
    let vendored = VENDORED.iter().chain(&audio::VENDORED);
    let vendored = vendored.map(|(name, text)| StaticFile::new(name, *text, &policy, Lifetime::Immutable));
    Router::new()
        .route("/player/", get(async move |headers: HeaderMap| page.answer(&headers)))
        .route("/player/settings.json", get(async move || settings_answer(told.clone())))
        .merge(asset_routes(ASSETS_PATH, parts.chain(vendored)))
}

/// Returns the settings as the page reads them.
fn page_settings(settings: &Settings) -> String {
    let sign_in = settings
        .sign_in
        .as_ref()
        .map(|provider| json!({ "issuer": provider.issuer.as_str(), "clientId": provider.client_id, "scope": provider.scope }));
    json!({ "signIn": sign_in, "token": settings.token }).to_string()
}

fn settings_answer(text: String) -> impl IntoResponse {
    // There may be a token in it, which no cache may keep.
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], text)
}

/// Returns the policy of the page. Sound is stretched by WebAssembly, and the page talks to the provider that signs users in.
fn content_security_policy(settings: &Settings) -> HeaderValue {
    let origins = settings.sign_in.iter().flat_map(|provider| {
        let own = provider.issuer.origin().ascii_serialization();
        provider.origins.iter().cloned().chain([own])
    });
    let origins: String = origins.map(|origin| format!(" {origin}")).collect();
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; \
         worker-src 'self'; connect-src 'self'{origins}; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("origins are ASCII")
}

/// Description of the page.
#[derive(OpenApi)]
#[openapi(paths(player, page_settings_path, asset, sound))]
struct PageDescription;

/// Page that plays the library.
#[utoipa::path(get, path = "/player/", tag = "player",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "Not modified")))]
#[expect(dead_code, reason = "stands here for its description")]
fn player() {}

/// Settings that the page begins with.
#[utoipa::path(get, path = "/player/settings.json", tag = "player",
    responses((status = 200, description = "How users sign in", body = String, content_type = "application/json")))]
#[expect(dead_code, reason = "stands here for its description")]
fn page_settings_path() {}

/// Part of the page: described so that no route with captures takes it.
#[utoipa::path(get, path = "/player/assets/{name}", tag = "player",
    params(("name" = String, Path, description = "The file", example = "player.js")),
    responses((status = 200, description = "The file", body = String, content_type = "text/javascript"),
        (status = 304, description = "Not modified"), (status = 404, description = "No such file")))]
#[expect(dead_code, reason = "stands here for its description")]
fn asset() {}

/// Part of the page's sound.
#[utoipa::path(get, path = "/player/assets/audio/{name}", tag = "player",
    params(("name" = String, Path, description = "The file", example = "engine.js")),
    responses((status = 200, description = "The file", body = String, content_type = "text/javascript"),
        (status = 304, description = "Not modified"), (status = 404, description = "No such file")))]
#[expect(dead_code, reason = "stands here for its description")]
fn sound() {}

#[cfg(test)]
mod tests;
