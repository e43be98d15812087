//! The modules beside the proxy: each one's state is made here, and its paths go into the one router.

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::backing::Backing;
use crate::api::router::{self, Modules};
use crate::config::Settings;

/// Starts the modules that the settings switch on.
pub fn start(_settings: &Settings, _backing: &Backing, tracks: Vec<OpenApiRouter>) -> Result<Modules, StartError> {
    let modules: Vec<OpenApiRouter> = tracks;
    Ok(router::modules(modules))
}
