//! The modules beside the proxy: each one's state is made here, and its paths go into the one router.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::backing::Backing;
use super::events::Opened;
use crate::config::Settings;
use playback::positions::{self, Positions};
use primitives::clock::Clock;
use primitives::lifecycle::Tasks;
use s3::signer::Signer;
use server_kit::api::limits::{Class, limited};
use server_kit::api::router::{self, Modules};
use server_kit::api::usage;
use server_kit::limit::Limits;
use server_kit::telemetry::metrics::Metrics;
use share::{self, RecordingUploader, Relay};

/// What the modules start with.
pub struct Means<'a> {
    /// The open connections.
    pub backing: &'a Backing,
    /// The time.
    pub clock: &'a Clock,
    /// What players wait for.
    pub tasks: &'a Tasks,
    /// What outlives the players' requests.
    pub services: &'a Tasks,
    /// Where they count.
    pub metrics: &'a Metrics,
    /// What callers may.
    pub limits: &'a Arc<Limits>,
    /// Who signs for the store that sessions are recorded into.
    pub recordings: Option<Arc<Signer>>,
}

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
    means: &Means<'_>,
    events: Option<&Opened>,
    tracks: Vec<OpenApiRouter>,
) -> Result<Started, StartError> {
    let Means { backing, clock, tasks, services, metrics, limits, recordings } = means;
    let mut modules: Vec<OpenApiRouter> = vec![limited(usage::routes(Arc::clone(limits)), limits, Class::STANDARD)];
    if let Some(settings) = settings.positions {
        let stores = (backing.database.clone(), backing.redis.clone());
        let positions = Positions::start(settings, stores, clock, services, metrics.registry())?;
        modules.extend(
            positions.map(|positions| limited(positions::routes(positions), limits, Class::named("positions"))),
        );
    }
    modules
        .extend(events.map(|events| {
            limited(playback::reports::routes::routes(events.playback.clone()), limits, Class::STANDARD)
        }));
    modules.extend(tracks);
    let recording = settings.share.as_ref().and_then(|share| share.recording.clone());
    let uploader = recording
        .zip(recordings.clone())
        .map(|(settings, signer)| RecordingUploader::open(settings, signer))
        .transpose()?;
    let share = settings.share.clone();
    let redis = backing.redis.as_ref();
    let relay = share
        .map(|share| Relay::start(share, redis, (*clock).clone(), tasks, metrics.registry(), uploader))
        .transpose()?;
    modules.extend(relay.clone().map(|relay| share::routes(relay, |routes, class| limited(routes, limits, class))));
    Ok(Started { modules: router::modules(modules), relay })
}
