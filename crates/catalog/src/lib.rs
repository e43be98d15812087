//! What a track id means: store, key, type, size, owner, and whether it was deleted; and who may have it. Shared by the
//! engine, which asks on every request, and the API, which changes it.
//!
//! Owns the tracks and grants of the database, and what is remembered of them for a moment. Knows neither routes nor
//! statuses: the caller turns [`TrackLookupError`] and [`access::AccessDecision`] into answers.

pub mod access;
pub mod api;
mod authorization_service;
mod grants;
mod metrics;
pub mod settings;
#[cfg(test)]
mod tests;
mod tracks;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

pub use authorization_service::AuthorizationService;
pub use grants::{Grant, GrantStore};
pub use metrics::CatalogMetrics;
pub use tracks::{AddOutcome, ImportSummary, NewTrack};

use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::{self, TrackId};
use primitives::loading_cache::LoadingCache;
use server_kit::database::Database;
use tracks::TrackTable;

/// Bytes of tracks that are remembered.
const CACHE_BYTES: usize = 32 << 20;
/// How long another node may go on with what was changed elsewhere.
const CACHE_TTL: Duration = Duration::from_millis(500);
/// For a question to the database on a player's way.
const PLAYER_TIMEOUT: Duration = Duration::from_millis(500);
/// For those of the API.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A track as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its id.
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
    /// Whose it is.
    pub owner: Option<Arc<str>>,
    /// When it was deleted, in milliseconds since the Unix epoch.
    pub deleted_at: Option<i64>,
    /// When it was added.
    pub created_at: i64,
    /// When it was changed last.
    pub updated_at: i64,
}

/// Why there is no track to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackLookupError {
    /// There never was one.
    #[error("no such track")]
    Unknown,
    /// It was deleted.
    #[error("the track was deleted")]
    Deleted,
    /// The database does not answer, and nothing is remembered.
    #[error("the catalogue cannot be asked")]
    Unavailable,
}

/// The database does not do what it is asked; the cause is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer")]
pub struct DatabaseUnavailable;

/// The catalogue.
pub struct Catalog {
    tracks: TrackTable,
    cache: LoadingCache<Option<Arc<Track>>>,
    metrics: Option<CatalogMetrics>,
    failures: Arc<FailureLog>,
}

impl Catalog {
    /// The catalogue in `database`, counted in `numbers`.
    pub fn new(database: Database, numbers: Option<CatalogMetrics>) -> Self {
        Self::with_cache_ttl(database, numbers, CACHE_TTL)
    }

    fn with_cache_ttl(database: Database, numbers: Option<CatalogMetrics>, fresh: Duration) -> Self {
        let (tracks, remembered) =
            (TrackTable::new(database), LoadingCache::new(CACHE_BYTES, fresh, true, cached_weight));
        Self { tracks, cache: remembered, metrics: numbers, failures: Arc::default() }
    }

    /// The stores and buckets that the first ten thousand tracks lie in.
    pub async fn buckets(&self) -> Result<Vec<(String, String)>, DatabaseUnavailable> {
        with_admin_timeout(&self.failures, self.tracks.buckets()).await
    }

    /// The track `id` for a player: remembered for a moment, and for as long as the database is away.
    pub async fn find(&self, id: &str) -> Result<Arc<Track>, TrackLookupError> {
        // Of a path, which any text may be: what cannot be an id was never added.
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

    /// The track `id` as the database has it now, a deleted one too.
    pub async fn read(&self, id: &TrackId) -> Result<Option<Track>, DatabaseUnavailable> {
        with_admin_timeout(&self.failures, self.tracks.find(id.as_str())).await
    }

    /// Adds a track at `now`, in milliseconds since the Unix epoch.
    pub async fn add(&self, track: &NewTrack, now: i64) -> Result<AddOutcome, DatabaseUnavailable> {
        let added = with_admin_timeout(&self.failures, self.tracks.add(track, now)).await;
        self.cache.invalidate(track.id.as_str());
        added
    }

    /// Adds tracks or brings them up to date, all or none of them.
    pub async fn import(&self, tracks: &[NewTrack], now: i64) -> Result<ImportSummary, DatabaseUnavailable> {
        let imported = self.tracks.import(tracks, now).await;
        self.cache.clear();
        imported.map_err(|error| log_failure(&self.failures, &error))
    }

    /// At most `limit` tracks behind the id `after`, by their ids.
    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<Track>, DatabaseUnavailable> {
        with_admin_timeout(&self.failures, self.tracks.list(after, limit)).await
    }

    /// Deletes a track: it stays known as deleted. `None` where there is none.
    pub async fn delete(&self, id: &TrackId, now: i64) -> Result<Option<Track>, DatabaseUnavailable> {
        let deleted = with_admin_timeout(&self.failures, self.tracks.delete(id, now)).await;
        self.cache.invalidate(id.as_str());
        deleted
    }
}

/// Bytes that a remembered track holds.
fn cached_weight(track: &Option<Arc<Track>>) -> usize {
    track.as_ref().map_or(0, |track| {
        let texts = [Some(&track.id), Some(&track.store), Some(&track.bucket), Some(&track.key), track.owner.as_ref()];
        size_of::<Track>() + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
    })
}

/// The database's answer to an operator, who is told when it takes too long.
async fn with_admin_timeout<T>(
    failures: &FailureLog,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseUnavailable> {
    with_timeout(ADMIN_TIMEOUT, failures, asked).await
}

/// The database's answer within `budget`; what it or the system says instead of one is told in the log.
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
