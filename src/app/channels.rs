//! Channels, where they are switched on: their service over the open connections, and its paths.

use std::sync::Arc;

use arc_swap::ArcSwap;
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::ModuleDependencies;
use super::streamed_tracks::StreamedTracks;
use crate::config::Settings;
use crate::proxy::runtime::Runtime;
use ::channels::player::output::ProgramOutput;
use ::channels::{ChannelPlayerParts, ChannelService, ChannelServiceParts, routes};
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};

/// Starts channels, which play to sessions of `output` where there are any; returns their service and their paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    runtime: &Arc<ArcSwap<Runtime>>,
    output: Option<Arc<dyn ProgramOutput>>,
) -> Result<(Option<ChannelService>, Vec<OpenApiRouter>), StartError> {
    let ModuleDependencies { storage, clock, tasks, metrics, limiters, revocations, .. } = dependencies;
    let Some(settings) = &all.channels else { return Ok((None, Vec::new())) };
    let tracks = Arc::new(StreamedTracks(Arc::clone(runtime)));
    let objects = Arc::clone(&tracks);
    let parts = ChannelServiceParts {
        settings: settings.clone(),
        redis: storage.redis.clone(),
        tracks,
        player: output.map(|output| ChannelPlayerParts { objects, output }),
        revocations: revocations.cloned(),
        tasks: (*tasks).clone(),
        clock: (*clock).clone(),
    };
    let channels = ChannelService::start(parts, metrics.registry())?;
    let routes = vec![limit_routes(routes(channels.clone()), limiters, RateLimitClass::STANDARD)];
    Ok((Some(channels), routes))
}
