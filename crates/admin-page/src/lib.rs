//! The operator's page on the admin address (`/`): what the process does, and what can be changed there by hand. Its parts are
//! below `/assets/`.
//!
//! It is a client of the admin API like any other, and knows no module. Its files hold nothing of the process, so that they
//! want no token; the page asks for it, and keeps it as long as its tab is open. Nothing in it is inline and nothing is from
//! elsewhere, so that its policy (CSP) can be strict.

use axum::Router;
use axum::routing::get;
use http::{HeaderMap, HeaderValue};

use web_pages::{Lifetime, SHARED, StaticFile, asset_routes};

/// Folder of the parts.
const ASSETS_PATH: &str = "/assets/";
/// The page.
const PAGE: &str = include_str!("page/admin.html");
/// Parts of the page: name and text.
const ASSETS: [(&str, &str); 6] = [
    ("admin.css", include_str!("page/admin.css")),
    ("admin.js", include_str!("page/admin.js")),
    ("api.js", include_str!("page/api.js")),
    ("changes.js", include_str!("page/changes.js")),
    ("lists.js", include_str!("page/lists.js")),
    ("rows.js", include_str!("page/rows.js")),
];
/// Texts of the page, by language.
const TEXTS: &str = include_str!("page/texts.json");
/// The policy of the page: it talks to the admin address alone.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// Returns the paths of the page.
pub fn routes() -> Router {
    let page = StaticFile::new("admin.html", PAGE, &POLICY, Lifetime::Revalidated);
    let parts = ASSETS.iter().chain(&SHARED).chain([&("texts.json", TEXTS)]);
    let parts = parts.map(|(name, text)| StaticFile::new(name, *text, &POLICY, Lifetime::Revalidated));
    let answer = get(async move |headers: HeaderMap| page.answer(&headers));
    Router::new().route("/", answer).merge(asset_routes(ASSETS_PATH, parts))
}

#[cfg(test)]
mod tests;
