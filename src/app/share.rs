//! Live sharing, where it is switched on.

use std::sync::Arc;

use share::{RecordingUploader, Relay};
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::{ModuleDependencies, StartedModules};
use crate::config::Settings;
use server_kit::api::rate_limit_layer::limit_routes;
use server_kit::api::router;

/// Starts it beside `modules`. Its number of live sessions is for health.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    mut modules: Vec<OpenApiRouter>,
) -> Result<StartedModules, StartError> {
    let Some(settings) = all.share.clone() else {
        return Ok(StartedModules { routes: router::modules(modules), active_sessions: None });
    };
    let recording = settings.recording.clone();
    let store = recording.as_ref().and_then(|recording| all.stores.iter().find(|store| store.name == recording.store));
    let signer = store.map(|store| dependencies.stores.signer(store)).transpose()?;
    let depot =
        recording.zip(signer).map(|(settings, signer)| RecordingUploader::open(settings, signer)).transpose()?;
    let (redis, registry) = (dependencies.storage.redis.as_ref(), dependencies.metrics.registry());
    let relay = Relay::start(settings, redis, dependencies.clock.clone(), dependencies.tasks, registry, depot)?;
    modules.push(share::routes(Arc::clone(&relay), |routes, class| limit_routes(routes, dependencies.limiters, class)));
    let mut routes = router::modules(modules);
    let second: Vec<String> = routes.paths.iter().filter_map(|path| share::second_path(path)).collect();
    routes.paths.extend(second);
    Ok(StartedModules { routes, active_sessions: Some(Arc::new(move || relay.active_sessions())) })
}
