//! The modules beside the proxy: each one's state is made here, and its paths go into the one router.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::backing::Backing;
use crate::api::router::{self, Modules};
use crate::clock::Clock;
use crate::config::Settings;
use crate::lifecycle::Tasks;
use crate::relay::{self, Relay};
use crate::telemetry::metrics::Metrics;

/// The modules that run.
pub struct Started {
    /// Their paths.
    pub modules: Modules,
    /// Sharing, where it is switched on: health tells of it.
    pub relay: Option<Arc<Relay>>,
}

/// Starts the modules that the settings switch on.
pub fn start(
    settings: &Settings,
    _backing: &Backing,
    clock: &Clock,
    tasks: &Tasks,
    metrics: &Metrics,
) -> Result<Started, StartError> {
    let mut modules: Vec<OpenApiRouter> = Vec::new();
    let share = settings.share.clone();
    let relay = share.map(|share| Relay::start(share, clock.clone(), tasks, metrics.registry())).transpose()?;
    modules.extend(relay.clone().map(relay::routes));
    Ok(Started { modules: router::modules(modules), relay })
}
