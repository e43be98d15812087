//! Events, composed: the outbox opened, playback over it, and the proxy's streams tied to playback where the settings
//! say so.

use std::sync::Arc;

use super::StartError;
use super::upgrade::PredecessorProcess;
use crate::config::Settings;
use crate::proxy::stream_observer::{StreamEnd, StreamObserver};
use events::EventPublisher;
use playback::reports::PlaybackReporter;
use playback::reports::stream_follower::{StreamEvent, StreamEventKind, StreamFollower};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;

/// Services that run where the settings name events.
pub struct EventServices {
    /// Takes events.
    pub events: EventPublisher,
    /// Takes those of playback.
    pub playback: PlaybackReporter,
    /// Observer of streams.
    pub stream_observer: Option<Arc<dyn StreamObserver>>,
}

/// Opens the outbox; `services` deliver from it until the last stream has ended. While `predecessor` still has it, events
/// are given to that process.
pub async fn open(
    settings: &Settings,
    clock: &Clock,
    services: &BackgroundTasks,
    metrics: &Metrics,
    predecessor: Option<&PredecessorProcess>,
) -> Result<Option<EventServices>, StartError> {
    let Some((settings, playback)) = &settings.events else { return Ok(None) };
    let events = match predecessor {
        None => EventPublisher::open(settings, services, metrics.registry()).await?,
        Some(former) => EventPublisher::open_after(settings, Box::new(former.clone()), services, metrics.registry())?,
    };
    let from_streams = playback.from_streams;
    let playback = PlaybackReporter::new(playback, events.clone(), clock.clone());
    let stream_observer: Option<Arc<dyn StreamObserver>> = match from_streams {
        true => Some(Arc::new(StreamEventForwarder(StreamFollower::start(playback.clone(), services)))),
        false => None,
    };
    Ok(Some(EventServices { events, playback, stream_observer }))
}

struct StreamEventForwarder(StreamFollower);

impl StreamObserver for StreamEventForwarder {
    fn stream_started(&self, user: &str, track: &str) {
        self.0.notify(StreamEvent { user: user.into(), track: track.into(), kind: StreamEventKind::Started });
    }

    fn stream_ended(
        &self,
        user: &str,
        track: &str,
        StreamEnd { bytes_sent: sent, object_size: size, reached_end: last }: StreamEnd,
    ) {
        self.0.notify(StreamEvent {
            user: user.into(),
            track: track.into(),
            kind: StreamEventKind::Ended { sent, size, last },
        });
    }
}
