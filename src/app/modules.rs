//! The modules beside the proxy: each one's state is made here, and its paths go into the one router.

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::backing::Backing;
use super::events::Opened;
use crate::api::router::{self, Modules};
use crate::config::Settings;
use crate::playback;

/// Starts the modules that the settings switch on.
pub fn start(_settings: &Settings, _backing: &Backing, events: Option<&Opened>) -> Result<Modules, StartError> {
    let mut modules: Vec<OpenApiRouter> = Vec::new();
    modules.extend(events.map(|events| playback::routes::routes(events.playback.clone())));
    Ok(router::modules(modules))
}
