//! Events, composed: the outbox opened, playback over it, and the proxy's streams tied to playback where the settings
//! say so.

use std::sync::Arc;

use super::StartError;
use crate::config::Settings;
use crate::proxy::audience::{Audience, Ending};
use events::Events;
use playback::reports::Playback;
use playback::reports::streams::{Heard, Listening, What};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;

/// What there is where the settings name events.
pub struct Opened {
    /// Takes events.
    pub events: Events,
    /// Takes those of playback.
    pub playback: Playback,
    /// Is told of streams.
    pub audience: Option<Arc<dyn Audience>>,
}

/// Opens the outbox; `services` deliver from it until the last stream has ended.
pub async fn open(
    settings: &Settings,
    clock: &Clock,
    services: &BackgroundTasks,
    metrics: &Metrics,
) -> Result<Option<Opened>, StartError> {
    let Some((settings, playback)) = &settings.events else { return Ok(None) };
    let events = Events::open(settings, services, metrics.registry()).await?;
    let from_streams = playback.from_streams;
    let playback = Playback::new(playback, events.clone(), clock.clone());
    let audience: Option<Arc<dyn Audience>> = match from_streams {
        true => Some(Arc::new(Ears(Listening::start(playback.clone(), services)))),
        false => None,
    };
    Ok(Some(Opened { events, playback, audience }))
}

struct Ears(Listening);

impl Audience for Ears {
    fn began(&self, user: &str, track: &str) {
        self.0.tell(Heard { user: user.into(), track: track.into(), what: What::Began });
    }

    fn ended(&self, user: &str, track: &str, Ending { sent, size, last }: Ending) {
        self.0.tell(Heard { user: user.into(), track: track.into(), what: What::Ended { sent, size, last } });
    }
}
