//! Lyrics of a track: what was set, else what is kept, else what the sources say.
//!
//! Sources are asked once however many wait. While one that comes before the others does not answer, what is kept is served
//! beyond its time, and the sources are asked again a minute later.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::edit_events::EditReporter;
use crate::metrics::{LyricsMetrics, RequestOutcome};
use crate::recent_failures::RecentFailures;
use crate::settings::Settings;
use crate::sources::object_reader::ObjectReader;
use crate::sources::remote::RemoteService;
use crate::sources::{LyricsSource, SourceFailure};
use crate::store::{CacheCounts, CacheKey, CacheKind, CacheRow, LyricsStore};
use crate::track_lyrics::TrackLyrics;
use crate::track_question::CollectedLyrics;
use crate::{Error, LyricsTrack, TrackResolver};
use events::EventPublisher;
use primitives::blocking_calls::BlockingCalls;
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::loading_cache::LoadingCache;
use primitives::unix_time::UnixMillis;
use prometheus::Registry;
use server_kit::api::user::User;
use server_kit::database::Database;
use server_kit::user_shares::UserShares;

/// Memory for questions that are under way and the last answers to them, in bytes.
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// Most files that are read at once: each may hold some megabytes.
const MAX_FILES: usize = 8;
/// Most tracks and searches of one user for which sources are asked at once.
pub(crate) const MAX_LOOKUPS_PER_USER: usize = 3;
/// Time limit of what is read of a store for one track and source, and of the wait for room to do so.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which sources are asked again of which one did not answer.
pub const RETRY_TIME: Duration = Duration::from_secs(60);
/// Version of the form in which answers are kept; another one is for rows that this program cannot read.
pub const BODY_VERSION: u32 = 1;
/// Interval between two looks for rows to drop.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Services that lyrics are started with.
pub struct LyricsServiceParts {
    /// The settings.
    pub settings: Settings,
    /// Keeps lyrics.
    pub database: Database,
    /// Finds tracks.
    pub tracks: Arc<dyn TrackResolver>,
    /// Asks stores and services; it must follow no redirects.
    pub client: reqwest::Client,
    /// Publisher of events, where there are any.
    pub events: Option<EventPublisher>,
    /// Client for object stores: never by a proxy, since a signed URL is a credential.
    pub store_client: reqwest::Client,
    /// The time.
    pub clock: Clock,
}

/// Service of lyrics. Clones share it.
#[derive(Clone)]
pub struct LyricsService(pub(crate) Arc<LyricsState>);

/// State of the service.
pub(crate) struct LyricsState {
    pub(crate) settings: Settings,
    pub(crate) store: LyricsStore,
    pub(crate) tracks: Arc<dyn TrackResolver>,
    pub(crate) reader: ObjectReader,
    /// Reads texts and tags, which others have made, in threads of their own.
    pub(crate) parser: Arc<BlockingCalls>,
    pub(crate) lrclib: Option<RemoteService>,
    pub(crate) genius: Option<RemoteService>,
    in_flight: LoadingCache<TrackAnswer>,
    pub(crate) searches: LoadingCache<crate::search::SearchAnswer>,
    pub(crate) files: Semaphore,
    shares: UserShares,
    pub(crate) failures: RecentFailures,
    pub(crate) metrics: LyricsMetrics,
    reporter: Option<EditReporter>,
    pub(crate) clock: Clock,
}

/// Lyrics of a track, or that there are none.
#[derive(Clone)]
pub struct TrackAnswer {
    /// The lyrics.
    pub lyrics: Option<Arc<TrackLyrics>>,
    /// Time of the answer.
    pub cached_at: UnixMillis,
    /// Time from which the sources are asked again; `None` for what was set.
    pub expires_at: Option<UnixMillis>,
    /// True beyond its time.
    pub is_stale: bool,
    /// Where it is from, for metrics.
    outcome: RequestOutcome,
}

impl TrackAnswer {
    fn size(&self) -> usize {
        self.lyrics.as_deref().map_or(0, TrackLyrics::size)
    }
}

