//! The composition root: the only file that knows every module. Settings in, a running server out.

mod admin_connections;
mod admin_server;
pub mod backup;
mod cache;
mod catalog;
mod certificates;
mod channel_tracks;
mod channels;
mod clusters;
mod embedded;
mod events;
pub mod explain;
mod health;
mod limits;
pub mod listing;
mod lyrics;
mod modules;
mod operator;
mod players;
mod playlists;
pub mod probe;
mod radio;
pub mod recognition;
mod reload;
mod running;
mod schedules;
#[cfg(feature = "share")]
mod share;
mod storage;
mod stores;
mod streamed_tracks;
mod telegram;
mod traces;
pub mod upgrade;
mod vod;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use futures::future::BoxFuture;
use tower::ServiceExt;

use self::admin_server::AdminListener;
use self::catalog::CatalogServices;
use self::events::EventServices;
use self::health::ProcessHealth;
use self::modules::{ModuleDependencies, StartedModules};
use self::reload::{ConfigReloader, ReloadedParts};
pub use self::running::{ReopenableFiles, RunningServer};
use self::storage::StateStorage;
use self::stores::OpenStores;
use self::upgrade::PredecessorProcess;
use crate::config::Settings;
use crate::proxy::Gateway;
use crate::proxy::modules::{ModulePaths, ModuleService};
use crate::proxy::process::Process;
use crate::proxy::runtime::Runtime;
use crate::proxy::settings::RuntimeSettings;
use ::vod::player_metrics::PlayerMetrics;
use http_server::acme_challenges::AcmeChallenges;
use http_server::listen_sockets::ListenSockets;
use http_server::listener::ListenError;
use http_server::listener_set::{ListenerServices, ListenerSet};
use http_server::workers::Workers;
use object_engine::cache::CacheError;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::settings::StoreSettings;
use server_kit::api::cache_admin::CacheOperations;
use server_kit::api::config_reload::ConfigReload;
use server_kit::api::health::HealthService;
use server_kit::api::router::{self, ModuleRoutes, RouterState};
use server_kit::auth::{Authenticator, InvalidIssuerKey};
use server_kit::database;
use server_kit::redis;
use server_kit::telemetry::log::StartedLog;
use server_kit::telemetry::metrics::Metrics;
use upstream::cluster::ClusterFactory;

/// Time limit of a request for an issuer's keys, from connecting to the last byte.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

