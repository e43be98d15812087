//! Playlists as values.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

/// Longest length of a track: a week in milliseconds.
pub const MAX_DURATION_MILLIS: u32 = 7 * 86_400_000;

/// Playlist of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playlist {
    /// Id, times and number of tracks.
    pub head: PlaylistHead,
    /// The tracks in their order; one may be there several times.
    pub items: Vec<PlaylistItem>,
}

/// Playlist without its tracks, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaylistHead {
    /// Its id, of which later ones are larger.
    pub id: Uuid,
    /// Its owner.
    pub user: UserId,
    /// Its name.
    pub name: String,
    /// What its owner says of it.
    pub description: Option<String>,
    /// Number of its tracks.
    pub item_count: u32,
    /// Number that grows with each change.
    pub revision: i64,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was changed.
    pub updated_at: UnixMillis,
}

/// What a playlist is made or replaced with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaylistContent {
    /// Its name.
    pub name: String,
    /// What its owner says of it.
    pub description: Option<String>,
    /// The tracks.
    pub items: Vec<PlaylistItem>,
}

/// Track of a playlist, with what is shown of it where the catalogue is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaylistItem {
    /// The track.
    pub track: TrackId,
    /// Its title.
    pub title: Option<String>,
    /// Its artist.
    pub artist: Option<String>,
    /// Its length in milliseconds.
    pub duration_ms: Option<u32>,
}

impl PlaylistContent {
    /// Returns the bytes of its ids and texts.
    pub fn byte_size(&self) -> usize {
        let text = |text: &Option<String>| text.as_deref().map_or(0, str::len);
        let items = self.items.iter().map(|item| item.track.as_str().len() + text(&item.title) + text(&item.artist));
        self.name.len() + text(&self.description) + items.sum::<usize>()
    }
}

/// Track as the database has it.
#[derive(Serialize, Deserialize)]
struct StoredItem {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artist: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u32>,
}

/// Returns the tracks as the database keeps them.
pub fn items_to_json(items: &[PlaylistItem]) -> String {
    let stored: Vec<StoredItem> = items
        .iter()
        .map(|item| StoredItem {
            id: item.track.as_str().to_owned(),
            title: item.title.clone(),
            artist: item.artist.clone(),
            duration_ms: item.duration_ms,
        })
        .collect();
    serde_json::to_string(&stored).expect("texts and numbers have a JSON form")
}

/// Returns the tracks of a row; `None` for one that another version wrote and this one cannot read.
pub fn items_from_json(json: &str) -> Option<Vec<PlaylistItem>> {
    let stored: Vec<StoredItem> = serde_json::from_str(json).ok()?;
    let item = |StoredItem { id, title, artist, duration_ms }| {
        Some(PlaylistItem { track: TrackId::parse(id)?, title, artist, duration_ms })
    };
    stored.into_iter().map(item).collect()
}
