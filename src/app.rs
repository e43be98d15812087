//! The composition root: the only file that knows every module. Settings in, a running server out.

mod backing;
mod cache;
mod embedded;
mod events;
mod limits;
pub mod listing;
mod modules;
mod process;
#[cfg(feature = "share")]
mod share;
mod tracks;
mod watch;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use futures::future::BoxFuture;
use tower::ServiceExt;

use self::backing::Backing;
use self::modules::{Means, Started};
use self::process::Process;
use crate::config::Settings;
use crate::proxy::Gateway;
use crate::proxy::inside::{Inside, ModulePaths};
use crate::proxy::settings::Admin;
use crate::proxy::world::{Parts, Store, World, WorldError};
use ::events::EventPublisher;
use http_server::listener::{self, ListenError};
use http_server::workers::Workers;
use object_engine::cache::{CacheError, SliceCache};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::settings::{self, StoreEndpoint};
use s3::signer::Signer;
use server_kit::api::health::HealthService;
use server_kit::api::router::{self, RouterState};
use server_kit::auth::{Authenticator, InvalidIssuerKey};
use server_kit::database;
use server_kit::redis;
use server_kit::telemetry::metrics::Metrics;
use server_kit::telemetry::upstream_metrics::{ClusterSnapshot, ClusterSnapshotSource, DestinationSnapshot};
use upstream::cluster::{Cluster, ClusterMember};
use upstream::health::HealthState;

/// For the exchanges under way of what has nobody to serve any more.
const SERVICES_GRACE: Duration = Duration::from_secs(1);
/// For an issuer's keys, connection and answer together.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

