//! Service of recognition: a clip is decoded and searched for in threads of its own, and what is found is named to those who
//! may have it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use prometheus::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use crate::clip::{self, ClipFormat};
use crate::history::{HistoryEntry, HistoryStore, RecognitionSource, RecognizedMatch};
use crate::index::{Candidate, IndexFolder};
use crate::landmarks::{FRAME_SAMPLES, LandmarkExtractor, LandmarkPurpose, SOUND, WangExtractor};
use crate::metrics::{ClipOutcome, RecognitionMetrics};
use crate::settings::Settings;
use crate::{Error, TrackDirectory};
use primitives::blocking_calls::BlockingCalls;
use primitives::clock::{Clock, monotonic_now};
use primitives::failure_log::FailureLog;
use primitives::ids::UserId;
use server_kit::api::error::Error as ApiError;
use server_kit::api::user::User;
use server_kit::database::Database;
use server_kit::user_shares::UserShares;

/// Number of moments of a clip that must be found in a track.
pub const MIN_SCORE: u32 = 9;
/// Clips that are received and recognised at once: each may hold ten megabytes.
const MAX_CLIPS: usize = 16;
/// Of them, clips of one user.
const MAX_CLIPS_PER_USER: usize = 2;
/// Time for which a clip waits for room, and time limit of its search.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// What the service is made of.
pub struct RecognitionServiceParts {
    /// Its settings.
    pub settings: Settings,
    /// Database of the history.
    pub database: Database,
    /// Names tracks.
    pub tracks: Arc<dyn TrackDirectory>,
    /// Clock.
    pub clock: Clock,
}

/// Service of recognition. Clones share it.
#[derive(Clone)]
pub struct RecognitionService(Arc<ServiceState>);

struct ServiceState {
    settings: Settings,
    history: HistoryStore,
    tracks: Arc<dyn TrackDirectory>,
    index: Arc<IndexFolder>,
    index_failures: FailureLog,
    calls: BlockingCalls,
    room: Arc<Semaphore>,
    shares: UserShares,
    metrics: RecognitionMetrics,
    clock: Clock,
}

/// Room for a clip, which ends with this.
pub struct ClipPermit {
    _all: OwnedSemaphorePermit,
    _user: OwnedSemaphorePermit,
}

/// Outcome of a search.
struct SearchAnswer {
    candidates: Vec<Candidate>,
    took: Duration,
    tracks: usize,
}

impl RecognitionService {
    /// Creates the service.
    pub fn start(parts: RecognitionServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let RecognitionServiceParts { settings, database, tracks, clock } = parts;
        let extractor = WangExtractor::new(LandmarkPurpose::Index).name();
        Ok(Self(Arc::new(ServiceState {
            index: Arc::new(IndexFolder::new(settings.index.clone(), extractor)),
            index_failures: FailureLog::default(),
            calls: BlockingCalls::new(WAIT_LIMIT),
            room: Arc::new(Semaphore::new(MAX_CLIPS)),
            shares: UserShares::new(MAX_CLIPS_PER_USER),
            history: HistoryStore::new(database),
            metrics: RecognitionMetrics::register(registry)?,
            settings,
            tracks,
            clock,
        })))
    }

    /// Waits for room for a clip of `user`, before it is received.
    pub(crate) async fn admit(&self, user: &UserId) -> Result<ClipPermit, Error> {
        let permits = async {
            // The user's own first: whoever sends much waits without holding up others.
            let own = self.0.shares.acquire(user).await?;
            Some(ClipPermit { _all: Arc::clone(&self.0.room).acquire_owned().await.ok()?, _user: own })
        };
        let permit = timeout(WAIT_LIMIT, permits).await.ok().flatten();
        permit.ok_or_else(|| {
            self.0.metrics.count_clip(ClipOutcome::Unavailable);
            Error::Busy
        })
    }

    /// Recognises a clip; returns the entry, and whether it is kept in the history.
    pub(crate) async fn identify(
        &self,
        user: &User,
        request_head: &Parts,
        clip: Bytes,
    ) -> Result<(HistoryEntry, bool), ApiError> {
        let found = match self.search(clip).await {
            Ok(candidates) => self.name(candidates, request_head, user).await,
            Err(error) => Err(error.into()),
        };
        let outcome = match &found {
            Ok(Some(_)) => ClipOutcome::Matched,
            Ok(None) => ClipOutcome::Unmatched,
            Err(error) if error.status().is_client_error() => ClipOutcome::Refused,
            Err(_) => ClipOutcome::Unavailable,
        };
        self.0.metrics.count_clip(outcome);
        let (id, user, created_at) = (Uuid::now_v7(), user.id().clone(), self.0.clock.unix_millis());
        let entry = HistoryEntry { id, user, found: found?, created_at };
        // Whoever has sent a clip wants the answer, also while it cannot be kept.
        let kept = self.0.history.add(&entry, self.0.settings.max_history).await;
        Ok((entry, kept.is_ok()))
    }

