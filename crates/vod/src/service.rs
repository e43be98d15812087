//! Service of films: what the API does, and what happens by itself meanwhile.

mod views;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::events::FilmEvents;
use crate::film_store::FilmStore;
use crate::grant::path_without_token;
use crate::manifest_url::ManifestUrls;
use crate::metrics::{StartOutcome, ViewEndCause, VodMetrics};
use crate::session::{
    FilmSessions, FilmView, ManifestType, ReportedPosition, SessionEnd, SessionId, SessionOpenError,
    SessionsUnavailable, StopOutcome, ViewerDevice,
};
use crate::settings::Settings;
use crate::subscription::{SubscriptionService, purge_message};
use crate::view_log::ViewLog;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::limit::RateLimiters;
use server_kit::limit::rate_limiter::LimitRejection;
use server_kit::limit::subject::RequesterInfo;

/// Time after which a report is late: it may have been overtaken by one of another session.
const LATE: Duration = Duration::from_secs(2);
/// Name of the rate limiter policy that bounds the sessions which a user opens.
pub const START_LIMIT: &str = "film-starts";

/// Report of a position in a film.
#[derive(Clone, Copy, Debug)]
pub struct WatchReport {
    /// Milliseconds from the beginning.
    pub position: i64,
    /// The film's length in milliseconds, where it is known.
    pub duration: Option<i64>,
    /// Time by the player's clock; `None` is now.
    pub at: Option<UnixMillis>,
    /// True if it is the last one of a view.
    pub is_last: bool,
    /// Session that it is about; `None` is the user's newest one for the film.
    pub session: Option<SessionId>,
}

impl WatchReport {
    /// Returns what it says of the position, where it came at `now`: a player whose clock is ahead does not shut out later reports.
    fn reported(&self, now: UnixMillis) -> ReportedPosition {
        ReportedPosition { position: self.position, at: self.at.map(|at| at.min(now)) }
    }
}

/// Position of a user in a film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchPosition {
    /// Milliseconds from the beginning.
    pub position: i64,
    /// Time of the report.
    pub last_watched_at: UnixMillis,
}

/// Positions cannot be stored or read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("positions cannot be kept or read at the moment")]
pub struct ProgressUnavailable;

/// Store of positions in films, implemented by the store of all positions.
pub trait WatchProgress: Send + Sync {
    /// Stores a report unless a newer one is stored; it is durable when this returns.
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        movie: &'a TrackId,
        report: WatchReport,
    ) -> BoxFuture<'a, Result<(), ProgressUnavailable>>;

    /// Returns the position of `user` in `movie`, if there is one.
    fn get<'a>(
        &'a self,
        user: &'a UserId,
        movie: &'a TrackId,
    ) -> BoxFuture<'a, Result<Option<WatchPosition>, ProgressUnavailable>>;
}

/// Reason for which a film cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The user has no subscription.
    #[error("No active subscription")]
    NoSubscription,
    /// The film has no such manifest.
    #[error("Manifest not found")]
    ManifestNotFound,
    /// Nobody can tell whether the user has a subscription.
    #[error("whether you have a subscription cannot be told at the moment")]
    SubscriptionUnavailable,
    /// The store does not answer.
    #[error("the store of films does not answer at the moment")]
    StoreUnavailable,
    /// Sessions cannot be opened.
    #[error(transparent)]
    Sessions(#[from] SessionOpenError),
    /// The user has opened too many.
    #[error("too many films were started")]
    TooMany(LimitRejection),
}

impl StartError {
    fn outcome(self) -> StartOutcome {
        match self {
            Self::NoSubscription => StartOutcome::NoSubscription,
            Self::ManifestNotFound => StartOutcome::NotFound,
            Self::TooMany(_) => StartOutcome::TooMany,
            Self::SubscriptionUnavailable | Self::StoreUnavailable | Self::Sessions(_) => StartOutcome::Unavailable,
        }
    }
}

