//! The composition root: the only file that knows every module. Settings in, a running server out.

mod cache;
mod catalog;
mod embedded;
mod events;
mod health;
mod limits;
pub mod listing;
mod modules;
#[cfg(feature = "share")]
mod share;
mod storage;
mod stores;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use futures::future::BoxFuture;
use tower::ServiceExt;

use self::catalog::CatalogServices;
use self::events::EventServices;
use self::health::ProcessHealth;
use self::modules::{ModuleDependencies, StartedModules};
use self::storage::StateStorage;
use self::stores::OpenStores;
use crate::config::Settings;
use crate::proxy::Gateway;
use crate::proxy::modules::{ModulePaths, ModuleService};
use crate::proxy::process::Process;
use crate::proxy::runtime::Runtime;
use crate::proxy::settings::{AdminSettings, RuntimeSettings};
use ::events::EventPublisher;
use http_server::listener::{self, ListenError};
use http_server::workers::Workers;
use object_engine::cache::{CacheError, SliceCache};
use primitives::clock::{Clock, monotonic_now};
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::health::HealthService;
use server_kit::api::router::{self, RouterState};
use server_kit::auth::{Authenticator, InvalidIssuerKey};
use server_kit::database;
use server_kit::limit::RateLimiters;
use server_kit::redis;
use server_kit::telemetry::metrics::Metrics;
use server_kit::telemetry::upstream_metrics::{ClusterSnapshot, ClusterSnapshotSource, DestinationSnapshot};
use upstream::cluster::{Cluster, ClusterMember};
use upstream::health::HealthState;