    /// Returns the tracks that have the sound of a clip, the likeliest first.
    async fn search(&self, clip: Bytes) -> Result<Vec<Candidate>, Error> {
        let format = ClipFormat::of(&clip).ok_or(Error::Format)?;
        let (index, length) = (Arc::clone(&self.0.index), self.0.settings.clip_length);
        let search = move || {
            let began = monotonic_now();
            let landmarks = clip::landmarks(clip, format, length)?;
            let index = index.current().map_err(|error| IndexFailure::Unreadable(error.to_string()))?;
            let index = index.ok_or(IndexFailure::Missing)?;
            let found = index.find(&landmarks).map_err(|error| IndexFailure::Unreadable(error.to_string()))?;
            let candidates = found.into_iter().filter(|candidate| candidate.score >= MIN_SCORE).collect();
            Ok(SearchAnswer { candidates, took: monotonic_now() - began, tracks: index.tracks() })
        };
        match self.0.calls.run(search).await.map_err(|_| Error::Busy)? {
            Ok(answer) => {
                self.0.metrics.observe_search(answer.took, answer.tracks);
                if self.0.index_failures.is_over(monotonic_now()) {
                    tracing::info!("the index of recognition can be read again");
                }
                Ok(answer.candidates)
            }
            Err(SearchFailure::Clip(error)) => Err(Error::Clip(error)),
            Err(SearchFailure::Index(failure)) => {
                let reason = failure.to_string();
                if self.0.index_failures.is_news(&reason, monotonic_now()) {
                    tracing::warn!(error = reason, "clips cannot be recognised: run `tidegate index`");
                }
                Err(Error::NoIndex)
            }
        }
    }

    /// Returns the first candidate that the user may stream.
    async fn name(
        &self,
        candidates: Vec<Candidate>,
        request_head: &Parts,
        user: &User,
    ) -> Result<Option<RecognizedMatch>, ApiError> {
        for candidate in candidates {
            let Candidate { id, version, frame, score } = candidate;
            let Some(names) = self.0.tracks.describe(&id, &version, request_head, user).await? else { continue };
            let millis = u64::try_from(frame).unwrap_or_default() * FRAME_SAMPLES as u64 * 1000 / u64::from(SOUND.rate);
            return Ok(Some(RecognizedMatch {
                title: names.title,
                artist: names.artist,
                track: Some(id),
                confidence: confidence(score),
                offset: Duration::from_millis(millis),
                source: RecognitionSource::Catalogue,
            }));
        }
        Ok(None)
    }

    /// Lists at most `limit` entries of `of_user`, or of all, that are older than `before`.
    pub(crate) async fn list(
        &self,
        of_user: Option<&UserId>,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<HistoryEntry>, Error> {
        self.0.history.list(of_user, before, limit).await
    }

    /// Deletes an entry of the caller, or any for an administrator.
    pub(crate) async fn delete(&self, user: &User, id: Uuid) -> Result<(), Error> {
        let of_user = (!user.is_admin()).then(|| user.id());
        if self.0.history.delete(id, of_user).await? { Ok(()) } else { Err(Error::NoSuchEntry) }
    }
}

/// Returns the confidence of a score: 0.5 for one that is just enough, 0.75 for twice as many moments, and so on.
fn confidence(score: u32) -> f64 {
    1.0 - 0.5_f64.powf(f64::from(score) / f64::from(MIN_SCORE))
}

/// Failure of a search.
enum SearchFailure {
    /// The clip.
    Clip(clip::ClipError),
    /// The index.
    Index(IndexFailure),
}

/// Failure of the index.
#[derive(Debug, thiserror::Error)]
enum IndexFailure {
    /// There is none.
    #[error("nothing has been indexed")]
    Missing,
    /// It cannot be read.
    #[error("the index cannot be read: {0}")]
    Unreadable(String),
}

impl From<clip::ClipError> for SearchFailure {
    fn from(error: clip::ClipError) -> Self {
        Self::Clip(error)
    }
}

impl From<IndexFailure> for SearchFailure {
    fn from(failure: IndexFailure) -> Self {
        Self::Index(failure)
    }
}
