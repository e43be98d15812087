//! Lyrics, where they are switched on: their service over the database, tracks as the proxy would stream them, and its paths.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::request::Parts;
use utoipa_axum::router::OpenApiRouter;

use super::events::EventServices;
use super::modules::ModuleDependencies;
use super::stores::store_client;
use super::streamed_tracks::StreamedTracks;
use super::{StartError, http_client};
use crate::config::Settings;
use crate::proxy::runtime::Runtime;
use ::lyrics::sources::object_reader::TrackBucket;
use ::lyrics::{LyricsService, LyricsServiceParts, LyricsTrack, TrackResolver, admin_routes, routes};
use primitives::ids::TrackId;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::api::user::User;

/// Starts the service of lyrics; returns its paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    runtime: &Arc<ArcSwap<Runtime>>,
    events: Option<&EventServices>,
) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, services, metrics, limiters, .. } = dependencies;
    // The settings name both where there are lyrics.
    let (Some(settings), Some(database)) = (&all.lyrics, &storage.database) else { return Ok(Vec::new()) };
    let parts = LyricsServiceParts {
        settings: settings.clone(),
        database: database.clone(),
        tracks: Arc::new(StreamedTracks(Arc::clone(runtime))),
        client: http_client()?,
        events: events.map(|events| events.events.clone()),
        store_client: store_client().user_agent("tidegate").build()?,
        clock: (*clock).clone(),
    };
    let lyrics = LyricsService::start(parts, services, metrics.registry())?;
    Ok(vec![
        limit_routes(routes(lyrics.clone()), limiters, RateLimitClass::STANDARD),
        limit_routes(admin_routes(lyrics), limiters, RateLimitClass::STRICT),
    ])
}

/// Whoever may stream a track may read its lyrics.
impl TrackResolver for StreamedTracks {
    fn resolve<'a>(
        &'a self,
        id: &'a TrackId,
        request_head: &'a Parts,
        user: &'a User,
    ) -> BoxFuture<'a, Result<LyricsTrack, Error>> {
        Box::pin(async move {
            let object = self.find_object(id, request_head, user).await?;
            let (origin, track) = (&object.origin, object.track());
            Ok(LyricsTrack {
                id: id.clone(),
                bucket: TrackBucket { signer: Arc::clone(&origin.signer), name: Arc::clone(&origin.bucket) },
                key: object.key().to_owned(),
                owner: track.and_then(|track| track.owner.clone()),
                created_at: track.map(|track| track.created_at),
                updated_at: track.map(|track| track.updated_at),
            })
        })
    }
}
