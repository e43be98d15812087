//! Playlists, where they are switched on: their service over the database, and its paths.

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::ModuleDependencies;
use crate::config::Settings;
use ::playlists::{PlaylistService, PlaylistServiceParts, routes};
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};

/// Starts playlists; returns their service and their paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
) -> Result<(Option<PlaylistService>, Vec<OpenApiRouter>), StartError> {
    let ModuleDependencies { storage, clock, metrics, limiters, .. } = dependencies;
    // The settings name both where there are playlists.
    let (Some(settings), Some(database)) = (&all.playlists, &storage.database) else { return Ok((None, Vec::new())) };
    let parts =
        PlaylistServiceParts { settings: settings.clone(), database: database.clone(), clock: (*clock).clone() };
    let service = PlaylistService::start(parts, metrics.registry())?;
    let routes = vec![limit_routes(routes(service.clone()), limiters, RateLimitClass::STANDARD)];
    Ok((Some(service), routes))
}