/// Reason for which a film is not stopped: try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// The position cannot be stored.
    #[error(transparent)]
    Progress(#[from] ProgressUnavailable),
    /// The session cannot be ended.
    #[error(transparent)]
    Sessions(#[from] SessionsUnavailable),
}

/// Film that was started.
#[derive(Debug)]
pub struct StartedFilm {
    /// Its session.
    pub session: SessionId,
    /// Path of the manifest, with the token of the grant in it.
    pub manifest_path: String,
    /// The same for a token beside it.
    pub bare_path: String,
    /// The token.
    pub token: String,
    /// Longest time for which the token can be good.
    pub token_lifetime: Duration,
    /// Time for which it can be fetched without a report or a segment.
    pub expires_in: Duration,
}

/// Parts of the service.
pub struct FilmServiceParts {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Sessions of viewers.
    pub sessions: FilmSessions,
    /// Subscriptions, where they are checked.
    pub subscriptions: Option<SubscriptionService>,
    /// The store of the films.
    pub films: FilmStore,
    /// Positions.
    pub progress: Arc<dyn WatchProgress>,
    /// Rows of `stream_sessions`.
    pub views: ViewLog,
    /// Events.
    pub events: FilmEvents,
    /// URLs of manifests.
    pub urls: ManifestUrls,
    /// Rate limiters, of which [`START_LIMIT`] is asked.
    pub limiters: Arc<RateLimiters>,
    /// The metrics.
    pub metrics: VodMetrics,
    /// The time.
    pub clock: Clock,
}

/// Service of films. Clones share it.
#[derive(Clone)]
pub struct FilmService(Arc<FilmServiceParts>);

impl FilmService {
    /// Starts the service: from now on views without reports end.
    pub fn start(parts: FilmServiceParts, tasks: &BackgroundTasks) -> Self {
        let this = Self(Arc::new(parts));
        tasks.spawn(this.clone().watch_sessions(tasks.clone()));
        this
    }

    /// Starts `movie` for `user`.
    pub async fn start_film(
        &self,
        user: &UserId,
        movie: &TrackId,
        manifest: ManifestType,
        device: &ViewerDevice,
    ) -> Result<StartedFilm, StartError> {
        let started = self.try_start(user, movie, manifest, device).await;
        let outcome = started.as_ref().map_or_else(|error| error.outcome(), |_| StartOutcome::Started);
        self.0.metrics.count_start(manifest, outcome);
        started
    }

    async fn try_start(
        &self,
        user: &UserId,
        movie: &TrackId,
        manifest: ManifestType,
        device: &ViewerDevice,
    ) -> Result<StartedFilm, StartError> {
        let parts = &*self.0;
        if let Some(subscriptions) = &parts.subscriptions {
            match subscriptions.is_active(user).await {
                Some(true) => {}
                Some(false) => return Err(StartError::NoSubscription),
                None => return Err(StartError::SubscriptionUnavailable),
            }
        }
        let names = &parts.settings.manifests;
        let name = match manifest {
            ManifestType::Hls => &names.hls,
            ManifestType::Dash => &names.dash,
        };
        let key = format!("{}{}/{name}", parts.settings.prefix, movie.as_str());
        match parts.films.has(&key).await {
            Some(true) => {}
            Some(false) => return Err(StartError::ManifestNotFound),
            None => return Err(StartError::StoreUnavailable),
        }
        self.count_start(user, device).await?;
        let now = parts.clock.unix_millis();
        let opened = parts.sessions.open(user, movie, manifest, device, now).await?;
        // Among those that give way may be this one, where others were opened at the same time: it begins before it ends.
        let (own, others): (Vec<FilmView>, Vec<FilmView>) =
            opened.displaced.into_iter().partition(|view| view.session == opened.session.id);
        for view in &others {
            self.end_view(view, ViewEndCause::Displaced).await;
        }
        self.begin_view(&opened.view).await;
        for view in &own {
            self.end_view(view, ViewEndCause::Displaced).await;
        }
        Ok(StartedFilm {
            session: opened.session.id,
            manifest_path: parts.urls.manifest_path(&opened.session, name),
            bare_path: path_without_token(movie, name),
            token: parts.urls.token(&opened.session),
            token_lifetime: parts.settings.grant.max_ttl,
            expires_in: opened.session.expires_at - now,
        })
    }

    /// Counts a session that is about to be opened; what is refused for another reason opens none.
    async fn count_start(&self, user: &UserId, device: &ViewerDevice) -> Result<(), StartError> {
        let Some(limit) = self.0.limiters.limiter(START_LIMIT) else { return Ok(()) };
        let subject = {
            let (claim, address) = (|_: &str| None, device.address);
            limit.subject(&RequesterInfo { user: Some(user.as_str()), claim: &claim, address, route: START_LIMIT })
        };
        limit.admit(&subject).await.map(drop).map_err(StartError::TooMany)
    }

    /// Stores a report of a position.
    pub async fn report(
        &self,
        user: &UserId,
        movie: &TrackId,
        report: WatchReport,
        device: &ViewerDevice,
    ) -> Result<(), ProgressUnavailable> {
        let parts = &*self.0;
        let now = parts.clock.unix_millis();
        let reported = report.reported(now);
        // At the same time, since neither needs the other; a player that is refused sends its report again.
        let (saved, noted) = tokio::join!(
            parts.progress.save(user, movie, report),
            parts.sessions.report(user, movie, report.session, reported, device)
        );
        // The position is what was asked for: without sessions the view ends a little early.
        let noted = noted.unwrap_or_default();
        if let Some(view) = &noted.begun {
            self.begin_view(view).await;
        }
        saved?;
        parts.metrics.reports.inc();
        // Who reads the events in their order must not be led back.
        if !noted.is_outdated && !self.was_overtaken(user, movie, reported, now).await {
            parts.events.progressed(user, movie, reported.position, reported.at.unwrap_or(now)).await;
        }
        Ok(())
    }

    /// Returns true for a report that a player has kept for a while, where a newer position is stored: of another device, or of
    /// another session.
    async fn was_overtaken(&self, user: &UserId, movie: &TrackId, reported: ReportedPosition, now: UnixMillis) -> bool {
        let Some(at) = reported.at.filter(|at| *at + LATE < now) else { return false };
        let stored = self.0.progress.get(user, movie).await.ok().flatten();
        stored.is_some_and(|stored| stored.last_watched_at > at)
    }

    /// Returns the position of `user` in `movie`, if there is one.
    pub async fn position(&self, user: &UserId, movie: &TrackId) -> Result<Option<WatchPosition>, ProgressUnavailable> {
        self.0.progress.get(user, movie).await
    }

    /// Stops `movie`: stores the position and ends the session. It is published even where no session is known: the
    /// one that began it may have ended with a node that had it in memory. A view that had ended is not ended twice.
    pub async fn stop(&self, user: &UserId, movie: &TrackId, report: WatchReport) -> Result<(), StopError> {
        let parts = &*self.0;
        parts.progress.save(user, movie, WatchReport { is_last: true, ..report }).await?;
        let now = parts.clock.unix_millis();
        let reported = report.reported(now);
        match parts.sessions.stop(user, movie, report.session, reported).await? {
            StopOutcome::HadEnded => {}
            StopOutcome::Ended(view) => self.end_view(&view, ViewEndCause::Stopped).await,
            StopOutcome::Unknown => {
                parts.metrics.count_end(ViewEndCause::Stopped);
                if !self.was_overtaken(user, movie, reported, now).await {
                    parts.events.stopped(user, movie, reported.position, reported.at.unwrap_or(now)).await;
                }
            }
        }
        Ok(())
    }

    /// Forgets whether `user` has a subscription; false if the shared state does not answer.
    pub async fn purge_subscription(&self, user: &UserId) -> bool {
        match &self.0.subscriptions {
            Some(subscriptions) => subscriptions.purge(user).await,
            None => true,
        }
    }

    /// Takes a message that a subscription has changed; false if the shared state does not answer.
    pub async fn take_purge_message(&self, message: &[u8]) -> bool {
        let user = purge_message::user_of(message);
        let is_done = match &user {
            Some(user) => self.purge_subscription(user).await,
            None => true,
        };
        if is_done {
            self.0.metrics.count_subscription_purge(user.is_some());
        }
        is_done
    }

    /// Ends all sessions of `user`; returns their number.
    pub async fn revoke(&self, user: &UserId) -> Result<usize, SessionsUnavailable> {
        let parts = &*self.0;
        let live = parts.sessions.of_user(user).await?;
        for (id, _) in &live {
            if let Some(view) = parts.sessions.close(*id, SessionEnd::Revoked).await? {
                self.end_view(&view, ViewEndCause::Revoked).await;
            }
        }
        Ok(live.len())
    }
}
