//! The modules beside the proxy: each one's state is made here, and its paths go into the one router.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use utoipa_axum::router::OpenApiRouter;

use super::events::EventServices;
use super::health::ActiveSessions;
use super::schedules::ActionPerformer;
use super::storage::StateStorage;
use super::stores::OpenStores;
use super::{SharedServices, StartError};
use super::{backup, channels, lyrics, players, playlists, radio, recognition, schedules, telegram, vod};
use crate::config::Settings;
use crate::proxy::process::Process;
use crate::proxy::runtime::Runtime;
use ::vod::grant::GrantKeys;
use ::vod::session::FilmSessions;
use playback::positions::{self, PositionService};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes, limit_routes_with_admin_class};
use server_kit::api::router::ModuleRoutes;
use server_kit::api::usage;
use server_kit::auth::path_token::PathTokenSigner;
use server_kit::auth::revocation::TokenRevocations;
use server_kit::limit::RateLimiters;
use server_kit::telemetry::metrics::Metrics;

/// Services that the modules start with.
pub struct ModuleDependencies<'a> {
    /// The open connections.
    pub storage: &'a StateStorage,
    /// The time.
    pub clock: &'a Clock,
    /// Tasks that graceful shutdown waits for.
    pub tasks: &'a BackgroundTasks,
    /// Tasks that outlive the players' requests.
    pub services: &'a BackgroundTasks,
    /// The metrics.
    pub metrics: &'a Metrics,
    /// The rate limiters.
    pub limiters: &'a Arc<RateLimiters>,
    /// Logouts, where something ends with them.
    pub revocations: Option<&'a Arc<TokenRevocations>>,
    /// Keys of tokens in paths, where there are any.
    pub path_tokens: Option<&'a Arc<PathTokenSigner>>,
    /// The object stores.
    pub stores: &'a Arc<OpenStores>,
    /// File of the configuration, where there is one.
    pub config_file: Option<&'a Path>,
}

impl<'a> ModuleDependencies<'a> {
    /// Borrows them from the parts that hold them.
    pub(super) fn new(
        shared: &'a SharedServices,
        storage: &'a StateStorage,
        process: &'a Process,
        stores: &'a Arc<OpenStores>,
        config_file: Option<&'a Path>,
    ) -> Self {
        Self {
            storage,
            clock: &shared.clock,
            tasks: &shared.tasks,
            services: &shared.services,
            metrics: &shared.metrics,
            limiters: &process.limiters,
            revocations: process.revocations.as_ref(),
            path_tokens: process.path_tokens.as_ref(),
            stores,
            config_file,
        }
    }
}

/// The modules that run.
pub struct StartedModules {
    /// Their paths.
    pub routes: ModuleRoutes,
    /// The number of live sessions, where sharing is switched on.
    pub active_sessions: Option<ActiveSessions>,
}

/// Starts the modules that the settings switch on.
pub fn start(
    settings: &Settings,
    dependencies: &ModuleDependencies<'_>,
    events: Option<&EventServices>,
    films: Option<(FilmSessions, Arc<GrantKeys>)>,
    tracks: Vec<OpenApiRouter>,
    runtime: &Arc<ArcSwap<Runtime>>,
) -> Result<StartedModules, StartError> {
    let ModuleDependencies { storage, clock, services, metrics, limiters: limits, .. } = dependencies;
    let usage = usage::routes(Arc::clone(limits));
    let mut modules: Vec<OpenApiRouter> =
        vec![limit_routes_with_admin_class(usage, limits, RateLimitClass::STANDARD, usage::is_admin_request)];
    let positions = match settings.positions {
        Some(settings) => {
            let stores = (storage.database.clone(), storage.redis.clone());
            PositionService::start(settings, stores, clock, services, metrics.registry())?
        }
        None => None,
    };
    modules.extend(vod::start(settings, dependencies, events, films, positions.as_ref())?);
    modules.extend(
        positions
            .map(|positions| limit_routes(positions::routes(positions), limits, RateLimitClass::named("positions"))),
    );
    modules.extend(events.map(|events| {
        limit_routes(playback::reports::routes::routes(events.playback.clone()), limits, RateLimitClass::STANDARD)
    }));
    modules.extend(settings.player.as_ref().map(player_page::page_routes));
    let (players, player_routes) = players::start(settings, dependencies, events)?;
    modules.extend(player_routes);
    modules.extend(lyrics::start(settings, dependencies, runtime, events)?);
    #[cfg(feature = "share")]
    let relay = super::share::open(settings, dependencies)?;
    #[cfg(feature = "share")]
    let programs = relay.as_ref().map(super::share::programs);
    #[cfg(not(feature = "share"))]
    let programs = None;
    let (channels, channel_routes) = channels::start(settings, dependencies, runtime, programs)?;
    modules.extend(channel_routes);
    let (playlists, playlist_routes) = playlists::start(settings, dependencies)?;
    modules.extend(playlist_routes);
    modules.extend(recognition::start(settings, dependencies, runtime)?);
    let (radio, radio_routes) = radio::start(settings, dependencies, players.as_ref(), events)?;
    modules.extend(radio_routes);
    let performer = ActionPerformer { players, radio, channels, playlists };
    modules.extend(schedules::start(settings, dependencies, performer)?);
    modules.extend(backup::start(settings, dependencies)?);
    modules.extend(tracks);
    let of_users = telegram::start(settings, dependencies, runtime, &modules)?;
    modules.extend(of_users);
    #[cfg(feature = "share")]
    return Ok(super::share::mount(relay, dependencies, modules));
    #[cfg(not(feature = "share"))]
    Ok(StartedModules { routes: server_kit::api::router::modules(modules), active_sessions: None })
}
