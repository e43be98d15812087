//! Lyrics, where they are switched on: their service over the database, tracks as the proxy would stream them, and its paths.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::request::Parts;
use percent_encoding::utf8_percent_encode;
use utoipa_axum::router::OpenApiRouter;

use super::modules::ModuleDependencies;
use super::stores::store_client;
use super::{StartError, http_client};
use crate::config::Settings;
use crate::proxy::inspect::{StreamInquiry, find_stream_object};
use crate::proxy::runtime::Runtime;
use ::lyrics::sources::object_reader::TrackBucket;
use ::lyrics::{LyricsService, LyricsServiceParts, LyricsTrack, TrackResolver, admin_routes, routes};
use primitives::ids::TrackId;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::api::user::User;
use server_kit::url_template::UNRESERVED;

/// Starts the service of lyrics; returns its paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    runtime: &Arc<ArcSwap<Runtime>>,
) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, services, metrics, limiters, .. } = dependencies;
    // The settings name both where there are lyrics.
    let (Some(settings), Some(database)) = (&all.lyrics, &storage.database) else { return Ok(Vec::new()) };
    let parts = LyricsServiceParts {
        settings: settings.clone(),
        database: database.clone(),
        tracks: Arc::new(StreamedTracks(Arc::clone(runtime))),
        client: http_client()?,
        store_client: store_client().user_agent("tidegate").build()?,
        clock: (*clock).clone(),
    };
    let lyrics = LyricsService::start(parts, services, metrics.registry())?;
    Ok(vec![
        limit_routes(routes(lyrics.clone()), limiters, RateLimitClass::STANDARD),
        limit_routes(admin_routes(lyrics), limiters, RateLimitClass::STRICT),
    ])
}

/// Tracks as they are streamed at `/api/v1/tracks/{id}/stream`: whoever may do that may read their lyrics.
struct StreamedTracks(Arc<ArcSwap<Runtime>>);

#[async_trait]
impl TrackResolver for StreamedTracks {
    async fn resolve(&self, id: &TrackId, request_head: &Parts, user: &User) -> Result<LyricsTrack, Error> {
        let runtime = self.0.load_full();
        let path = format!("/api/v1/tracks/{}/stream", utf8_percent_encode(id.as_str(), UNRESERVED));
        let inquiry = StreamInquiry { path: &path, request_head, claims: &user.claims, query_store: false };
        let object = find_stream_object(&runtime, &inquiry)
            .await
            .map_err(|refused| Error::new(refused.code, refused.detail).with_retry_after(refused.retry_after))?;
        let (origin, track) = (&object.origin, object.track());
        Ok(LyricsTrack {
            id: id.clone(),
            bucket: TrackBucket { signer: Arc::clone(&origin.signer), name: Arc::clone(&origin.bucket) },
            key: object.key().to_owned(),
            owner: track.and_then(|track| track.owner.clone()),
            created_at: track.map(|track| track.created_at),
            updated_at: track.map(|track| track.updated_at),
        })
    }
}
