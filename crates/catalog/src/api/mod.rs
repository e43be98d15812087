//! The API of tracks: what the catalogue holds and who may have it, for operators; streaming URLs, for players.
//!
//! Owns the paths below `/api/v1/tracks/{id}/stream-url` and `/api/v1/admin/`, and the cache of streaming URLs. Must not
//! know how a track is streamed: what a stream would be is asked through [`Streams`].

pub mod answers;
mod catalogue;
mod fields;
mod grants;
mod stream_url;

use std::sync::Arc;

use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use catalogue::Catalogue;
pub use stream_url::{Ask, Stream, Streams, Urls};

/// The operator's paths to the catalogue.
pub fn admin(catalogue: Arc<Catalogue>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(catalogue::add, catalogue::list))
        .routes(routes!(catalogue::read, catalogue::delete))
        .routes(routes!(grants::add, grants::list, grants::remove))
        .with_state(catalogue)
}

/// The operator's path to streaming URLs.
pub fn streaming_admin(urls: Arc<Urls>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(stream_url::drop_cached)).with_state(urls)
}

/// The paths of streaming URLs.
pub fn streaming(urls: Arc<Urls>) -> OpenApiRouter {
    OpenApiRouter::with_openapi(stream_url::ByUrl::openapi())
        .routes(routes!(stream_url::read))
        .routes(routes!(stream_url::log_out))
        .with_state(urls)
}
