//! What listeners do with tracks: Start, Pause, Resume, Seek, Complete. Takes it from players over the API, or finds
//! Start and Complete in the streams, and publishes it. Knows nothing of where events go, and nothing of streams but
//! what [`stream_follower::StreamFollower`] is told.

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
use uuid::{NoContext, Uuid};

use event_ids::EventIdRegistry;
use events::{Event, EventPublisher, PublishError};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use settings::Settings;

/// How far a player's clock may be ahead.
const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(300);
/// For what is remembered of the ids that players gave.
const EVENT_ID_TTL: Duration = Duration::from_secs(600);
/// Ids that are remembered, at most twice as many.
const MAX_EVENT_IDS: usize = 50_000;

/// What a listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum PlaybackAction {
    /// Begins to play.
    Start,
    /// Halts.
    Pause,
    /// Goes on.
    Resume,
    /// Goes to another place.
    Seek,
    /// Has heard it to its end.
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

/// What a player reports, in order.
pub struct PlaybackReport {
    /// What happened.
    pub action: PlaybackAction,
    /// Where in the track.
    pub position_ms: u64,
    /// When, by the player's clock; `None`: now.
    pub timestamp: Option<Timestamp>,
    /// The player's own id for it: given twice, it happened once.
    pub id: Option<Uuid>,
}

/// Why a report is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Its time is to come.
    #[error("`timestamp` is more than five minutes ahead of the server's clock")]
    ClockAhead,
    /// It cannot be kept at the moment.
    #[error(transparent)]
    Refused(#[from] PublishError),
}

/// Takes playback events. Clones share it.
#[derive(Clone)]
pub struct PlaybackReporter {
    events: EventPublisher,
    clock: Clock,
    topic: Arc<str>,
    event_ids: Arc<EventIdRegistry>,
}

impl PlaybackReporter {
    /// Publishes to `events`.
    pub fn new(settings: &Settings, events: EventPublisher, clock: Clock) -> Self {
        let ids = Arc::new(EventIdRegistry::new(MAX_EVENT_IDS, EVENT_ID_TTL));
        Self { events, clock, topic: Arc::clone(&settings.topic), event_ids: ids }
    }

    /// Takes all of `reports` on what `user` does with `track`, or none; gives how many were new.
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
        // An id counts as seen only once its event is kept: after a 503 the player says it again.
        let given = reports.iter().filter_map(|report| report.id).map(|id| self.event_ids.key(user, id));
        let claim = self.event_ids.claim(given).await;
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
            timestamp: with_offset(report.timestamp.unwrap_or_else(|| timestamp(now))),
        };
        let id = report.id.unwrap_or_else(|| new_id(now));
        Event::new(id, Arc::clone(&self.topic), user, &body).ok()
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

/// RFC 3339 with an offset in digits, as .NET's `DateTimeOffset` writes it.
fn with_offset(time: Timestamp) -> String {
    format!("{}+00:00", time.strftime("%Y-%m-%dT%H:%M:%S%.3f"))
}

/// A UUID v7: those made later sort later.
fn new_id(now: SystemTime) -> Uuid {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos()))
}
