//! Video on demand, composed: sessions for the proxy and the API, and the store of positions as films need it.

use std::sync::Arc;

use futures::future::BoxFuture;
use utoipa_axum::router::OpenApiRouter;

use super::events::EventServices;
use super::modules::ModuleDependencies;
use super::storage::StateStorage;
use super::{StartError, http_client};
use crate::config::Settings;
use ::events::settings::SinkSettings;
use ::events::topic_reader::{TopicReader, UseMessage};
use playback::positions::{ItemKind, PositionKey, PositionReport, PositionService};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::auth::revocation::TokenRevocations;
use vod::events::FilmEvents;
use vod::film_store::FilmStore;
use vod::grant::{GrantKeys, GrantVerifier, JudgeSession};
use vod::manifest_url::ManifestUrls;
use vod::metrics::VodMetrics;
use vod::page::page_routes;
use vod::routes;
use vod::service::{FilmService, FilmServiceParts, ProgressUnavailable, WatchPosition, WatchProgress, WatchReport};
use vod::session::FilmSessions;
use vod::session_routes::session_routes;
use vod::subscription::SubscriptionService;
use vod::view_log::ViewLog;

/// Opens the sessions of viewers and the keys of their grants, where films are served.
pub fn open_sessions(
    settings: &Settings,
    storage: &StateStorage,
    revocations: Option<Arc<TokenRevocations>>,
    clock: &Clock,
) -> Option<(FilmSessions, Arc<GrantKeys>)> {
    let settings = Arc::new(settings.vod.clone()?);
    let grants = Arc::new(GrantKeys::new(&settings.grant, clock.clone()));
    Some((FilmSessions::new(settings, storage.redis.clone(), revocations, clock.clone()), grants))
}

/// Returns the verifier of grants, which asks the sessions.
pub fn verifier((sessions, grants): (&FilmSessions, &Arc<GrantKeys>)) -> Arc<GrantVerifier> {
    let sessions = sessions.clone();
    let judge: JudgeSession = Arc::new(move |session| {
        let sessions = sessions.clone();
        Box::pin(async move { sessions.judge(session).await })
    });
    Arc::new(GrantVerifier::new(Arc::clone(grants), judge))
}

/// Starts the service of films over its sessions and grants; returns its paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    events: Option<&EventServices>,
    films: Option<(FilmSessions, Arc<GrantKeys>)>,
    positions: Option<&PositionService>,
) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, services, tasks, metrics, limiters, stores, .. } = dependencies;
    // The settings name both where films are served.
    let (Some(settings), Some((sessions, grants)), Some(positions)) = (&all.vod, films, positions) else {
        return Ok(Vec::new());
    };
    let Some(store) = all.stores.iter().find(|store| store.name == settings.store) else { return Ok(Vec::new()) };
    let metrics = VodMetrics::register(metrics.registry())?;
    let client = http_client()?;
    let subscriptions = settings.subscription.clone().map(|settings| {
        let clock = (*clock).clone();
        SubscriptionService::new(settings, client.clone(), storage.redis.clone(), clock, metrics.clone())
    });
    let states = session_routes(sessions.clone(), (*tasks).clone());
    let views = ViewLog::start(storage.database.clone(), sessions.clone(), services, metrics.clone());
    let parts = FilmServiceParts {
        settings: Arc::new(settings.clone()),
        sessions,
        subscriptions,
        films: FilmStore::new(stores.signer(store)?, client, Arc::clone(&settings.bucket)),
        progress: Arc::new(FilmPositions(positions.clone())),
        views,
        events: FilmEvents::new(events.map(|events| events.events.clone())),
        urls: ManifestUrls::new(grants),
        limiters: Arc::clone(limiters),
        metrics,
        clock: (*clock).clone(),
    };
    let films = FilmService::start(parts, services);
    read_purges(all, &films, clock, services);
    let limited = [
        limit_routes(routes::start_routes(films.clone()), limiters, RateLimitClass::STANDARD),
        limit_routes(routes::progress_routes(films.clone()), limiters, RateLimitClass::named("positions")),
        limit_routes(states, limiters, RateLimitClass::named("positions")),
        limit_routes(routes::admin_routes(films), limiters, RateLimitClass::STRICT),
    ];
    Ok(limited.into_iter().chain(page_routes(settings)).collect())
}

/// Reads messages that a subscription has changed, where a topic and brokers are named.
fn read_purges(all: &Settings, films: &FilmService, clock: &Clock, services: &BackgroundTasks) {
    let subscription = all.vod.as_ref().and_then(|settings| settings.subscription.as_ref());
    let topic = subscription.and_then(|settings| Some((settings.purge_topic.clone()?, settings.cache_for)));
    let (Some((topic, replay)), Some((settings, _))) = (topic, &all.events) else { return };
    let SinkSettings::Kafka(brokers) = &settings.sink else { return };
    let films = films.clone();
    let use_message: UseMessage = Arc::new(move |message| {
        let films = films.clone();
        Box::pin(async move { films.take_purge_message(&message).await })
    });
    // What is older is believed by nobody any more.
    TopicReader { brokers: brokers.clone(), topic, replay, use_message, clock: clock.clone() }.start(services);
}

/// Positions in films: those of the kind `film` among all positions.
struct FilmPositions(PositionService);

impl WatchProgress for FilmPositions {
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        movie: &'a TrackId,
        report: WatchReport,
    ) -> BoxFuture<'a, Result<(), ProgressUnavailable>> {
        Box::pin(async move {
            let WatchReport { position, duration, at, is_last, session: _ } = report;
            let report = PositionReport { position, duration, at, is_last };
            self.0.save(key(user, movie), report).await.map_err(|_| ProgressUnavailable)
        })
    }

    fn get<'a>(
        &'a self,
        user: &'a UserId,
        movie: &'a TrackId,
    ) -> BoxFuture<'a, Result<Option<WatchPosition>, ProgressUnavailable>> {
        Box::pin(async move {
            let found = self.0.get_record(&key(user, movie)).await.map_err(|_| ProgressUnavailable)?;
            let position = |(position, last_watched_at): (i64, _)| WatchPosition { position, last_watched_at };
            Ok(found.and_then(|found| found.position.map(|at| (at, found.updated_at))).map(position))
        })
    }
}

fn key(user: &UserId, movie: &TrackId) -> PositionKey {
    PositionKey { user: user.clone(), kind: ItemKind::Film, item: movie.clone() }
}
