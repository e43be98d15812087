//! Live sharing, where it is switched on.

use std::sync::Arc;

use share::{RecordingUploader, Relay};
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::health::ActiveSessions;
use super::modules::ModuleDependencies;
use crate::config::Settings;
use server_kit::api::rate_limit_layer::limit_routes;

/// Starts it, adds its paths to `modules`, and returns the number of its live sessions for health.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    modules: &mut Vec<OpenApiRouter>,
) -> Result<Option<ActiveSessions>, StartError> {
    let Some(settings) = all.share.clone() else { return Ok(None) };
    let recording = settings.recording.clone();
    let store = recording.as_ref().and_then(|recording| all.stores.iter().find(|store| store.name == recording.store));
    let signer = store.map(|store| dependencies.stores.signer(store)).transpose()?;
    let depot =
        recording.zip(signer).map(|(settings, signer)| RecordingUploader::open(settings, signer)).transpose()?;
    let (redis, registry) = (dependencies.storage.redis.as_ref(), dependencies.metrics.registry());
    let relay = Relay::start(settings, redis, dependencies.clock.clone(), dependencies.tasks, registry, depot)?;
    modules.push(share::routes(Arc::clone(&relay), |routes, class| limit_routes(routes, dependencies.limiters, class)));
    Ok(Some(Arc::new(move || relay.active_sessions())))
}
