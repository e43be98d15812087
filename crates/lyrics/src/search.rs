//! Search by artist and song, in the services outside. What one user's search has found is what everybody's would: it is kept by
//! its words, and never as the lyrics of a track.

use std::sync::Arc;

use crate::Error;
use crate::metrics::{RequestOutcome, SourceOutcome};
use crate::service::{BODY_VERSION, LyricsService, LyricsState, RETRY_TIME};
use crate::sources::{LyricsSource, SourceFailure, genius, lrclib};
use crate::store::{CacheKey, CacheKind, CacheRow};
use crate::track_lyrics::{SongQuery, TrackLyrics};
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;

/// Most results.
const MAX_RESULTS: usize = 5;

/// Results of a search.
#[derive(Clone)]
pub struct SearchAnswer {
    /// The results, best first.
    pub results: Arc<[TrackLyrics]>,
    /// Time of the answer.
    pub cached_at: UnixMillis,
    /// Time from which the services are asked again.
    pub expires_at: UnixMillis,
    /// True beyond its time.
    pub is_stale: bool,
    outcome: RequestOutcome,
}

impl SearchAnswer {
    /// Returns about the bytes that the results occupy.
    pub fn size(&self) -> usize {
        self.results.iter().map(TrackLyrics::size).sum()
    }
}

impl LyricsService {
    /// Searches for a song, for `user`.
    pub async fn search(&self, query: &SongQuery, user: &UserId) -> Result<SearchAnswer, Error> {
        let answer = self.find_song(query, user).await;
        let outcome = answer.as_ref().map_or(RequestOutcome::Unavailable, |answer| answer.outcome);
        self.0.metrics.count_request(outcome);
        answer
    }

    async fn find_song(&self, query: &SongQuery, user: &UserId) -> Result<SearchAnswer, Error> {
        let state = &self.0;
        let subject = serde_json::json!([query.artist.to_lowercase(), query.title.to_lowercase()]).to_string();
        let version = state.search_version();
        let key = CacheKey { kind: CacheKind::Search, subject: &subject, version: &version };
        let known = state.store.get(key).await?;
        if let Some(row) = known.as_ref().filter(|row| state.clock.unix_millis() < row.expires_at) {
            return state.search_answer(row, RequestOutcome::Cached).ok_or(Error::SourcesUnavailable);
        }
        if state.failures.is_recent(&subject) {
            return state.stale_search(known).ok_or(Error::SourcesUnavailable);
        }
        let Some(_share) = state.share(user).await else { return state.stale_search(known).ok_or(Error::Busy) };
        let (state, query, asked) = (Arc::clone(&self.0), query.clone(), subject.clone());
        let answer = self.0.searches.get(&subject, || async move { state.search(&query, &asked).await }).await;
        answer.ok_or(Error::SourcesUnavailable)
    }
}

impl LyricsState {
    fn search_version(&self) -> String {
        format!("{BODY_VERSION} {}", self.sources())
    }

    /// Returns what is kept beyond its time, if it has results.
    fn stale_search(&self, known: Option<CacheRow>) -> Option<SearchAnswer> {
        let row = known.filter(|row| row.body.is_some())?;
        let expires_at = self.clock.unix_millis() + RETRY_TIME;
        self.search_answer(&CacheRow { expires_at, ..row }, RequestOutcome::Stale)
    }

    async fn search(&self, query: &SongQuery, subject: &str) -> Option<SearchAnswer> {
        let version = self.search_version();
        let key = CacheKey { kind: CacheKind::Search, subject, version: &version };
        // Somebody else may have asked since.
        let known = self.store.get(key).await.ok()?;
        let now = self.clock.unix_millis();
        if let Some(row) = known.as_ref().filter(|row| now < row.expires_at) {
            return self.search_answer(row, RequestOutcome::Cached);
        }
        let (results, failure) = self.ask_services(query).await;
        let (now, failed) = (self.clock.unix_millis(), failure.is_some());
        if results.is_empty() && failure == Some(SourceFailure::Unavailable) {
            self.failures.record(subject);
        } else {
            self.failures.forget(subject);
        }
        if failed && (known.is_some() || results.is_empty()) {
            let expires_at = now + RETRY_TIME;
            // If it fails the services are asked again at once.
            let _ = self.store.postpone(key, expires_at).await;
            return self.search_answer(&CacheRow { expires_at, ..known? }, RequestOutcome::Stale);
        }
        let life = match (results.is_empty(), failed) {
            (_, true) => RETRY_TIME,
            (true, false) => self.settings.miss_cache_for,
            (false, false) => self.settings.cache_for,
        };
        let body = (!results.is_empty()).then(|| serde_json::to_string(&results).ok()).flatten();
        let row = CacheRow { body, cached_at: now, expires_at: now + life };
        // If it fails the services are asked again the next time.
        let _ = self.store.put(key, &row).await;
        let outcome = if results.is_empty() { RequestOutcome::Missing } else { RequestOutcome::Fetched };
        let (results, expires_at) = (results.into(), row.expires_at);
        Some(SearchAnswer { results, cached_at: now, expires_at, is_stale: false, outcome })
    }

    /// Returns the results of all services, and the failure of one.
    async fn ask_services(&self, query: &SongQuery) -> (Vec<TrackLyrics>, Option<SourceFailure>) {
        let (mut results, mut failure) = (Vec::new(), None);
        for source in &self.settings.sources {
            let found = match (source, &self.lrclib, &self.genius) {
                (LyricsSource::Lrclib, Some(service), _) => lrclib::search(service, query).await,
                (LyricsSource::Genius, _, Some(service)) => genius::search(service, query).await,
                _ => continue,
            };
            let outcome = match found {
                Ok(found) if found.is_empty() => SourceOutcome::Missing,
                Ok(found) => {
                    results.extend(found);
                    SourceOutcome::Found
                }
                Err(failed) => {
                    // One that was asked and has failed is worse than one that was not asked.
                    failure = failure.filter(|known| *known == SourceFailure::Unavailable).or(Some(failed));
                    SourceOutcome::Failed
                }
            };
            self.metrics.count_source(*source, outcome);
        }
        results.truncate(MAX_RESULTS);
        (results, failure)
    }

    fn search_answer(&self, row: &CacheRow, outcome: RequestOutcome) -> Option<SearchAnswer> {
        let results: Vec<TrackLyrics> = row.body.as_deref().map_or(Ok(Vec::new()), serde_json::from_str).ok()?;
        let life = if row.body.is_some() { self.settings.cache_for } else { self.settings.miss_cache_for };
        let is_stale = self.clock.unix_millis() >= row.cached_at + life;
        let outcome = match (results.is_empty(), is_stale) {
            (true, _) => RequestOutcome::Missing,
            (false, true) => RequestOutcome::Stale,
            (false, false) => outcome,
        };
        let (cached_at, expires_at) = (row.cached_at, row.expires_at);
        Some(SearchAnswer { results: results.into(), cached_at, expires_at, is_stale, outcome })
    }
}