/// Failure to start the server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address or a certificate.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Sockets that systemd passed are in no listener.
    #[error(
        "the sockets {0} were passed to the process, and no listener has their address or, as `Socket`, their name"
    )]
    UnusedSockets(String),
    /// An issuer of tokens.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuerKey),
    /// The folder of an embedded store.
    #[error("the embedded store `{name}` cannot be opened: {source}")]
    Embedded {
        /// The store's name.
        name: Arc<str>,
        /// Fault of the folder.
        source: std::io::Error,
    },
    /// A store that would lose its credentials.
    #[error("the store `{store}` has credentials now, and its provider gives none: {reason}")]
    Credentials {
        /// The store's name.
        store: Arc<str>,
        /// Reason of the provider.
        reason: String,
    },
    /// The client that fetches keys.
    #[error("the client for issuers' keys cannot be built: {0}")]
    Client(#[from] reqwest::Error),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] redis::InvalidRedisUrl),
    /// The database.
    #[error(transparent)]
    Database(#[from] database::DatabaseOpenError),
    /// Certificates by ACME.
    #[error(transparent)]
    Acme(#[from] acme::AcmeFileError),
    /// Events.
    #[error(transparent)]
    Events(#[from] ::events::EventsOpenError),
    /// Traces of requests.
    #[error(transparent)]
    Traces(#[from] request_traces::TracerError),
    /// The metrics.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Resources that are there before the server: from the processes before this one, and the log.
#[derive(Default)]
pub struct EarlyResources {
    /// Listening sockets.
    pub sockets: ListenSockets,
    /// The process that this one replaces.
    pub predecessor: Option<PredecessorProcess>,
    /// The log, which has begun.
    pub log: StartedLog,
}

/// Starts everything that `settings` ask for; `extra` are further pages on the players' listeners.
pub async fn start(settings: Settings, extra: Router) -> Result<RunningServer, StartError> {
    start_with(settings, None, extra, EarlyResources::default()).await
}

/// As [`start`], with the file that the settings are those of, and what is there before the server.
pub async fn start_with(
    settings: Settings,
    file: Option<&Path>,
    extra: Router,
    EarlyResources { sockets, predecessor, log }: EarlyResources,
) -> Result<RunningServer, StartError> {
    let shared = SharedServices::new()?;
    let SharedServices { clock, metrics, tasks, services } = &shared;
    let StartedLog { filter: log, access_log } = log;
    access_log.iter().try_for_each(|lines| lines.watch(metrics.registry(), services))?;
    let workers = Workers::start(settings.server.http.worker_threads()).map(Arc::new).map_err(ListenError::Workers)?;
    let stores = OpenStores::measured(clock, services, metrics.registry())?;
    let storage = StateStorage::open(&settings, services).await?;
    let challenges = AcmeChallenges::default();
    let (process, events) = open_process(&settings, &shared, &storage, &challenges, predecessor.as_ref()).await?;
    let runtime = first_runtime(&settings, &process, &stores).await?;
    let reloaded = watch::start(&runtime, &storage, tasks).await;
    metrics.register_upstreams(clusters::snapshot_source(&runtime))?;
    cache::register(metrics, &runtime)?;
    let operations = cache::cache_operations(&runtime);
    let dependencies = ModuleDependencies::new(&shared, &storage, &process, &stores, file);
    let tracks = catalog::routes(&dependencies, &process, &runtime, Arc::clone(&operations), settings.player.as_ref());
    let (reloader, reloads) = file.map(|_| ConfigReloader::new(clock)).unzip();
    let films = process.film_sessions.clone().zip(process.film_grants.clone());
    let files = ReopenableFiles { events: events.as_ref().map(|events| events.events.clone()), access_log };
    let StartedModules { routes: modules, active_sessions } =
        modules::start(&settings, &dependencies, events.as_ref(), films, tracks, &runtime)?;
    let events = events.map(|events| events.events);
    let health = ProcessHealth { events, active_sessions, ..ProcessHealth::new(&runtime, tasks, &storage, &workers) };
    let paths = ModulePaths::new(modules.paths.iter().map(String::as_str));
    let router_state =
        router_state(&runtime, (&shared, &stores), health, (operations, reloader.as_ref()), (&modules, paths.clone()));
    let public = router::public(router_state.clone(), Arc::clone(&process.limiters), modules.routes, extra);
    let service = module_service(public);
    let gateway =
        Arc::new(Gateway::new(Arc::clone(&process), Arc::clone(&runtime), service, paths, Arc::clone(metrics)));
    let admin = AdminListener::start(settings.admin.as_ref(), &sockets, router_state, (tasks, services))?;
    certificates::prepare(&settings)?;
    let listeners = start_listeners(&settings, &sockets, &gateway, (&challenges, &workers), &shared).await?;
    check_sockets(&sockets, predecessor.is_some())?;
    let orders = certificates::start(&settings, challenges, &shared)?;
    let (addresses, admin_address) = (listeners.addresses(), admin.address());
    if let (Some(file), Some(reloads)) = (file, reloads) {
        let (runtime, metrics) = (Arc::clone(&runtime), Arc::clone(metrics));
        let parts = ReloadedParts { runtime, reloaded, listeners, admin, orders, log, metrics };
        reloads.start(file, settings, parts, &dependencies)?;
    }
    let SharedServices { tasks, services, .. } = shared;
    Ok(RunningServer {
        listeners: addresses,
        admin: admin_address,
        workers,
        sockets,
        tasks,
        services,
        runtime,
        storage,
        files,
        reloader,
    })
}

/// Opens the listeners.
async fn start_listeners(
    settings: &Settings,
    sockets: &ListenSockets,
    gateway: &Arc<Gateway>,
    (challenges, workers): (&AcmeChallenges, &Arc<Workers>),
    SharedServices { metrics, tasks, .. }: &SharedServices,
) -> Result<ListenerSet<Gateway>, StartError> {
    let services = ListenerServices { sockets, handler: gateway, challenges, workers, metrics, tasks };
    Ok(ListenerSet::start(&settings.server.http, &services).await?)
}

/// Checks that every socket that was passed is in use: clients of another one would wait for ever. After an upgrade a
/// socket that the configuration no longer has is only closed.
fn check_sockets(sockets: &ListenSockets, is_upgrade: bool) -> Result<(), StartError> {
    let unused = sockets.drop_unused().join(", ");
    match (unused.is_empty(), is_upgrade) {
        (true, _) => {}
        (false, true) => tracing::info!("no longer listening on {unused}"),
        (false, false) => return Err(StartError::UnusedSockets(unused)),
    }
    Ok(())
}

/// Services that every part is started with.
struct SharedServices {
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Tasks that graceful shutdown waits for.
    tasks: BackgroundTasks,
    /// Tasks that outlive it.
    services: BackgroundTasks,
}

impl SharedServices {
    fn new() -> Result<Self, StartError> {
        let (tasks, services) = (BackgroundTasks::default(), BackgroundTasks::default());
        Ok(Self { clock: Clock::system(), metrics: metrics()?, tasks, services })
    }
}

/// State of the routers: what the operator may ask for, and the description of `modules`.
fn router_state(
    runtime: &Arc<ArcSwap<Runtime>>,
    (shared, stores): (&SharedServices, &Arc<OpenStores>),
    health: ProcessHealth,
    (cache, reloader): (Arc<dyn CacheOperations>, Option<&Arc<ConfigReloader>>),
    (modules, paths): (&ModuleRoutes, ModulePaths),
) -> RouterState {
    // Asked for at each request: a reload may have changed it.
    let streams = Arc::clone(&runtime.load().process.live_streams);
    let status = Arc::new(operator::OperatorStatus::new(runtime, stores));
    let (runtime, asked) = (Arc::clone(runtime), Arc::clone(runtime));
    RouterState {
        health: HealthService::new(Arc::new(health)),
        metrics: Arc::clone(&shared.metrics),
        clock: shared.clock.clone(),
        admin_token: Arc::new(move || runtime.load().debug_token.clone()),
        cache: Some(cache),
        streams,
        status,
        explain: explain::explainer(asked, paths),
        configuration: reloader.map(|reloader| Arc::clone(reloader) as Arc<dyn ConfigReload>),
        description: Arc::clone(&modules.description),
    }
}

/// Builds the runtime that is in force at first.
async fn first_runtime(
    settings: &Settings,
    process: &Arc<Process>,
    stores: &OpenStores,
) -> Result<Arc<ArcSwap<Runtime>>, StartError> {
    let cache = cache::open(settings, &process.clock, &process.tasks).await?;
    let authenticator = Arc::new(authenticator(settings, &process.clock, &process.tasks)?);
    let open_store = |store: &StoreSettings| stores.signer(store);
    let tracer = traces::tracer(settings, &process.traces, None)?;
    let parts = (authenticator, cache, tracer);
    let runtime = Runtime::build(runtime_settings(settings), process, parts, None, open_store)?;
    stores.ready().await;
    Ok(Arc::new(ArcSwap::from_pointee(runtime)))
}

/// Opens everything that outlives a reload, as the proxy needs it, and the events.
async fn open_process(
    settings: &Settings,
    SharedServices { clock, metrics, tasks, services }: &SharedServices,
    storage: &StateStorage,
    challenges: &AcmeChallenges,
    predecessor: Option<&PredecessorProcess>,
) -> Result<(Arc<Process>, Option<EventServices>), StartError> {
    let limiters = limits::open(settings, storage, clock, services, metrics)?;
    let events = events::open(settings, clock, services, metrics, predecessor).await?;
    let CatalogServices { catalog, access_checkers, path_tokens, revocations } =
        catalog::open_catalog(settings, storage, clock, http_client()?, metrics)?;
    let (film_sessions, film_grants) = vod::open_sessions(settings, storage, revocations.clone(), clock).unzip();
    let film_player_metrics =
        film_sessions.as_ref().map(|_| PlayerMetrics::register(metrics.registry())).transpose()?;
    let process = Process {
        clusters: ClusterFactory::new(tasks.clone()),
        limiters,
        catalog,
        access_checkers,
        path_tokens,
        film_verifier: film_sessions.as_ref().zip(film_grants.as_ref()).map(vod::verifier),
        revocations,
        film_sessions,
        film_grants,
        film_player_metrics,
        acme_challenges: challenges.clone(),
        stream_observer: events.as_ref().and_then(|events| events.stream_observer.clone()),
        live_streams: Arc::default(),
        recent_failures: Arc::default(),
        compressions: crate::proxy::encoded::Compressions::default(),
        traces: traces::services(metrics.registry(), services, clock)?,
        clock: clock.clone(),
        tasks: tasks.clone(),
    };
    Ok((Arc::new(process), events))
}

/// The part of the settings that a reload can change without a restart.
fn runtime_settings(settings: &Settings) -> RuntimeSettings {
    RuntimeSettings {
        server: settings.server.clone(),
        routes: settings.routes.clone(),
        clusters: settings.clusters.values().cloned().collect(),
        rate_limiters: settings.limits.clone(),
        stores: settings.stores.clone(),
        token_sources: settings.auth.token_from.clone(),
        debug_token: settings.admin.as_ref().and_then(|admin| admin.token.clone()),
        access_lines: settings.telemetry.access_lines,
        end_revoked_streams: settings.auth.end_revoked_streams,
        films: settings.films.clone(),
    }
}

/// The modules as the proxy calls them.
fn module_service(modules: Router) -> ModuleService {
    tower::util::BoxCloneSyncService::new(modules.into_service().map_response(|response| response))
}

/// The metrics, panics among them.
fn metrics() -> Result<Arc<Metrics>, prometheus::Error> {
    let metrics = Arc::new(Metrics::new()?);
    count_panics(&metrics);
    Ok(metrics)
}

/// A panic costs one request; it is counted, and said in the log, as the bug it is.
fn count_panics(metrics: &Arc<Metrics>) {
    let panics = metrics.panics().clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        before(info);
    }));
}

/// Client for requests to other services: issuers of keys, authorization services.
fn http_client() -> Result<reqwest::Client, StartError> {
    let client = reqwest::Client::builder().timeout(KEYS_TIMEOUT).user_agent("tidegate");
    Ok(client.redirect(reqwest::redirect::Policy::none()).build()?)
}

fn authenticator(settings: &Settings, clock: &Clock, tasks: &BackgroundTasks) -> Result<Authenticator, StartError> {
    let tasks = tasks.clone();
    let spawner = Arc::new(move |task: BoxFuture<'static, ()>| tasks.spawn(task));
    Ok(Authenticator::new(&settings.auth, http_client()?, clock.clone(), spawner)?)
}
