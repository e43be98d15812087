//! Recognition, where it is switched on: its service over the database, the catalogue's tracks as the proxy would stream them,
//! and its paths; and the tracks' objects for `tidegate index`, which runs beside no proxy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use sha2::{Digest, Sha256};
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::ModuleDependencies;
use super::stores::{OpenStores, store_client};
use super::streamed_tracks::StreamedTracks;
use crate::config::Settings;
use crate::proxy::runtime::Runtime;
use ::recognition::{
    RecognitionService, RecognitionServiceParts, RecognizedTrack, TrackDirectory, history_routes, routes,
};
use catalog::{Track, TrackName};
use http_semantics::media_type;
use lyrics::sources::object_reader::{ByteRange, ObjectReader, TrackBucket};
use primitives::clock::Clock;
use primitives::hexadecimal::hexadecimal;
use primitives::ids::TrackId;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::api::user::User;
use track_audio::object::{TrackObject, TrackObjectError};

/// Time limit of one range of an object.
const RANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts recognition; returns its paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    runtime: &Arc<ArcSwap<Runtime>>,
) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, metrics, limiters, .. } = dependencies;
    // The settings name both where there is recognition.
    let (Some(settings), Some(database)) = (&all.recognition, &storage.database) else { return Ok(Vec::new()) };
    let parts = RecognitionServiceParts {
        settings: settings.clone(),
        database: database.clone(),
        tracks: Arc::new(StreamedTracks(Arc::clone(runtime))),
        clock: (*clock).clone(),
    };
    let service = RecognitionService::start(parts, metrics.registry())?;
    Ok(vec![
        limit_routes(routes(service.clone()), limiters, RateLimitClass::RECOGNITION),
        limit_routes(history_routes(service), limiters, RateLimitClass::STANDARD),
    ])
}

/// Returns the version of a track's object, by which an index tells what it has from what is there.
pub fn object_version(track: &Track) -> String {
    let Track { store, bucket, key, updated_at, .. } = track;
    let object = serde_json::json!([**store, **bucket, **key, updated_at.as_millis()]).to_string();
    hexadecimal(&Sha256::digest(object)[..8])
}

/// Only who may stream a track is told its names.
impl TrackDirectory for StreamedTracks {
    fn describe<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        request_head: &'a Parts,
        user: &'a User,
    ) -> BoxFuture<'a, Result<Option<RecognizedTrack>, Error>> {
        Box::pin(async move {
            let Some(id) = TrackId::parse(id) else { return Ok(None) };
            let object = match self.find_object(&id, request_head, user).await {
                Ok(object) => object,
                Err(error) if matches!(error.status().as_u16(), 401 | 403 | 404 | 410) => return Ok(None),
                Err(error) => return Err(error),
            };
            // Since it was indexed the entry may have become that of another object.
            let is_same = object.track().is_some_and(|track| object_version(track) == version);
            let TrackName { title, artist, .. } = TrackName::of_key(object.key());
            Ok(is_same.then_some(RecognizedTrack { title, artist }))
        })
    }
}

/// The catalogue's objects, for a program that runs beside no proxy.
pub struct CatalogObjects {
    reader: ObjectReader,
    stores: HashMap<String, TrackBucket>,
}

impl CatalogObjects {
    /// Opens the object stores of `settings`; embedded ones are served by `tasks` meanwhile.
    pub async fn open(settings: &Settings, clock: &Clock, tasks: &BackgroundTasks) -> Result<Self, StartError> {
        let open = OpenStores::new(clock.clone(), tasks.clone());
        let mut stores = HashMap::new();
        for store in &settings.stores {
            stores.insert(store.name.to_string(), TrackBucket { signer: open.signer(store)?, name: "".into() });
        }
        open.ready().await;
        let client = store_client().user_agent("tidegate").build()?;
        Ok(Self { reader: ObjectReader::new(client, RANGE_TIMEOUT), stores })
    }

    /// Opens the object of a track; `None` where it is not there, or is empty.
    pub async fn object(&self, track: &Track) -> Result<Option<Arc<dyn TrackObject>>, TrackObjectError> {
        let store = self.stores.get(&*track.store);
        let store = store.ok_or_else(|| TrackObjectError(format!("ObjectStores has no `{}`", track.store)))?;
        let bucket = TrackBucket { signer: Arc::clone(&store.signer), name: Arc::clone(&track.bucket) };
        let head = self.reader.read_range(&bucket, &track.key, &ByteRange::Head(1), None).await;
        let Some(head) = head.map_err(unanswered)? else { return Ok(None) };
        let (reader, key) = (self.reader.clone(), Arc::clone(&track.key));
        Ok(Some(Arc::new(StoredObject { reader, bucket, key, size: head.size, etag: head.etag })))
    }
}

/// Object of a track in its store.
struct StoredObject {
    reader: ObjectReader,
    bucket: TrackBucket,
    key: Arc<str>,
    size: u64,
    etag: Option<String>,
}

impl TrackObject for StoredObject {
    fn size(&self) -> u64 {
        self.size
    }

    fn extension(&self) -> Option<&str> {
        media_type::key_extension(&self.key)
    }

    fn read(&self, offset: u64, length: u64) -> BoxFuture<'_, Result<Bytes, TrackObjectError>> {
        Box::pin(async move {
            let range = ByteRange::Span(offset, offset.saturating_add(length));
            let etag = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
            let part = self.reader.read_range(&self.bucket, &self.key, &range, etag).await.map_err(unanswered)?;
            part.map(|part| part.bytes).ok_or_else(|| TrackObjectError("it has changed while it was read".to_owned()))
        })
    }
}

fn unanswered(_: lyrics::sources::SourceFailure) -> TrackObjectError {
    TrackObjectError("the store does not answer".to_owned())
}
