//! Catalog: the meaning of a track id (store, bucket, key, type, size, owner, and whether it was deleted) and the right
//! to have a track. Shared by the engine, which asks on every request, and the API, which changes it.
//!
//! Owns the tracks and grants of the database, and the short-lived caches of both. Knows neither routes nor statuses:
//! the caller turns [`TrackLookupError`] and [`access::AccessDecision`] into responses.

pub mod access;
pub mod api;
mod authorization_service;
mod grants;
mod metrics;
pub mod settings;
#[cfg(test)]
mod tests;
mod track_name;
mod tracks;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

pub use authorization_service::AuthorizationService;
pub use grants::{Grant, GrantStore};
pub use metrics::CatalogMetrics;
pub use track_name::TrackName;
pub use tracks::{AddOutcome, ImportSummary, LibraryQuery, NewTrack};

use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::{self, TrackId};
use primitives::loading_cache::LoadingCache;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use tracks::TrackTable;

/// Memory for cached tracks, in bytes.
const CACHE_BYTES: usize = 32 << 20;
/// Time for which another node may still serve what was changed here.
const CACHE_TTL: Duration = Duration::from_millis(500);
/// Timeout of a database query for a player.
const PLAYER_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of a user's search, which reads many rows.
const LIBRARY_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of a database query for the API.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Track in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Track id.
    pub id: Arc<str>,
    /// The store's name in the YAML.
    pub store: Arc<str>,
    /// The bucket.
    pub bucket: Arc<str>,
    /// The object's key.
    pub key: Arc<str>,
    /// The media type, where it is known.
    pub content_type: Option<HeaderValue>,
    /// The size in bytes, where it is known.
    pub size: Option<u64>,
    /// Owner.
    pub owner: Option<Arc<str>>,
    /// Time of deletion.
    pub deleted_at: Option<UnixMillis>,
    /// Time of addition.
    pub created_at: UnixMillis,
    /// Time of the last change.
    pub updated_at: UnixMillis,
}

/// Reason for which no track is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackLookupError {
    /// There is no such track.
    #[error("no such track")]
    Unknown,
    /// It was deleted.
    #[error("the track was deleted")]
    Deleted,
    /// The database does not answer, and nothing is cached.
    #[error("the catalogue cannot be asked")]
    Unavailable,
}

/// The database failed or did not answer in time; the cause is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer")]
pub struct DatabaseUnavailable;

/// Catalog of tracks with its cache.
pub struct Catalog {
    tracks: TrackTable,
    cache: LoadingCache<Option<Arc<Track>>>,
    metrics: Option<CatalogMetrics>,
    failures: Arc<FailureLog>,
}

impl Catalog {
    /// Creates the catalog over `database`; lookups are counted in `numbers`.
    pub fn new(database: Database, numbers: Option<CatalogMetrics>) -> Self {
        Self::with_cache_ttl(database, numbers, CACHE_TTL)
    }

    fn with_cache_ttl(database: Database, numbers: Option<CatalogMetrics>, fresh: Duration) -> Self {
        let (tracks, remembered) =
            (TrackTable::new(database), LoadingCache::new(CACHE_BYTES, fresh, true, cached_weight));
        Self { tracks, cache: remembered, metrics: numbers, failures: Arc::default() }
    }

    /// Returns the stores and buckets of the first 10,000 tracks.
    pub async fn buckets(&self) -> Result<Vec<(String, String)>, DatabaseUnavailable> {
        with_admin_timeout(&self.failures, self.tracks.buckets()).await
    }

