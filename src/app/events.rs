//! Events, composed: the outbox opened, playback over it, and the proxy's streams tied to playback where the settings
//! say so.

use std::sync::Arc;

use super::StartError;
use crate::config::Settings;
use crate::proxy::audience::{Audience, Ending};
use events::EventPublisher;
use playback::reports::PlaybackReporter;
use playback::reports::stream_follower::{StreamEvent, StreamEventKind, StreamFollower};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;

/// What there is where the settings name events.
pub struct Opened {
    /// Takes events.
    pub events: EventPublisher,
    /// Takes those of playback.
    pub playback: PlaybackReporter,
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
    let events = EventPublisher::open(settings, services, metrics.registry()).await?;
    let from_streams = playback.from_streams;
    let playback = PlaybackReporter::new(playback, events.clone(), clock.clone());
    let audience: Option<Arc<dyn Audience>> = match from_streams {
        true => Some(Arc::new(Ears(StreamFollower::start(playback.clone(), services)))),
        false => None,
    };
    Ok(Some(Opened { events, playback, audience }))
}

struct Ears(StreamFollower);

impl Audience for Ears {
    fn began(&self, user: &str, track: &str) {
        self.0.notify(StreamEvent { user: user.into(), track: track.into(), kind: StreamEventKind::Started });
    }

    fn ended(&self, user: &str, track: &str, Ending { sent, size, last }: Ending) {
        self.0.notify(StreamEvent {
            user: user.into(),
            track: track.into(),
            kind: StreamEventKind::Ended { sent, size, last },
        });
    }
}
