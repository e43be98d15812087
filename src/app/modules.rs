//! The modules beside the proxy: each one's state is made here, and its paths go into the one router.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::backing::Backing;
use crate::api::limits::{Class, limited};
use crate::api::router::{self, Modules};
use crate::api::usage;
use crate::config::Settings;
use crate::limit::Limits;

/// Starts the modules that the settings switch on.
pub fn start(_settings: &Settings, _backing: &Backing, limits: &Arc<Limits>) -> Result<Modules, StartError> {
    let modules: Vec<OpenApiRouter> = vec![limited(usage::routes(Arc::clone(limits)), limits, Class::STANDARD)];
    Ok(router::modules(modules))
}