    /// Returns the track `id` for a player, from the cache for a moment, and for as long as the database does not
    /// answer.
    pub async fn find(&self, id: &str) -> Result<Arc<Track>, TrackLookupError> {
        // The text comes from a path and may be anything: no text that cannot be an id was ever added.
        if !ids::is_id(id) {
            return Err(TrackLookupError::Unknown);
        }
        let ask = || {
            let (tracks, id) = (self.tracks.clone(), id.to_owned());
            let (numbers, failures) = (self.metrics.clone(), Arc::clone(&self.failures));
            async move {
                let found = with_timeout(PLAYER_TIMEOUT, &failures, tracks.find(&id)).await.ok();
                numbers.inspect(|numbers| numbers.record_lookup("track", found.is_some()));
                found.map(|track| track.map(Arc::new))
            }
        };
        match self.cache.get(id, ask).await {
            None => Err(TrackLookupError::Unavailable),
            Some(None) => Err(TrackLookupError::Unknown),
            Some(Some(track)) if track.deleted_at.is_some() => Err(TrackLookupError::Deleted),
            Some(Some(track)) => Ok(track),
        }
    }

    /// Returns the track `id` as it is in the database now, a deleted one too.
    pub async fn read(&self, id: &TrackId) -> Result<Option<Track>, DatabaseUnavailable> {
        with_admin_timeout(&self.failures, self.tracks.find(id.as_str())).await
    }

    /// Adds a track at `now`.
    pub async fn add(&self, track: &NewTrack, now: UnixMillis) -> Result<AddOutcome, DatabaseUnavailable> {
        let added = with_admin_timeout(&self.failures, self.tracks.add(track, now)).await;
        self.cache.invalidate(track.id.as_str());
        added
    }

    /// Adds or updates tracks, all or none of them; deleted ones stay deleted.
    pub async fn import(&self, tracks: &[NewTrack], now: UnixMillis) -> Result<ImportSummary, DatabaseUnavailable> {
        let imported = self.tracks.import(tracks, now).await;
        self.cache.clear();
        imported.map_err(|error| log_failure(&self.failures, &error))
    }

    /// Lists at most `limit` tracks after the id `after`, ordered by id.
    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<Track>, DatabaseUnavailable> {
        with_admin_timeout(&self.failures, self.tracks.list(after, limit)).await
    }

    /// Returns the tracks of a user that a query finds, ordered by key.
    pub async fn search(&self, query: &LibraryQuery) -> Result<Vec<Track>, DatabaseUnavailable> {
        with_timeout(LIBRARY_TIMEOUT, &self.failures, self.tracks.search(query)).await
    }

    /// Marks a track as deleted at `now`; `None` if there is no such track.
    pub async fn delete(&self, id: &TrackId, now: UnixMillis) -> Result<Option<Track>, DatabaseUnavailable> {
        let deleted = with_admin_timeout(&self.failures, self.tracks.delete(id, now)).await;
        self.cache.invalidate(id.as_str());
        deleted
    }
}

/// Returns the bytes that a cached track occupies.
fn cached_weight(track: &Option<Arc<Track>>) -> usize {
    track.as_ref().map_or(0, |track| {
        let texts = [Some(&track.id), Some(&track.store), Some(&track.bucket), Some(&track.key), track.owner.as_ref()];
        size_of::<Track>() + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
    })
}

/// Runs an operator's query within the API's timeout; an operator is told when it takes too long.
async fn with_admin_timeout<T>(
    failures: &FailureLog,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseUnavailable> {
    with_timeout(ADMIN_TIMEOUT, failures, asked).await
}

/// Runs a query within `budget`; its error or timeout is logged.
async fn with_timeout<T>(
    budget: Duration,
    failures: &FailureLog,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseUnavailable> {
    let answer = tokio::time::timeout(budget, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    answer.map_err(|error| log_failure(failures, &error))
}

fn log_failure(failures: &FailureLog, error: &sqlx::Error) -> DatabaseUnavailable {
    let words = match error {
        sqlx::Error::PoolTimedOut => "no answer in time".to_owned(),
        error => line(&chain(error)).to_owned(),
    };
    if failures.is_news(&words, monotonic_now()) {
        tracing::warn!(error = words, "the catalogue's database failed");
    }
    DatabaseUnavailable
}
