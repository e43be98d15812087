//! Playback reports: Start, Pause, Resume, Seek, Complete. Takes them from players over the API, or derives Start and
//! Complete from the streams, and publishes them. Knows nothing of where events go, and nothing of streams but the
//! events of [`stream_follower::StreamFollower`].

mod event_ids;
pub mod routes;
pub mod settings;
pub mod stream_follower;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use event_ids::EventIdRegistry;
use events::{Event, EventPublisher, PublishError, event_id};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::api::timestamps::with_offset;
use settings::Settings;

/// Time by which a player's clock may be ahead.
const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(300);
/// Time for which the ids that players sent are remembered.
const EVENT_ID_TTL: Duration = Duration::from_secs(600);
/// Ids per generation; at most twice as many are remembered.
const MAX_EVENT_IDS: usize = 50_000;

/// Action of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum PlaybackAction {
    /// Playback begins.
    Start,
    /// Playback is paused.
    Pause,
    /// Playback continues after a pause.
    Resume,
    /// The position is changed.
    Seek,
    /// The track was heard to its end.
    Complete,
}

/// The event as it is published (document 000, 5.5.3).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlaybackEvent<'a> {
    track_id: &'a str,
    user_id: &'a str,
    action: PlaybackAction,
    position_ms: u64,
    timestamp: String,
}

/// Report of a player.
pub struct PlaybackReport {
    /// The action.
    pub action: PlaybackAction,
    /// Position in the track, in milliseconds.
    pub position_ms: u64,
    /// Time by the player's clock; `None` is now.
    pub timestamp: Option<Timestamp>,
    /// Id that the player gave to it; the same id twice is one event.
    pub id: Option<Uuid>,
}

/// Reason for which a report is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Its time is too far in the future.
    #[error("`timestamp` is more than five minutes ahead of the server's clock")]
    ClockAhead,
    /// It cannot be stored at the moment.
    #[error(transparent)]
    Refused(#[from] PublishError),
}

/// Publishes playback events. Clones share it.
#[derive(Clone)]
pub struct PlaybackReporter {
    events: EventPublisher,
    clock: Clock,
    topic: Arc<str>,
    event_ids: Arc<EventIdRegistry>,
}

impl PlaybackReporter {
    /// Creates a reporter that publishes to `events`.
    pub fn new(settings: &Settings, events: EventPublisher, clock: Clock) -> Self {
        let ids = Arc::new(EventIdRegistry::new(MAX_EVENT_IDS, EVENT_ID_TTL));
        Self { events, clock, topic: Arc::clone(&settings.topic), event_ids: ids }
    }

    /// Publishes all of `reports` by `user` on `track`, or none; returns the number of new ones.
    pub async fn report(
        &self,
        user: &UserId,
        track: &TrackId,
        reports: &[PlaybackReport],
    ) -> Result<usize, ReportError> {
        let (user, track) = (user.as_str(), track.as_str());
        let now = self.clock.now();
        let latest = timestamp(now + MAX_CLOCK_AHEAD);
        if reports.iter().any(|report| report.timestamp.is_some_and(|at| at > latest)) {
            return Err(ReportError::ClockAhead);
        }
        // An id counts as seen only once its event is stored: after a 503 the player sends it again.
        let given = reports.iter().filter_map(|report| report.id).map(|id| self.event_ids.key(user, id));
        let claim = self.event_ids.claim(given).await;
        // One request may repeat an id; the claim cannot tell, since both are fresh.
        let mut told = HashSet::new();
        let mut is_fresh = |report: &&PlaybackReport| {
            report.id.is_none_or(|id| claim.is_fresh(self.event_ids.key(user, id)) && told.insert(id))
        };
        let fresh: Vec<&PlaybackReport> = reports.iter().filter(|report| is_fresh(report)).collect();
        let events: Vec<Event> = fresh.iter().filter_map(|report| self.event(user, track, report, now)).collect();
        if !events.is_empty() {
            self.events.publish(&events).await?;
        }
        claim.commit(now);
        Ok(events.len())
    }

    fn event(&self, user: &str, track: &str, report: &PlaybackReport, now: SystemTime) -> Option<Event> {
        let body = PlaybackEvent {
            track_id: track,
            user_id: user,
            action: report.action,
            position_ms: report.position_ms,
            timestamp: with_offset(millis(report.timestamp.unwrap_or_else(|| timestamp(now)))),
        };
        let id = report.id.unwrap_or_else(|| event_id(millis(timestamp(now))));
        Event::new(id, Arc::clone(&self.topic), user, &body).ok()
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

fn millis(time: Timestamp) -> UnixMillis {
    UnixMillis::new(time.as_millisecond())
}