/// Time for the running requests of the admin listener and the embedded stores, at the end of a shutdown.
const SERVICES_GRACE: Duration = Duration::from_secs(1);
/// Time limit of a request for an issuer's keys, from connecting to the last byte.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the workers to drop the requests that they still serve.
const WORKERS_TIME: Duration = Duration::from_secs(1);
/// Time for the disk cache to write its last slices.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Failure to start the server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address or a certificate.
    #[error(transparent)]
    Listen(#[from] ListenError),
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
    /// Events.
    #[error(transparent)]
    Events(#[from] ::events::EventsOpenError),
    /// The metrics.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A server that runs.
pub struct RunningServer {
    /// Addresses of the public listeners, in the order of the settings.
    pub listeners: Vec<SocketAddr>,
    /// Address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// The threads that serve clients.
    workers: Arc<Workers>,
    /// Tasks that graceful shutdown waits for.
    tasks: BackgroundTasks,
    /// Tasks that outlive it: the operator's view of the drain, and embedded stores.
    services: BackgroundTasks,
    grace: Duration,
    cache: Option<Arc<SliceCache>>,
    storage: StateStorage,
    files: ReopenableFiles,
}

/// Files that are opened again when an operator has moved them away, as log rotation does. Clones are the same files.
#[derive(Clone)]
pub struct ReopenableFiles {
    events: Option<EventPublisher>,
}

impl ReopenableFiles {
    /// Opens them again.
    pub fn reopen(&self) {
        if let Some(events) = &self.events {
            events.reopen();
        }
    }
}

impl RunningServer {
    /// Returns the files to reopen at a signal.
    pub fn files(&self) -> ReopenableFiles {
        self.files.clone()
    }

    /// Stops accepting, lets streams end for as long as the settings say or until `hurry`; false when some were cut.
    /// After `hurry` nothing is waited for but the access lines of what is cut.
    pub async fn stop(self, hurry: impl Future<Output = ()>) -> bool {
        let whole = tokio::select! {
            biased;
            whole = self.tasks.shutdown(self.grace) => whole,
            () = hurry => {
                self.workers.stop(WORKERS_TIME).await;
                return false;
            }
        };
        self.workers.stop(WORKERS_TIME).await;
        if let Some(cache) = self.cache {
            // What a dying disk does not take in time is fetched anew after the start.
            let _ = tokio::time::timeout(CLOSE_TIME, cache.close()).await;
        }
        self.services.shutdown(SERVICES_GRACE).await;
        self.storage.close().await;
        whole
    }
}

/// Starts everything that `settings` ask for; `extra` are further pages on the players' listeners.
pub async fn start(settings: Settings, extra: Router) -> Result<RunningServer, StartError> {
    let (clock, metrics, tasks, services) =
        (Clock::system(), metrics()?, BackgroundTasks::default(), BackgroundTasks::default());
    let workers = Arc::new(Workers::start(settings.server.http.threads).map_err(ListenError::Workers)?);
    let stores = OpenStores::new(clock.clone(), services.clone());
    let cache = cache::open(&settings, &clock, &tasks, &metrics).await?;
    let storage = StateStorage::open(&settings, &services).await?;
    let authenticator = Arc::new(authenticator(&settings, &clock, &tasks)?);
    let limiters = limits::open(&settings, &storage, &clock, &services, &metrics)?;
    let events = events::open(&settings, &clock, &services, &metrics).await?;
    let catalog = catalog::open_catalog(&settings, &storage, &clock, http_client()?, &metrics)?;
    let shared =
        SharedServices { authenticator, cache: cache.clone(), limiters, clock: clock.clone(), tasks: tasks.clone() };
    let process = Arc::new(process(shared, catalog, events.as_ref()));
    let runtime = Runtime::build(runtime_settings(&settings), &process, |store| stores.signer(store))?;
    let runtime = Arc::new(ArcSwap::from_pointee(runtime));
    start_health_watch(&runtime, &storage, &tasks, &metrics).await?;
    let operations = cache.as_ref().map(|cache| cache::cache_operations(cache, &runtime));
    let dependencies = ModuleDependencies {
        storage: &storage,
        clock: &clock,
        tasks: &tasks,
        services: &services,
        metrics: &metrics,
        limiters: &process.limiters,
        stores: &stores,
    };
    let tracks = catalog::routes(&settings, &dependencies, &process, &runtime, operations.clone());
    let files = ReopenableFiles { events: events.as_ref().map(|events| events.events.clone()) };
    let StartedModules { routes: modules, active_sessions } =
        modules::start(&settings, &dependencies, events.as_ref(), tracks)?;
    let shared = RouterState {
        health: HealthService::new(Arc::new(ProcessHealth {
            events: events.map(|events| events.events),
            active_sessions,
            ..ProcessHealth::new(&runtime, &tasks, &storage, &workers)
        })),
        metrics: Arc::clone(&metrics),
        clock,
        admin_token: settings.admin.as_ref().and_then(|admin| admin.token.clone()),
        cache: operations,
        description: Arc::clone(&modules.description),
    };
    let (authenticator, limiters) = (Arc::clone(&process.authenticator), Arc::clone(&process.limiters));
    let service = module_service(router::public(shared.clone(), authenticator, limiters, modules.routes, extra));
    let paths = ModulePaths::new(modules.paths.iter().map(String::as_str));
    let gateway =
        Arc::new(Gateway::new(process, runtime, service, paths, Arc::clone(&metrics), settings.server.request_timeout));
    let admin = settings.admin.as_ref().map(|admin| serve_admin(admin, shared, &services)).transpose()?;
    let listeners = listener::start(&settings.server.http, &gateway, &workers, &metrics, &tasks)?;
    let grace = settings.server.http.shutdown_grace;
    Ok(RunningServer { listeners, admin, workers, tasks, services, grace, cache, storage, files })
}

/// Services of the process that no module owns.
struct SharedServices {
    authenticator: Arc<Authenticator>,
    cache: Option<Arc<SliceCache>>,
    limiters: Arc<RateLimiters>,
    clock: Clock,
    tasks: BackgroundTasks,
}

/// Everything that outlives a reload, as the proxy needs it.
fn process(shared: SharedServices, catalog: CatalogServices, events: Option<&EventServices>) -> Process {
    let SharedServices { authenticator, cache, limiters, clock, tasks } = shared;
    let CatalogServices { catalog, access_checkers, path_tokens, revocations } = catalog;
    let stream_observer = events.and_then(|events| events.stream_observer.clone());
    Process {
        authenticator,
        cache,
        limiters,
        catalog,
        access_checkers,
        path_tokens,
        revocations,
        stream_observer,
        clock,
        tasks,
    }
}

/// The part of the settings that a reload can change without a restart.
fn runtime_settings(settings: &Settings) -> RuntimeSettings {
    RuntimeSettings {
        server: settings.server.clone(),
        routes: settings.routes.clone(),
        clusters: settings.clusters.values().cloned().collect(),
        stores: settings.stores.clone(),
        token_sources: settings.auth.token_from.clone(),
        debug_token: settings.admin.as_ref().and_then(|admin| admin.token.clone()),
        access_fields: settings.telemetry.access_fields,
        end_revoked_streams: settings.auth.end_revoked_streams,
    }
}

/// Starts the watch over the dependencies, and registers the destinations in the metrics.
async fn start_health_watch(
    runtime: &Arc<ArcSwap<Runtime>>,
    storage: &StateStorage,
    tasks: &BackgroundTasks,
    metrics: &Metrics,
) -> Result<(), prometheus::Error> {
    watch::start(runtime, storage, tasks).await;
    metrics.register_upstreams(cluster_snapshot_source(runtime))
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
    let client = reqwest::Client::builder()
        .timeout(KEYS_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("tidegate");
    Ok(client.build()?)
}

fn authenticator(settings: &Settings, clock: &Clock, tasks: &BackgroundTasks) -> Result<Authenticator, StartError> {
    let tasks = tasks.clone();
    let spawner = Arc::new(move |task: BoxFuture<'static, ()>| tasks.spawn(task));
    Ok(Authenticator::new(&settings.auth, http_client()?, clock.clone(), spawner)?)
}

/// Reads the clusters of the runtime in force.
fn cluster_snapshot_source(runtime: &Arc<ArcSwap<Runtime>>) -> ClusterSnapshotSource {
    let runtime = Arc::clone(runtime);
    Box::new(move || cluster_snapshots(&runtime.load()))
}

/// Snapshot of the clusters for the metrics.
fn cluster_snapshots(runtime: &Runtime) -> Vec<ClusterSnapshot> {
    let now = monotonic_now();
    let destination = |member: &ClusterMember| {
        let (destination, health) = (Arc::clone(member.destination.id()), member.destination.health());
        let current = health.state(now);
        let states = HealthState::ALL.iter().map(|state| (state.name(), *state == current)).collect();
        DestinationSnapshot { destination, states, opened: health.breaker_openings() }
    };
    let cluster = |cluster: &Arc<Cluster>| ClusterSnapshot {
        cluster: Arc::clone(cluster.id()),
        retries_refused: cluster.retry_budget().exhausted(),
        destinations: cluster.members().iter().map(destination).collect(),
    };
    runtime.clusters().iter().map(cluster).collect()
}

fn serve_admin(admin: &AdminSettings, shared: RouterState, tasks: &BackgroundTasks) -> Result<SocketAddr, StartError> {
    let (socket, address) = listener::bind(admin.address)?;
    let failed = |source| ListenError::Bind { address, source };
    let socket = tokio::net::TcpListener::from_std(socket).map_err(failed)?;
    let stopping = tasks.clone();
    tasks.spawn(async move {
        let server = axum::serve(socket, router::admin(shared).into_make_service_with_connect_info::<SocketAddr>());
        if let Err(error) = server.with_graceful_shutdown(async move { stopping.stopping().await }).await {
            tracing::error!(%error, "the admin listener failed");
        }
    });
    Ok(address)
}
