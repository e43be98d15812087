//! Channels, where they are switched on: their service over the open connections, and its paths.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::request::Parts;
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::ModuleDependencies;
use super::streamed_tracks::find_track_object;
use crate::config::Settings;
use crate::proxy::runtime::Runtime;
use ::channels::{ChannelService, ChannelServiceParts, TrackAccess, routes};
use primitives::ids::TrackId;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::api::user::User;

/// Starts channels; returns their paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    runtime: &Arc<ArcSwap<Runtime>>,
) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, metrics, limiters, .. } = dependencies;
    let Some(settings) = &all.channels else { return Ok(Vec::new()) };
    let parts = ChannelServiceParts {
        settings: settings.clone(),
        redis: storage.redis.clone(),
        tracks: Arc::new(StreamableTracks(Arc::clone(runtime))),
        clock: (*clock).clone(),
    };
    let channels = ChannelService::start(parts, metrics.registry())?;
    Ok(vec![limit_routes(routes(channels), limiters, RateLimitClass::STANDARD)])
}

/// Tracks that a user may stream.
struct StreamableTracks(Arc<ArcSwap<Runtime>>);

#[async_trait]
impl TrackAccess for StreamableTracks {
    async fn check(&self, id: &TrackId, request_head: &Parts, user: &User) -> Result<(), Error> {
        find_track_object(&self.0, id, request_head, user).await.map(drop)
    }
}
