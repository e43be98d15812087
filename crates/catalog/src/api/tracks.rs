//! Paths of tracks, `/api/v1/admin/tracks`: add, list, read, delete.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::AddOutcome;
use crate::Catalog;
use crate::DatabaseUnavailable;
use crate::GrantStore;
use crate::NewTrack;
use crate::Track;
use primitives::clock::Clock;
use primitives::unix_time::UnixMillis;
use s3;
use server_kit::api::cache_admin::{CacheOperations, PurgeTarget};
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Query};
use server_kit::api::id::{self, PathTrackId};
use server_kit::api::pagination::{self, Page, PageLimits};
use server_kit::api::timestamps::to_rfc3339;
use server_kit::api::user::AdminUser;

/// Longest object key of S3, in bytes.
const MAX_KEY_BYTES: usize = 1024;
/// Page sizes of the operators' lists.
pub(super) const PAGE_LIMITS: PageLimits = PageLimits { default_limit: 100, max_limit: 1000 };

/// State of the operators' paths.
pub struct CatalogAdminState {
    /// The tracks.
    pub catalog: Arc<Catalog>,
    /// The grants.
    pub grants: GrantStore,
    /// The configuration in force.
    pub configuration: Arc<dyn CatalogConfiguration>,
    /// The cache of objects, if there is one.
    pub cache: Option<Arc<dyn CacheOperations>>,
    /// Clock of the timestamps.
    pub clock: Clock,
}

/// The configuration in force, which a reload may change, as the operators' paths need it.
pub trait CatalogConfiguration: Send + Sync {
    /// Returns the names of the stores in which tracks may lie.
    fn stores(&self) -> Vec<Arc<str>>;

    /// Forgets cached access decisions, after a grant has changed.
    fn forget_access_decisions(&self);
}

impl CatalogAdminState {
    /// Returns the time now.
    pub fn now(&self) -> UnixMillis {
        self.clock.unix_millis()
    }
}

/// Returns the error for a database that does not answer.
pub fn database_unavailable(_: DatabaseUnavailable) -> Error {
    Error::unavailable("the catalogue cannot be reached at the moment")
}

/// Track to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"id": "01HQ8ZK3", "store": "minio", "bucket": "audio", "key": "tracks/01HQ8ZK3.mp3", "contentType": "audio/mpeg", "ownerId": "alice"}))]
pub struct TrackToAdd {
    /// Track id, at most 256 bytes.
    id: String,
    /// A name in `ObjectStores`.
    store: String,
    /// The bucket.
    bucket: String,
    /// The object's key.
    key: String,
    /// Media type. Default: the store's.
    content_type: Option<String>,
    /// Size in bytes. Default: the store is asked.
    size_bytes: Option<u64>,
    /// Owner, who may always have the track.
    owner_id: Option<String>,
}

/// Track in the catalog.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrackEntry {
    /// Track id.
    id: String,
    /// A name in `ObjectStores`.
    store: String,
    /// The bucket.
    bucket: String,
    /// The object's key.
    key: String,
    /// The media type.
    content_type: Option<String>,
    /// The size in bytes.
    size_bytes: Option<u64>,
    /// Owner.
    owner_id: Option<String>,
    /// Time of deletion (RFC 3339).
    deleted_at: Option<String>,
    /// Time of addition (RFC 3339).
    created_at: String,
    /// Time of the last change (RFC 3339).
    updated_at: String,
}

/// Page of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrackListQuery {
    /// Tracks per page, 1 to 1000. Default: 100.
    limit: Option<u32>,
    /// `nextCursor` of the previous page.
    cursor: Option<String>,
}

impl From<Track> for TrackEntry {
    fn from(track: Track) -> Self {
        let content_type = track.content_type.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            id: track.id.to_string(),
            store: track.store.to_string(),
            bucket: track.bucket.to_string(),
            key: track.key.to_string(),
            content_type,
            size_bytes: track.size,
            owner_id: track.owner.as_deref().map(str::to_owned),
            deleted_at: track.deleted_at.map(to_rfc3339),
            created_at: to_rfc3339(track.created_at),
            updated_at: to_rfc3339(track.updated_at),
        }
    }
}

impl TrackToAdd {
    fn checked(self, stores: &[Arc<str>]) -> Result<NewTrack, Error> {
        let id = id::parse_track("id", &self.id)?;
        let owner = self.owner_id.as_deref().map(|owner| id::parse_user("ownerId", owner)).transpose()?;
        let wrong = |what: &'static str| Err(Error::unprocessable(what));
        if !stores.iter().any(|store| **store == *self.store) {
            return wrong("`store` must be a name in ObjectStores");
        }
        if !s3::is_bucket_name(&self.bucket) {
            return wrong("`bucket` must have 3 to 63 of a-z, 0-9, `-` and `.`");
        }
        // Dot segments are resolved away in a URL, so the request would be for another key.
        let dots = self.key.split('/').any(|segment| matches!(segment, "." | ".."));
        if dots || !(1..=MAX_KEY_BYTES).contains(&self.key.len()) || self.key.contains(['\0', '\r', '\n']) {
            return wrong("`key` must have 1 to 1024 bytes, no line ends, and no `.` or `..` between slashes");
        }
        let is_type = |text: &str| text.len() <= 255 && text.contains('/') && HeaderValue::from_str(text).is_ok();
        if self.content_type.as_deref().is_some_and(|text| !is_type(text)) {
            return wrong("`contentType` must be a media type such as audio/mpeg");
        }
        // The column is a signed 64-bit integer.
        if self.size_bytes.is_some_and(|size| i64::try_from(size).is_err()) {
            return wrong("`sizeBytes` is too large");
        }
        let Self { store, bucket, key, content_type, size_bytes: size, .. } = self;
        Ok(NewTrack { id, store, bucket, key, content_type, size, owner })
    }
}

