//! Lyrics of a track: what was set, else what is kept, else what the sources say.
//!
//! Sources are asked once however many wait. While one that comes before the others does not answer, what is kept is served
//! beyond its time, and the sources are asked again a minute later.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::metrics::{LyricsMetrics, RequestOutcome, SourceOutcome};
use crate::settings::Settings;
use crate::sources::embedded::{self, TrackTags};
use crate::sources::object_reader::ObjectReader;
use crate::sources::remote::RemoteService;
use crate::sources::{LyricsSource, SourceUnavailable, genius, lrclib, sidecar};
use crate::store::{CacheCounts, CacheKey, CacheKind, CacheRow, LyricsStore};
use crate::track_lyrics::{SongQuery, TrackLyrics};
use crate::{Error, LyricsTrack, TrackResolver};
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::loading_cache::LoadingCache;
use primitives::unix_time::UnixMillis;
use prometheus::Registry;
use server_kit::api::user::{User, UserRole};
use server_kit::database::Database;

/// Memory for questions that are under way and the last answers to them, in bytes.
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// Most tracks whose sources are asked at once: each may hold some megabytes of a file.
const MAX_LOOKUPS: usize = 8;
/// Time limit of what is read of a store for one track and source.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
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
    reader: ObjectReader,
    pub(crate) lrclib: Option<RemoteService>,
    pub(crate) genius: Option<RemoteService>,
    in_flight: LoadingCache<TrackAnswer>,
    pub(crate) searches: LoadingCache<crate::search::SearchAnswer>,
    lookups: Semaphore,
    pub(crate) metrics: LyricsMetrics,
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

/// What the sources have said.
struct CollectedLyrics {
    lyrics: Option<TrackLyrics>,
    /// False if one that comes before did not answer.
    is_complete: bool,
}

impl LyricsService {
    /// Starts the service; rows are dropped by a task of `services`.
    pub fn start(
        parts: LyricsServiceParts,
        services: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let LyricsServiceParts { settings, database, tracks, client, store_client, clock } = parts;
        let remote = |source, service: &Option<_>| {
            service.clone().map(|service| RemoteService::new(source, service, client.clone(), clock.clone()))
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
            lookups: Semaphore::new(MAX_LOOKUPS),
            metrics: LyricsMetrics::register(registry)?,
            settings,
            clock: clock.clone(),
        };
        let service = Self(Arc::new(state));
        services.spawn(sweep(service.clone(), services.clone()));
        Ok(service)
    }

    /// Returns the lyrics of a track; with `refresh` the sources are asked whatever is kept.
    pub async fn lyrics(&self, track: &LyricsTrack, refresh: bool) -> Result<TrackAnswer, Error> {
        let answer = self.find(track, refresh).await;
        let outcome = answer.as_ref().map_or(RequestOutcome::Unavailable, |answer| answer.outcome);
        self.0.metrics.count_request(outcome);
        answer
    }

    async fn find(&self, track: &LyricsTrack, refresh: bool) -> Result<TrackAnswer, Error> {
        if let Some((body, at)) = self.0.store.edit(&track.id, track.created_at).await?
            && let Ok(lyrics) = serde_json::from_str(&body)
        {
            let (lyrics, outcome) = (Some(Arc::new(lyrics)), RequestOutcome::Edited);
            return Ok(TrackAnswer { lyrics, cached_at: at, expires_at: None, is_stale: false, outcome });
        }
        // No id has a control character. A refresh does not follow a question that may be answered by what is kept.
        let asked = format!("{}\0{}\0{refresh}", track.id.as_str(), self.0.version(track));
        let (state, track) = (Arc::clone(&self.0), track.clone());
        let answer = self.0.in_flight.get(&asked, || async move { state.look_up(&track, refresh).await }).await;
        answer.ok_or(Error::SourcesUnavailable)
    }

    /// Sets the lyrics of a track.
    pub async fn set(&self, track: &LyricsTrack, lyrics: TrackLyrics, user: &UserId) -> Result<TrackAnswer, Error> {
        let now = self.0.clock.unix_millis();
        let body = serde_json::to_string(&lyrics).map_err(|_| Error::Unavailable)?;
        self.0.store.put_edit((&track.id, track.created_at), &body, user, now).await?;
        self.0.metrics.edits.inc();
        let (lyrics, outcome) = (Some(Arc::new(lyrics)), RequestOutcome::Edited);
        Ok(TrackAnswer { lyrics, cached_at: now, expires_at: None, is_stale: false, outcome })
    }

    /// Drops what was set for a track.
    pub async fn unset(&self, track: &LyricsTrack) -> Result<(), Error> {
        self.0.store.drop_edit(&track.id).await
    }

    /// Returns the numbers of rows.
    pub async fn count(&self) -> Result<CacheCounts, Error> {
        self.0.store.count(self.0.clock.unix_millis()).await
    }
}

/// Returns true if the user may set the lyrics of a track.
pub fn may_edit(track: &LyricsTrack, user: &User) -> bool {
    user.role() == UserRole::Admin || track.owner.as_deref() == Some(user.id().as_str())
}

