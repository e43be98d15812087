//! The description of the API for people, at `/docs/`: Swagger UI from this binary, nothing from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use utoipa_swagger_ui::Config;

use super::error::Error;
use super::extractors::Path;

/// Policy: its own files, and the description; pictures in its style sheet are data.
const CONTENT_SECURITY_POLICY_VALUE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the page and the files that it loads.
pub fn routes() -> Router {
    // Without the bar that loads other descriptions; and a validator elsewhere would be sent this one's address.
    let config = Config::new(["/openapi.json"]).use_base_layout().validator_url("none");
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(async |State(config)| file("index.html", config)))
        .route("/docs/{file}", get(async |State(config), Path(name): Path<String>| file(&name, config)))
        .with_state(Arc::new(config))
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