/// Adds a track, also in place of a deleted one. Repeating the request with the same content changes nothing.
#[utoipa::path(post, path = "/api/v1/admin/tracks", tag = "catalogue", security(("bearer" = [])), request_body = TrackToAdd, responses(
    (status = 201, description = "It is new", body = TrackEntry), (status = 200, description = "It was there, just so", body = TrackEntry),
    (status = 400, description = "Not JSON of this form"), (status = 401, description = "No valid token"),
    (status = 403, description = "The token's role is not admin"), (status = 409, description = "Another track has the id"),
    (status = 422, description = "A value is out of range"), (status = 503, description = "The database is away")))]
pub async fn add(
    _: AdminUser,
    State(state): State<Arc<CatalogAdminState>>,
    Json(new): Json<TrackToAdd>,
) -> Result<Response, Error> {
    let new = new.checked(&state.configuration.stores())?;
    match state.catalog.add(&new, state.now()).await.map_err(database_unavailable)? {
        AddOutcome::New(track) => Ok((StatusCode::CREATED, Json(TrackEntry::from(track))).into_response()),
        AddOutcome::Same(track) => Ok(Json(TrackEntry::from(track)).into_response()),
        AddOutcome::Conflict => Err(Error::conflict("another track has this id")),
    }
}

/// Lists the tracks, deleted ones too, in pages.
#[utoipa::path(get, path = "/api/v1/admin/tracks", tag = "catalogue", security(("bearer" = [])), params(TrackListQuery), responses(
    (status = 200, description = "A page of tracks", body = Page<TrackEntry>), (status = 400, description = "The cursor is none of ours"),
    (status = 401, description = "No valid token"), (status = 403, description = "The token's role is not admin"),
    (status = 422, description = "The limit is out of range"), (status = 503, description = "The database is away")))]
pub async fn list(
    _: AdminUser,
    State(state): State<Arc<CatalogAdminState>>,
    Query(which): Query<TrackListQuery>,
) -> Result<Json<Page<TrackEntry>>, Error> {
    let (limit, behind) = (
        PAGE_LIMITS.limit(which.limit)?,
        pagination::decode_cursor(which.cursor.as_deref(), Some)?.unwrap_or_default(),
    );
    // One more than the page tells whether there is a next page.
    let tracks = state.catalog.list(&behind, u32::from(limit) + 1).await.map_err(database_unavailable)?;
    Ok(Json(Page::from_lookahead(tracks, limit, |last| last.id.to_string()).map(TrackEntry::from)))
}

/// Returns one track, a deleted one too.
#[utoipa::path(get, path = "/api/v1/admin/tracks/{id}", tag = "catalogue", security(("bearer" = [])), params(("id" = String, Path, description = "The track")), responses(
    (status = 200, description = "The track", body = TrackEntry), (status = 400, description = "The id cannot be one"), (status = 401, description = "No valid token"),
    (status = 403, description = "The token's role is not admin"), (status = 404, description = "There never was one"),
    (status = 503, description = "The database is away")))]
pub async fn read(
    _: AdminUser,
    State(state): State<Arc<CatalogAdminState>>,
    PathTrackId(id): PathTrackId,
) -> Result<Json<TrackEntry>, Error> {
    let track = state.catalog.read(&id).await.map_err(database_unavailable)?;
    track.map(|track| Json(track.into())).ok_or_else(no_track)
}

/// Deletes a track: from now on it is 410, and nothing of it is served from the cache.
#[utoipa::path(delete, path = "/api/v1/admin/tracks/{id}", tag = "catalogue", security(("bearer" = [])), params(("id" = String, Path, description = "The track")), responses(
    (status = 204, description = "It is deleted"), (status = 400, description = "The id cannot be one"), (status = 401, description = "No valid token"),
    (status = 403, description = "The token's role is not admin"), (status = 404, description = "There never was one"),
    (status = 503, description = "The database is away")))]
pub async fn delete(
    _: AdminUser,
    State(state): State<Arc<CatalogAdminState>>,
    PathTrackId(id): PathTrackId,
) -> Result<StatusCode, Error> {
    let deleted = state.catalog.delete(&id, state.now()).await.map_err(database_unavailable)?;
    let track = deleted.ok_or_else(no_track)?;
    if let Some(cache) = &state.cache
        // The track is deleted in any case: a failed purge is logged, and the request still succeeds.
        && let Err(error) = cache.purge(PurgeTarget::Key(track.key.to_string()))
    {
        tracing::error!(%error, "a purge could not be written: a restart would forget it");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The answer where there is no such track.
pub fn no_track() -> Error {
    Error::not_found("there is no such track")
}
