//! Events of edits: that the lyrics of a track were set or removed, and by whom. They have no texts.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::LyricsTrack;
use crate::track_lyrics::TrackLyrics;
use events::{Event, EventPublisher, event_id};
use primitives::clock::Clock;
use primitives::ids::UserId;
use server_kit::api::timestamps::with_offset;

/// What an editor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum EditAction {
    /// Lyrics are there from now on, in place of the sources' or of those before.
    Set,
    /// Those that were set are gone.
    Remove,
}

/// Body of an event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EditEvent<'a> {
    track_id: &'a str,
    user_id: &'a str,
    action: EditAction,
    #[serde(flatten)]
    what: Option<SetLyrics<'a>>,
    timestamp: String,
}

/// Lyrics that were set, without their texts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SetLyrics<'a> {
    /// Languages of the texts, in the order of their names.
    languages: BTreeSet<&'a str>,
    is_synced: bool,
    instrumental: bool,
}

/// Publisher of edits, keyed by the track: those of one are in order, whoever makes them.
pub struct EditReporter {
    events: EventPublisher,
    topic: Arc<str>,
    clock: Clock,
}

impl EditReporter {
    /// Creates a reporter that publishes to `topic`.
    pub fn new(events: EventPublisher, topic: Arc<str>, clock: Clock) -> Self {
        Self { events, topic, clock }
    }

    /// Publishes that `user` has set `lyrics`, or removed what was set. An event that cannot be kept is lost, and counted: the edit
    /// is done.
    pub async fn report(&self, track: &LyricsTrack, user: &UserId, lyrics: Option<&TrackLyrics>) {
        let now = self.clock.unix_millis();
        let body = EditEvent {
            track_id: track.id.as_str(),
            user_id: user.as_str(),
            action: if lyrics.is_some() { EditAction::Set } else { EditAction::Remove },
            what: lyrics.map(SetLyrics::of),
            timestamp: with_offset(now),
        };
        match Event::new(event_id(now), Arc::clone(&self.topic), track.id.as_str(), &body) {
            Ok(event) => self.events.publish_or_drop(event).await,
            Err(_) => self.events.record_lost(1),
        }
    }
}

impl<'a> SetLyrics<'a> {
    fn of(lyrics: &'a TrackLyrics) -> Self {
        Self {
            languages: lyrics.texts.iter().filter_map(|text| text.lang.as_deref()).collect(),
            is_synced: lyrics.texts.first().is_some_and(|text| text.is_synced),
            instrumental: lyrics.instrumental,
        }
    }
}
