//! Events of films (document 003): `stream.start`, `stream.progress` and `stream.stop`, keyed by the user, with the
//! document's bodies to the letter.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use events::{Event, EventPublisher, event_id};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

/// Body of an event. The order of the fields is the document's.
#[derive(Serialize)]
struct FilmEvent<'a> {
    user_id: &'a str,
    movie_id: &'a str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position_seconds: Option<i64>,
    timestamp: String,
}

/// Publishes events of films, where events are configured. Clones share the outbox.
#[derive(Clone)]
pub struct FilmEvents {
    publisher: Option<EventPublisher>,
    start: Arc<str>,
    progress: Arc<str>,
    stop: Arc<str>,
}

impl FilmEvents {
    /// Creates the events over `publisher`.
    pub fn new(publisher: Option<EventPublisher>) -> Self {
        Self { publisher, start: "stream.start".into(), progress: "stream.progress".into(), stop: "stream.stop".into() }
    }

    /// Publishes that a view began at `at`.
    pub async fn started(&self, user: &UserId, movie: &TrackId, at: UnixMillis) {
        self.publish(&self.start, (user, movie), ("stream_start", None), at).await;
    }

    /// Publishes a report of a position, in milliseconds.
    pub async fn progressed(&self, user: &UserId, movie: &TrackId, position: i64, at: UnixMillis) {
        self.publish(&self.progress, (user, movie), ("progress_update", Some(position)), at).await;
    }

    /// Publishes that a view ended at `at`, at a position in milliseconds.
    pub async fn stopped(&self, user: &UserId, movie: &TrackId, position: i64, at: UnixMillis) {
        self.publish(&self.stop, (user, movie), ("stream_stop", Some(position)), at).await;
    }

    /// Events never fail a request: one that the outbox does not take is counted there.
    async fn publish(
        &self,
        topic: &Arc<str>,
        (user, movie): (&UserId, &TrackId),
        (action, position): (&'static str, Option<i64>),
        at: UnixMillis,
    ) {
        let Some(publisher) = &self.publisher else { return };
        let body = FilmEvent {
            user_id: user.as_str(),
            movie_id: movie.as_str(),
            action,
            position_seconds: position.map(|position| position.div_euclid(1000)),
            timestamp: seconds_text(at),
        };
        if let Ok(event) = Event::new(event_id(at), Arc::clone(topic), user.as_str(), &body) {
            publisher.publish_or_drop(event).await;
        }
    }
}

/// Returns a time as the document writes it: ISO 8601, whole seconds, UTC without saying so.
pub fn seconds_text(at: UnixMillis) -> String {
    let time = Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_whole_seconds_and_no_zone() {
        assert_eq!(seconds_text(UnixMillis::new(1_731_666_600_999)), "2024-11-15T10:30:00");
    }
}
