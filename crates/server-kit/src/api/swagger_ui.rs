//! The description of the API for people, at `/docs/`: Swagger UI from this binary, nothing from elsewhere, in a page of ours with
//! the colours of all pages (`docs_page/`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, header};
use utoipa_swagger_ui::Config;

use super::error::Error;
use super::extractors::Path;
use web_pages::{Lifetime, SHARED, StaticFile, asset_routes};

/// Policy: its own files, and the description; pictures in its style sheet are data.
const CONTENT_SECURITY_POLICY_VALUE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Folder of the page.
const FOLDER: &str = "/docs/";
/// The page.
const PAGE: &str = include_str!("docs_page/docs.html");
/// Parts of the page: name and text.
const ASSETS: [(&str, &str); 2] =
    [("color-scheme.js", include_str!("docs_page/color-scheme.js")), ("docs.css", include_str!("docs_page/docs.css"))];
/// Shared parts that the page takes: colours, elements and icons.
const TAKEN: [&str; 4] = ["base.css", "chevron.svg", "components.css", "icon.svg"];

/// Returns the page and the files that it loads.
pub fn routes() -> Router {
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY_VALUE);
    let static_file = |name, text: &'static str| StaticFile::new(name, text, &policy, Lifetime::Revalidated);
    let page = static_file("index.html", PAGE);
    let shared = SHARED.iter().filter(|(name, _)| TAKEN.contains(name));
    // In the place of Swagger UI's own page.
    let parts = ASSETS.iter().chain(shared).map(|(name, text)| static_file(name, text)).chain([page.clone()]);
    // Without the bar that loads other descriptions; and a validator elsewhere would be sent this one's address.
    let config = Config::new(["/openapi.json"]).use_base_layout().validator_url("none");
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route(FOLDER, get(async move |headers: HeaderMap| page.answer(&headers)))
        .route("/docs/{file}", get(async |State(config), Path(name): Path<String>| file(&name, config)))
        .with_state(Arc::new(config))
        .merge(asset_routes(FOLDER, parts))
}

fn file(name: &str, config: Arc<Config<'static>>) -> Result<Response, Error> {
    let found = utoipa_swagger_ui::serve(name, config).map_err(|error| {
        tracing::error!(%error, name, "a file of the page at /docs/ cannot be served");
        Error::internal()
    })?;
    let found = found.ok_or_else(Error::no_route)?;
    let media_type = HeaderValue::try_from(found.content_type).map_err(|_| Error::internal())?;
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY_VALUE)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, Body::from(found.bytes)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use web_pages::checks;

    #[test]
    fn the_page_has_nothing_inline_and_nothing_from_elsewhere() {
        assert_eq!(checks::page_faults(PAGE), [""; 0]);
        for (name, part) in ASSETS {
            assert!(checks::part_faults(part).is_empty(), "{name}: {:?}", checks::part_faults(part));
        }
    }

    #[test]
    fn each_file_that_the_page_names_is_there() {
        let config = Arc::new(Config::new(["/openapi.json"]));
        for name in checks::named_files(PAGE, "") {
            let is_ours = ASSETS.iter().any(|(own, _)| *own == name) || TAKEN.contains(&name);
            assert!(is_ours || file(name, Arc::clone(&config)).is_ok(), "{name}");
        }
        assert!(TAKEN.iter().all(|name| SHARED.iter().any(|(shared, _)| shared == name)));
    }
}
