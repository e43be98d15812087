//! Items of a queue. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use primitives::ids::{TrackId, UserId};
use primitives::unix_time::{UnixMillis, whole_millis};

/// Item of a queue, or of a channel's playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Id; of two items with one turn the smaller one is next.
    pub id: Uuid,
    /// Track that is to be played.
    pub track: TrackId,
    /// User who wants it played.
    pub user: UserId,
    /// Origin.
    pub source: ItemSource,
    /// Time at which it was queued.
    pub queued_at: UnixMillis,
    /// Its turn: `queued_at` less a head start.
    pub turn_at: UnixMillis,
    /// Length of the track, where somebody has said it.
    pub duration: Option<Duration>,
    /// Host of this server under which the user's right to the track was judged: the same track is played.
    pub host: Option<String>,
}

/// Origin of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemSource {
    /// A user's request.
    Request,
    /// The channel's playlist, from which is played while nothing is requested.
    Playlist,
}

/// Item as it is kept: JSON without its id, which stands beside it.
#[derive(Serialize)]
struct StoredItem<'a> {
    track: &'a str,
    user: &'a str,
    source: ItemSource,
    queued_at: UnixMillis,
    turn_at: UnixMillis,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
}

/// The same when it is read: texts of JSON may have escapes, and then cannot be borrowed.
#[derive(Deserialize)]
struct ReadItem {
    track: String,
    user: String,
    source: ItemSource,
    queued_at: UnixMillis,
    turn_at: UnixMillis,
    duration_ms: Option<u64>,
    host: Option<String>,
}

impl QueueItem {
    /// Returns the text as which the item is kept. Its length is what counts against bounds.
    pub fn to_record(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&StoredItem {
            track: self.track.as_str(),
            user: self.user.as_str(),
            source: self.source,
            queued_at: self.queued_at,
            turn_at: self.turn_at,
            duration_ms: self.duration.map(whole_millis),
            host: self.host.as_deref(),
        })
    }

    /// Returns the item of a record; `None` for what another version wrote and this one cannot read.
    pub fn from_record(id: Uuid, text: &str) -> Option<Self> {
        let read: ReadItem = serde_json::from_str(text).ok()?;
        Some(Self {
            id,
            track: TrackId::parse(read.track)?,
            user: UserId::parse(read.user)?,
            source: read.source,
            queued_at: read.queued_at,
            turn_at: read.turn_at,
            duration: read.duration_ms.map(Duration::from_millis),
            host: read.host,
        })
    }

    /// Returns the place in the order of the queue.
    pub fn place(&self) -> (UnixMillis, Uuid) {
        (self.turn_at, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_as_it_was_written() {
        let item = QueueItem {
            id: Uuid::from_u128(7),
            track: TrackId::parse("a \"b\" ü").expect("an id"),
            user: UserId::parse("alice").expect("an id"),
            source: ItemSource::Request,
            queued_at: UnixMillis::new(1_700_000_000_000),
            turn_at: UnixMillis::new(1_699_999_400_000),
            duration: Some(Duration::from_millis(1500)),
            host: Some("music.example:8443".to_owned()),
        };
        for item in [item.clone(), QueueItem { duration: None, host: None, source: ItemSource::Playlist, ..item }] {
            let record = item.to_record().expect("JSON");
            assert_eq!(QueueItem::from_record(item.id, &record), Some(item));
        }
        assert_eq!(QueueItem::from_record(Uuid::nil(), "{}"), None);
        assert_eq!(QueueItem::from_record(Uuid::nil(), "["), None);
    }
}
