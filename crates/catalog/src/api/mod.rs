//! API of tracks: content of the catalog and grants, for operators; streaming URLs, for players.
//!
//! Owns the paths below `/api/v1/tracks/{id}/stream-url` and `/api/v1/admin/`, and the cache of streaming URLs. Must
//! not know how a track is streamed: it asks a [`StreamResolver`].

mod grants;
mod library;
mod logout;
mod stream_url;
pub mod stream_url_cache;
mod tracks;

use std::sync::Arc;

use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use library::LibraryState;
use server_kit::auth::revocation::TokenRevocations;
pub use stream_url::{StreamInfo, StreamQuery, StreamResolver, StreamUrlService};
pub use tracks::{CatalogAdminState, CatalogConfiguration};

/// Returns the operator's paths to the catalog.
pub fn catalog_admin_routes(catalogue: Arc<CatalogAdminState>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(tracks::add, tracks::list))
        .routes(routes!(tracks::read, tracks::delete))
        .routes(routes!(grants::add, grants::list, grants::remove))
        .with_state(catalogue)
}

/// Returns the paths by which users list, search and read their tracks.
pub fn library_routes(library: Arc<LibraryState>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(library::list)).routes(routes!(library::read)).with_state(library)
}

/// Returns the operator's path to streaming URLs.
pub fn stream_url_admin_routes(urls: Arc<StreamUrlService>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(stream_url::drop_cached)).with_state(urls)
}

/// Returns the paths of streaming URLs.
pub fn stream_url_routes(urls: Arc<StreamUrlService>) -> OpenApiRouter {
    OpenApiRouter::with_openapi(stream_url::StreamUrlDescription::openapi())
        .routes(routes!(stream_url::read))
        .with_state(urls)
}

/// Returns the path by which users log out everywhere.
pub fn logout_routes(revocations: Arc<TokenRevocations>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(logout::log_out)).with_state(revocations)
}
