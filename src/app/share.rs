//! Live sharing, where it is switched on.

use std::sync::Arc;

use share::{RecordingUploader, Relay};
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::Means;
use super::process::ActiveSessions;
use crate::config::Settings;
use server_kit::api::rate_limit_layer::limit_routes;

/// Starts it, adds its paths to `modules`, and returns the number of its live sessions for health.
pub fn start(
    settings: &Settings,
    means: &Means<'_>,
    modules: &mut Vec<OpenApiRouter>,
) -> Result<Option<ActiveSessions>, StartError> {
    let Some(settings) = settings.share.clone() else { return Ok(None) };
    let recording = settings.recording.clone();
    let signer = recording.as_ref().and_then(|recording| means.stores.get(&recording.store));
    let signer = signer.map(|store| Arc::clone(&store.signer));
    let depot =
        recording.zip(signer).map(|(settings, signer)| RecordingUploader::open(settings, signer)).transpose()?;
    let (redis, registry) = (means.backing.redis.as_ref(), means.metrics.registry());
    let relay = Relay::start(settings, redis, means.clock.clone(), means.tasks, registry, depot)?;
    modules.push(share::routes(Arc::clone(&relay), |routes, class| limit_routes(routes, means.limits, class)));
    Ok(Some(Arc::new(move || relay.active_sessions())))
}