/// For the threads that serve clients to drop what they still serve.
const WORKERS_TIME: Duration = Duration::from_secs(1);
/// For the disk cache to write what it was given last.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address or a certificate.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A route.
    #[error(transparent)]
    World(#[from] WorldError),
    /// An issuer of tokens.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuerKey),
    /// The folder of an embedded store.
    #[error("the embedded store `{name}` cannot be opened: {source}")]
    Embedded {
        /// The store's name.
        name: Arc<str>,
        /// What is wrong with the folder.
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
pub struct Running {
    /// Where players connect, in the order of the settings.
    pub listeners: Vec<SocketAddr>,
    /// Where the operator connects.
    pub admin: Option<SocketAddr>,
    /// The threads that serve clients.
    workers: Arc<Workers>,
    /// What players wait for.
    tasks: BackgroundTasks,
    /// What has to outlive it: the operator's view of the drain, and embedded stores.
    services: BackgroundTasks,
    grace: Duration,
    cache: Option<Arc<SliceCache>>,
    backing: Backing,
    files: OpenFiles,
}

/// The files that are opened anew when an operator has moved them away. Clones are the same files.
#[derive(Clone)]
pub struct OpenFiles {
    events: Option<EventPublisher>,
}

impl OpenFiles {
    /// Opens them anew; log files would be too.
    pub fn reopen(&self) {
        if let Some(events) = &self.events {
            events.reopen();
        }
    }
}

impl Running {
    /// What is opened anew at a signal.
    pub fn files(&self) -> OpenFiles {
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
        self.backing.close().await;
        whole
    }
}

/// Starts everything that `settings` ask for; `extra` are further pages on the players' listeners.
pub async fn start(settings: Settings, extra: Router) -> Result<Running, StartError> {
    let (clock, metrics, tasks, services) =
        (Clock::system(), metrics()?, BackgroundTasks::default(), BackgroundTasks::default());
    let workers = Arc::new(Workers::start(settings.server.http.threads).map_err(ListenError::Workers)?);
    let debug_token = settings.admin.as_ref().and_then(|admin| admin.token.clone());
    let stores = open_stores(&settings.stores, &clock, &services).await?;
    let cache = cache::open(&settings, &clock, &tasks, &metrics).await?;
    let backing = Backing::open(&settings, &services).await?;
    let authenticator = Arc::new(authenticator(&settings, &clock, &tasks)?);
    let limits = limits::open(&settings, &backing, &clock, &services, &metrics)?;
    let events = events::open(&settings, &clock, &services, &metrics).await?;
    let shared_tracks = tracks::share(&settings, &backing, &clock, &client()?, &metrics)?;
    let means = Means {
        backing: &backing,
        clock: &clock,
        tasks: &tasks,
        services: &services,
        metrics: &metrics,
        limits: &limits,
        stores: &stores,
    };
    let parts = Parts {
        stores: stores.clone(),
        authenticator: Arc::clone(&authenticator),
        token_sources: settings.auth.token_from.clone(),
        cache: cache.clone(),
        limits: Arc::clone(&limits),
        catalog: shared_tracks.catalog.clone(),
        guards: shared_tracks.guards.clone(),
        debug_token: debug_token.clone(),
        audience: events.as_ref().and_then(|events| events.audience.clone()),
        access_fields: settings.telemetry.access_fields,
        clock: clock.clone(),
        tasks: tasks.clone(),
    };
    let world = World::build(settings.server.clone(), settings.routes.clone(), &settings.clusters, parts)?;
    let world = Arc::new(ArcSwap::from_pointee(world));
    observe(&world, &backing, &tasks, &metrics).await?;
    let operations = cache.as_ref().map(|cache| cache::operations(cache, &world));
    let tracks = tracks::routes(&settings, &means, &shared_tracks, &world, operations.clone());
    let files = OpenFiles { events: events.as_ref().map(|events| events.events.clone()) };
    let Started { modules, active_sessions } = modules::start(&settings, &means, events.as_ref(), tracks)?;
    let shared = RouterState {
        health: HealthService::new(Arc::new(Process {
            events: events.map(|events| events.events),
            active_sessions,
            ..Process::new(&world, &tasks, &backing, &workers)
        })),
        metrics: Arc::clone(&metrics),
        clock,
        admin_token: debug_token,
        cache: operations,
        description: Arc::clone(&modules.description),
    };
    let inside = service(router::public(shared.clone(), authenticator, limits, modules.routes, extra));
    let gateway = Arc::new(Gateway::new(Arc::clone(&world), inside, own_paths(&modules.paths), Arc::clone(&metrics)));
    let admin = settings.admin.as_ref().map(|admin| serve_admin(admin, shared, &services)).transpose()?;
    let listeners = listener::start(&settings.server.http, &gateway, &workers, &metrics, &tasks)?;
    let grace = settings.server.http.shutdown_grace;
    Ok(Running { listeners, admin, workers, tasks, services, grace, cache, backing, files })
}

/// Has the dependencies watched, and the destinations shown in the metrics.
async fn observe(
    world: &Arc<ArcSwap<World>>,
    backing: &Backing,
    tasks: &BackgroundTasks,
    metrics: &Metrics,
) -> Result<(), prometheus::Error> {
    watch::start(world, backing, tasks).await;
    metrics.register_upstreams(reader(world))
}

/// The paths that the modules answer, of these templates.
fn own_paths(templates: &[String]) -> ModulePaths {
    #[cfg(feature = "share")]
    let second: Vec<String> = templates.iter().filter_map(|template| ::share::second_path(template)).collect();
    #[cfg(not(feature = "share"))]
    let second: Vec<String> = Vec::new();
    ModulePaths::new(templates.iter().chain(&second).map(String::as_str))
}

/// The modules as the proxy calls them.
fn service(modules: Router) -> Inside {
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

/// For questions to other services: keys, access.
fn client() -> Result<reqwest::Client, StartError> {
    let client = reqwest::Client::builder()
        .timeout(KEYS_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("tidegate");
    Ok(client.build()?)
}

fn authenticator(settings: &Settings, clock: &Clock, tasks: &BackgroundTasks) -> Result<Authenticator, StartError> {
    let tasks = tasks.clone();
    let spawner = Arc::new(move |task: BoxFuture<'static, ()>| tasks.spawn(task));
    Ok(Authenticator::new(&settings.auth, client()?, clock.clone(), spawner)?)
}

async fn open_stores(
    stores: &[settings::StoreSettings],
    clock: &Clock,
    tasks: &BackgroundTasks,
) -> Result<HashMap<Arc<str>, Store>, StartError> {
    let mut opened = HashMap::new();
    for store in stores {
        let (store, endpoint) = match &store.endpoint {
            StoreEndpoint::Remote(url) => (store.clone(), url.clone()),
            StoreEndpoint::Embedded(folder) => embedded::open(store, folder, clock, tasks)?,
        };
        let name = Arc::clone(&store.name);
        let signer = Arc::new(Signer::new(store, endpoint, clock.clone()));
        opened.insert(name, Store { signer });
    }
    Ok(opened)
}

/// Reads the clusters of the world in force.
fn reader(world: &Arc<ArcSwap<World>>) -> ClusterSnapshotSource {
    let world = Arc::clone(world);
    Box::new(move || readings(&world.load()))
}

/// What metrics say of the clusters.
fn readings(world: &World) -> Vec<ClusterSnapshot> {
    let now = Instant::now();
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
    world.clusters().iter().map(cluster).collect()
}

fn serve_admin(admin: &Admin, shared: RouterState, tasks: &BackgroundTasks) -> Result<SocketAddr, StartError> {
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