impl LyricsState {
    /// Returns the version of what is kept of a track: its object, and the sources.
    fn version(&self, track: &LyricsTrack) -> String {
        let LyricsTrack { bucket, key, updated_at, .. } = track;
        let place = (bucket.signer.identity(), &bucket.name, key, updated_at.as_millis());
        let formats: Vec<_> = self.settings.formats.iter().map(|format| format.extension()).collect();
        serde_json::json!([BODY_VERSION, self.sources(), formats, place.0, place.1, place.2, place.3]).to_string()
    }

    pub(crate) fn sources(&self) -> String {
        self.settings.sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(",")
    }

    /// `None` where nobody can tell.
    async fn look_up(&self, track: &LyricsTrack, refresh: bool) -> Option<TrackAnswer> {
        let version = self.version(track);
        let key = CacheKey { kind: CacheKind::Track, subject: track.id.as_str(), version: &version };
        let known = self.store.get(key).await.ok()?;
        if let Some(row) = known.as_ref().filter(|row| !refresh && self.clock.unix_millis() < row.expires_at) {
            return self.answer_of(row, RequestOutcome::Cached);
        }
        // It is never closed. Where all wait for a store, nobody waits for them.
        let _permit = tokio::time::timeout(STORE_TIMEOUT, self.lookups.acquire()).await.ok()?.ok()?;
        let CollectedLyrics { lyrics, is_complete } = self.ask_sources(track).await;
        let now = self.clock.unix_millis();
        if !is_complete {
            // What the first sources said before is better than what the last ones say now.
            if let Some(row) = known.filter(|row| row.body.is_some() || lyrics.is_none()) {
                let expires_at = now + RETRY_TIME;
                // If it fails the sources are asked again at once.
                let _ = self.store.postpone(key, expires_at).await;
                return self.answer_of(&CacheRow { expires_at, ..row }, RequestOutcome::Stale);
            }
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

    /// Asks the sources in their order until one has lyrics.
    async fn ask_sources(&self, track: &LyricsTrack) -> CollectedLyrics {
        let mut question = TrackQuestion { state: self, track, tags: None };
        let mut is_complete = true;
        for source in &self.settings.sources {
            let found = question.ask(*source).await;
            let outcome = match &found {
                Ok(Some(_)) => SourceOutcome::Found,
                Ok(None) => SourceOutcome::Missing,
                Err(SourceUnavailable) => SourceOutcome::Failed,
            };
            self.metrics.count_source(*source, outcome);
            match found {
                Ok(None) => {}
                Ok(Some(lyrics)) => return CollectedLyrics { lyrics: Some(lyrics), is_complete },
                Err(SourceUnavailable) => is_complete = false,
            }
        }
        CollectedLyrics { lyrics: None, is_complete }
    }
}

/// Question for the lyrics of one track, with the tags that were read for it.
struct TrackQuestion<'a> {
    state: &'a LyricsState,
    track: &'a LyricsTrack,
    tags: Option<Result<Option<TrackTags>, SourceUnavailable>>,
}

impl TrackQuestion<'_> {
    async fn ask(&mut self, source: LyricsSource) -> Result<Option<TrackLyrics>, SourceUnavailable> {
        match source {
            LyricsSource::Edited => Ok(None),
            LyricsSource::Sidecar => {
                let LyricsTrack { bucket, key, .. } = self.track;
                let read = sidecar::read(&self.state.reader, bucket, key, &self.state.settings.formats);
                let read = tokio::time::timeout(STORE_TIMEOUT, read).await.unwrap_or(Err(SourceUnavailable));
                if read.is_err() {
                    // The tags are in the same store.
                    self.tags.get_or_insert(Err(SourceUnavailable));
                }
                Ok(read?.map(|parsed| TrackLyrics::from_parsed(parsed, source)))
            }
            LyricsSource::Embedded => {
                let Some(mut tags) = self.tags().await? else { return Ok(None) };
                let lyrics = tags.lyrics.take().map(|parsed| TrackLyrics::from_parsed(parsed, source));
                Ok(lyrics.map(|lyrics| lyrics.with_names(&tags)))
            }
            LyricsSource::Lrclib => match (&self.state.lrclib, self.song().await?) {
                (Some(service), Some(song)) => lrclib::find(service, &song).await,
                _ => Ok(None),
            },
            LyricsSource::Genius => match (&self.state.genius, self.song().await?) {
                (Some(service), Some(song)) => Ok(genius::search(service, &song).await?.into_iter().next()),
                _ => Ok(None),
            },
        }
    }

    /// The track's tags, read once.
    async fn tags(&mut self) -> Result<Option<TrackTags>, SourceUnavailable> {
        if let Some(tags) = &self.tags {
            return tags.clone();
        }
        let read = embedded::read(&self.state.reader, &self.track.bucket, &self.track.key);
        let tags = tokio::time::timeout(STORE_TIMEOUT, read).await.unwrap_or(Err(SourceUnavailable));
        self.tags.insert(tags).clone()
    }

    /// The names by which services know the track.
    async fn song(&mut self) -> Result<Option<SongQuery>, SourceUnavailable> {
        Ok(SongQuery::of_track(self.tags().await?.as_ref(), &self.track.key))
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