impl LyricsService {
    /// Starts the service; rows are dropped by a task of `services`.
    pub fn start(
        parts: LyricsServiceParts,
        services: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let LyricsServiceParts { settings, database, tracks, client, events, store_client, clock } = parts;
        let topic = settings.events_topic.clone();
        let reporter = events.zip(topic).map(|(events, topic)| EditReporter::new(events, topic, clock.clone()));
        let parser = Arc::new(BlockingCalls::new(STORE_TIMEOUT));
        let remote = |source, service: &Option<_>| {
            let (client, parser, clock) = (client.clone(), Arc::clone(&parser), clock.clone());
            service.clone().map(|service| RemoteService::new(source, service, client, parser, clock))
        };
        let state = LyricsState {
            lrclib: remote(LyricsSource::Lrclib, &settings.lrclib),
            genius: remote(LyricsSource::Genius, &settings.genius),
            store: LyricsStore::new(database),
            tracks,
            reader: ObjectReader::new(store_client, STORE_TIMEOUT),
            // Answers are kept in the database; these only have concurrent questions asked once.
            in_flight: LoadingCache::new(IN_FLIGHT_BYTES, Duration::ZERO, false, TrackAnswer::size),
            searches: LoadingCache::new(IN_FLIGHT_BYTES, Duration::ZERO, false, crate::search::SearchAnswer::size),
            files: Semaphore::new(MAX_FILES),
            shares: UserShares::new(MAX_LOOKUPS_PER_USER),
            failures: RecentFailures::new(RETRY_TIME),
            parser,
            metrics: LyricsMetrics::register(registry)?,
            reporter,
            settings,
            clock: clock.clone(),
        };
        let service = Self(Arc::new(state));
        services.spawn(sweep(service.clone(), services.clone()));
        Ok(service)
    }

    /// Returns the lyrics of a track, for which `user` asks; with `refresh` the sources are asked whatever is kept.
    pub async fn lyrics(&self, track: &LyricsTrack, user: &UserId, refresh: bool) -> Result<TrackAnswer, Error> {
        let answer = self.find(track, user, refresh).await;
        let outcome = answer.as_ref().map_or(RequestOutcome::Unavailable, |answer| answer.outcome);
        self.0.metrics.count_request(outcome);
        answer
    }

    async fn find(&self, track: &LyricsTrack, user: &UserId, refresh: bool) -> Result<TrackAnswer, Error> {
        let (state, subject) = (&self.0, track.subject());
        if let Some((body, at)) = state.store.edit(&subject, track.created_at).await?
            && let Ok(lyrics) = serde_json::from_str(&body)
        {
            let (lyrics, outcome) = (Some(Arc::new(lyrics)), RequestOutcome::Edited);
            return Ok(TrackAnswer { lyrics, cached_at: at, expires_at: None, is_stale: false, outcome });
        }
        let version = state.version(track);
        let question = format!("{subject}\0{version}");
        let known = state.store.get(CacheKey { kind: CacheKind::Track, subject: &subject, version: &version }).await?;
        if !refresh {
            if let Some(row) = known.as_ref().filter(|row| state.clock.unix_millis() < row.expires_at) {
                return state.answer_of(row, RequestOutcome::Cached).ok_or(Error::SourcesUnavailable);
            }
            if state.failures.is_recent(&question) {
                return state.stale(known).ok_or(Error::SourcesUnavailable);
            }
        }
        let Some(_share) = state.share(user).await else { return state.stale(known).ok_or(Error::Busy) };
        // A refresh does not follow a question that may be answered by what is kept.
        let asked = format!("{question}\0{refresh}");
        let (state, track) = (Arc::clone(&self.0), track.clone());
        let answer = self.0.in_flight.get(&asked, || async move { state.look_up(&track, &question, refresh).await });
        answer.await.ok_or(Error::SourcesUnavailable)
    }

    /// Runs `parse` in a thread of its own, for a text that somebody else has made.
    pub(crate) async fn parse<T: Send + 'static>(
        &self,
        parse: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.0.parser.run(parse).await.map_err(|_| Error::Busy)
    }

    /// Sets the lyrics of a track.
    pub async fn set(&self, track: &LyricsTrack, lyrics: TrackLyrics, user: &UserId) -> Result<TrackAnswer, Error> {
        let now = self.0.clock.unix_millis();
        let body = serde_json::to_string(&lyrics).map_err(|_| Error::Unavailable)?;
        self.0.store.put_edit((&track.subject(), track.created_at), &body, user, now).await?;
        self.0.metrics.edits.inc();
        if let Some(reporter) = &self.0.reporter {
            reporter.report(track, user, Some(&lyrics)).await;
        }
        let (lyrics, outcome) = (Some(Arc::new(lyrics)), RequestOutcome::Edited);
        Ok(TrackAnswer { lyrics, cached_at: now, expires_at: None, is_stale: false, outcome })
    }

    /// Drops what was set for a track.
    pub async fn unset(&self, track: &LyricsTrack, user: &UserId) -> Result<(), Error> {
        let was_set = self.0.store.drop_edit(&track.subject()).await?;
        if let Some(reporter) = self.0.reporter.as_ref().filter(|_| was_set) {
            reporter.report(track, user, None).await;
        }
        Ok(())
    }

    /// Returns the numbers of rows.
    pub async fn count(&self) -> Result<CacheCounts, Error> {
        self.0.store.count(self.0.clock.unix_millis()).await
    }
}

/// Returns true if the user may set the lyrics of a track.
pub fn may_edit(track: &LyricsTrack, user: &User) -> bool {
    user.is_admin() || track.owner.as_deref() == Some(user.id().as_str())
}

