//! Players, where they are switched on: their service over the open connections, and its paths.

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::events::EventServices;
use super::modules::ModuleDependencies;
use crate::config::Settings;
use playback::player::{self, PlayerService, PlayerServiceParts};
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};

/// Starts the service of players; returns it and its paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    events: Option<&EventServices>,
) -> Result<(Option<PlayerService>, Vec<OpenApiRouter>), StartError> {
    let ModuleDependencies { storage, clock, tasks, services, metrics, limiters, revocations, .. } = dependencies;
    // The settings name both where there are players.
    let (Some(settings), Some(database)) = (&all.playback, &storage.database) else {
        return Ok((None, Vec::new()));
    };
    let parts = PlayerServiceParts {
        settings: settings.clone(),
        database: database.clone(),
        redis: storage.redis.clone(),
        reporter: events.map(|events| events.playback.clone()),
        revocations: revocations.cloned(),
        streams: (*tasks).clone(),
        clock: (*clock).clone(),
    };
    let players = PlayerService::start(parts, services, metrics.registry())?;
    let routes = vec![
        limit_routes(player::routes(players.clone()), limiters, RateLimitClass::STANDARD),
        limit_routes(player::report_routes(players.clone()), limiters, RateLimitClass::named("positions")),
    ];
    Ok((Some(players), routes))
}
