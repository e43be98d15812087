//! Events of listening to stations: Start and Stop, keyed by the user. A stream never waits for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::metrics::StreamEnd;
use events::{Event, EventPublisher, event_id};
use primitives::clock::{Clock, monotonic_now};
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::timestamps::with_offset;

/// Events that wait for the outbox; one beyond them is lost, and counted.
const QUEUE_CAPACITY: usize = 4096;
/// Most events that are written together.
const BATCH: usize = 128;

/// What a listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum ListeningAction {
    /// The sound begins.
    Start,
    /// The stream has ended.
    Stop,
}

/// Body of an event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListeningEvent<'a> {
    station_id: Uuid,
    user_id: &'a str,
    action: ListeningAction,
    /// The same in the Start and the Stop of one stream.
    listening_id: Uuid,
    listened_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    timestamp: String,
}

/// Publishes events of listening. Clones share it.
#[derive(Clone)]
pub struct ListeningReporter {
    queue: mpsc::Sender<Event>,
    events: EventPublisher,
    topic: Arc<str>,
    clock: Clock,
}

/// One stream of a user, from its Start on.
pub struct Listening {
    reporter: ListeningReporter,
    station: Uuid,
    user: UserId,
    id: Uuid,
    begun: Instant,
}

impl ListeningReporter {
    /// Creates a reporter that publishes to `topic`, by a task among `tasks`, which must outlive the streams.
    pub fn start(events: EventPublisher, topic: Arc<str>, clock: Clock, tasks: &BackgroundTasks) -> Self {
        let (queue, told) = mpsc::channel(QUEUE_CAPACITY);
        tasks.spawn(publish(told, events.clone(), tasks.clone()));
        Self { queue, events, topic, clock }
    }

    /// Publishes that a user begins to hear a station.
    pub fn begin(&self, station: Uuid, user: UserId) -> Listening {
        let id = event_id(self.clock.unix_millis());
        let listening = Listening { reporter: self.clone(), station, user, id, begun: monotonic_now() };
        listening.send(id, ListeningAction::Start, Duration::ZERO, None);
        listening
    }
}

impl Listening {
    /// Publishes that the stream has ended.
    pub fn end(self, end: StreamEnd) {
        let listened = monotonic_now().saturating_duration_since(self.begun);
        let id = event_id(self.reporter.clock.unix_millis());
        self.send(id, ListeningAction::Stop, listened, Some(end.name()));
    }

    fn send(&self, id: Uuid, action: ListeningAction, listened: Duration, reason: Option<&'static str>) {
        let reporter = &self.reporter;
        let body = ListeningEvent {
            station_id: self.station,
            user_id: self.user.as_str(),
            action,
            listening_id: self.id,
            listened_ms: u64::try_from(listened.as_millis()).unwrap_or(u64::MAX),
            reason,
            timestamp: with_offset(reporter.clock.unix_millis()),
        };
        let event = Event::new(id, Arc::clone(&reporter.topic), self.user.as_str(), &body);
        let is_queued = event.is_ok_and(|event| reporter.queue.try_send(event).is_ok());
        if !is_queued {
            reporter.events.record_lost(1);
        }
    }
}

/// Publishes what is queued, many together: a station that goes away ends all its listeners at once.
async fn publish(mut told: mpsc::Receiver<Event>, events: EventPublisher, tasks: BackgroundTasks) {
    let mut batch = Vec::new();
    let mut is_stopping = false;
    loop {
        tokio::select! {
            biased;
            count = told.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                events.publish_all_or_drop(&batch).await;
                batch.clear();
            }
            // Closed and not dropped: what is queued is still taken.
            () = tasks.stopping(), if !is_stopping => {
                is_stopping = true;
                told.close();
            }
        }
    }
}