impl LyricsState {
    /// Returns the version of what is kept of a track: its object, and the sources.
    fn version(&self, track: &LyricsTrack) -> String {
        let LyricsTrack { bucket, key, updated_at, .. } = track;
        let place = (bucket.signer.identity(), &bucket.name, key, updated_at.map(UnixMillis::as_millis));
        let formats: Vec<_> = self.settings.formats.iter().map(|format| format.extension()).collect();
        serde_json::json!([BODY_VERSION, self.sources(), formats, place.0, place.1, place.2, place.3]).to_string()
    }

    pub(crate) fn sources(&self) -> String {
        self.settings.sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(",")
    }

    /// Waits for room in the user's share; `None` where there is none for long.
    pub(crate) async fn share(&self, user: &UserId) -> Option<OwnedSemaphorePermit> {
        timeout(STORE_TIMEOUT, self.shares.acquire(user)).await.ok()?
    }

    /// Returns what is kept beyond its time, if it has lyrics.
    fn stale(&self, known: Option<CacheRow>) -> Option<TrackAnswer> {
        let row = known.filter(|row| row.body.is_some())?;
        let expires_at = self.clock.unix_millis() + RETRY_TIME;
        self.answer_of(&CacheRow { expires_at, ..row }, RequestOutcome::Stale)
    }

    /// `None` where nobody can tell.
    async fn look_up(&self, track: &LyricsTrack, question: &str, refresh: bool) -> Option<TrackAnswer> {
        let (subject, version) = (track.subject(), self.version(track));
        let key = CacheKey { kind: CacheKind::Track, subject: &subject, version: &version };
        // Somebody else may have asked since.
        let known = self.store.get(key).await.ok()?;
        if let Some(row) = known.as_ref().filter(|row| !refresh && self.clock.unix_millis() < row.expires_at) {
            return self.answer_of(row, RequestOutcome::Cached);
        }
        let CollectedLyrics { lyrics, failure } = self.ask_sources(track).await;
        let (now, is_complete) = (self.clock.unix_millis(), failure.is_none());
        if !is_complete {
            // What the first sources said before is better than what the last ones say now.
            if let Some(row) = known.filter(|row| row.body.is_some() || lyrics.is_none()) {
                let expires_at = now + RETRY_TIME;
                // If it fails the sources are asked again at once.
                let _ = self.store.postpone(key, expires_at).await;
                return self.answer_of(&CacheRow { expires_at, ..row }, RequestOutcome::Stale);
            }
        }
        if lyrics.is_none() && failure == Some(SourceFailure::Unavailable) {
            self.failures.record(question);
        } else {
            self.failures.forget(question);
        }
        if lyrics.is_none() && !is_complete {
            return None;
        }
        let life = match (&lyrics, is_complete) {
            (_, false) => RETRY_TIME,
            (Some(_), true) => self.settings.cache_for,
            (None, true) => self.settings.miss_cache_for,
        };
        let body = lyrics.as_ref().and_then(|lyrics| serde_json::to_string(lyrics).ok());
        let row = CacheRow { body, cached_at: now, expires_at: now + life };
        // If it fails the sources are asked again the next time.
        let _ = self.store.put(key, &row).await;
        let outcome = if lyrics.is_some() { RequestOutcome::Fetched } else { RequestOutcome::Missing };
        let expires_at = Some(row.expires_at);
        Some(TrackAnswer { lyrics: lyrics.map(Arc::new), cached_at: now, expires_at, is_stale: false, outcome })
    }

    /// Returns the answer that a row is; `None` for one that another version wrote and this one cannot read.
    fn answer_of(&self, row: &CacheRow, outcome: RequestOutcome) -> Option<TrackAnswer> {
        let lyrics: Option<TrackLyrics> = row.body.as_deref().map(serde_json::from_str).transpose().ok()?;
        let life = if lyrics.is_some() { self.settings.cache_for } else { self.settings.miss_cache_for };
        let is_stale = self.clock.unix_millis() >= row.cached_at + life;
        let outcome = match (&lyrics, is_stale) {
            (None, _) => RequestOutcome::Missing,
            (Some(_), true) => RequestOutcome::Stale,
            (Some(_), false) => outcome,
        };
        let (cached_at, expires_at) = (row.cached_at, Some(row.expires_at));
        Some(TrackAnswer { lyrics: lyrics.map(Arc::new), cached_at, expires_at, is_stale, outcome })
    }
}

/// Drops old rows at first and at each interval, until `tasks` stop.
async fn sweep(service: LyricsService, tasks: BackgroundTasks) {
    loop {
        // It logs a failure, and the next time it may succeed.
        let _ = service.0.store.sweep(service.0.clock.unix_millis(), service.0.settings.max_bytes).await;
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = tasks.stopping() => return,
        }
    }
}
