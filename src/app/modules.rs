//! The modules beside the proxy: each one's state is made here, and its paths go into the one router.

use std::collections::HashMap;
use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::backing::Backing;
use super::events::Opened;
use super::process::ActiveSessions;
use crate::config::Settings;
use crate::proxy::world::Store;
use playback::positions::{self, PositionService};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes, limit_routes_with_admin_class};
use server_kit::api::router::{self, ModuleRoutes};
use server_kit::api::usage;
use server_kit::limit::RateLimiters;
use server_kit::telemetry::metrics::Metrics;

/// What the modules start with.
#[cfg_attr(not(feature = "share"), expect(dead_code, reason = "sharing needs all of them"))]
pub struct Means<'a> {
    /// The open connections.
    pub backing: &'a Backing,
    /// The time.
    pub clock: &'a Clock,
    /// What players wait for.
    pub tasks: &'a BackgroundTasks,
    /// What outlives the players' requests.
    pub services: &'a BackgroundTasks,
    /// Where they count.
    pub metrics: &'a Metrics,
    /// What callers may.
    pub limits: &'a Arc<RateLimiters>,
    /// The stores, by name.
    pub stores: &'a HashMap<Arc<str>, Store>,
}

/// The modules that run.
pub struct Started {
    /// Their paths.
    pub modules: ModuleRoutes,
    /// The number of live sessions, where sharing is switched on.
    pub active_sessions: Option<ActiveSessions>,
}

/// Starts the modules that the settings switch on.
pub fn start(
    settings: &Settings,
    means: &Means<'_>,
    events: Option<&Opened>,
    tracks: Vec<OpenApiRouter>,
) -> Result<Started, StartError> {
    let Means { backing, clock, services, metrics, limits, .. } = means;
    let usage = usage::routes(Arc::clone(limits));
    let mut modules: Vec<OpenApiRouter> =
        vec![limit_routes_with_admin_class(usage, limits, RateLimitClass::STANDARD, usage::is_admin_request)];
    if let Some(settings) = settings.positions {
        let stores = (backing.database.clone(), backing.redis.clone());
        let positions = PositionService::start(settings, stores, clock, services, metrics.registry())?;
        modules.extend(
            positions.map(|positions| {
                limit_routes(positions::routes(positions), limits, RateLimitClass::named("positions"))
            }),
        );
    }
    modules.extend(events.map(|events| {
        limit_routes(playback::reports::routes::routes(events.playback.clone()), limits, RateLimitClass::STANDARD)
    }));
    modules.extend(tracks);
    #[cfg(feature = "share")]
    let active_sessions = super::share::start(settings, means, &mut modules)?;
    #[cfg(not(feature = "share"))]
    let active_sessions = None;
    Ok(Started { modules: router::modules(modules), active_sessions })
}
