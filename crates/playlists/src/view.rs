//! Views of answers.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::formats::ParsedPlaylist;
use crate::playlist::{Playlist, PlaylistHead, PlaylistItem};
use server_kit::api::timestamps::to_rfc3339;

/// Most numbers of entries that an import tells.
const MAX_TOLD_ENTRIES: usize = 100;

/// Playlist as a list shows it.
#[derive(Serialize, ToSchema)]
pub struct PlaylistSummary {
    #[schema(value_type = String)]
    id: Uuid,
    /// Its owner.
    user_id: String,
    name: String,
    description: Option<String>,
    /// Number of its tracks.
    item_count: u32,
    /// Grows with each change; the `ETag`.
    revision: i64,
    created_at: String,
    updated_at: String,
}

/// Playlist.
#[derive(Serialize, ToSchema)]
pub struct PlaylistView {
    #[serde(flatten)]
    head: PlaylistSummary,
    /// The tracks in their order.
    items: Vec<ItemView>,
}

/// Track of a playlist.
#[derive(Serialize, ToSchema)]
pub struct ItemView {
    track_id: String,
    title: Option<String>,
    artist: Option<String>,
    duration_ms: Option<u32>,
}

/// Outcome of an import.
#[derive(Serialize, ToSchema)]
pub struct ImportView {
    playlist: PlaylistSummary,
    /// Entries of the file that name no track of this server.
    skipped: usize,
    /// Numbers of the first 100 of them, from 1 on.
    skipped_entries: Vec<usize>,
}

impl PlaylistSummary {
    /// Shows a playlist without its tracks.
    pub fn new(head: PlaylistHead) -> Self {
        Self {
            id: head.id,
            user_id: head.user.as_str().to_owned(),
            name: head.name,
            description: head.description,
            item_count: head.item_count,
            revision: head.revision,
            created_at: to_rfc3339(head.created_at),
            updated_at: to_rfc3339(head.updated_at),
        }
    }
}

impl PlaylistView {
    /// Shows a playlist.
    pub fn new(playlist: Playlist) -> Self {
        let item = |item: PlaylistItem| ItemView {
            track_id: item.track.as_str().to_owned(),
            title: item.title,
            artist: item.artist,
            duration_ms: item.duration_ms,
        };
        Self { head: PlaylistSummary::new(playlist.head), items: playlist.items.into_iter().map(item).collect() }
    }
}

impl ImportView {
    /// Shows an import.
    pub fn new(head: PlaylistHead, parsed: &ParsedPlaylist) -> Self {
        Self {
            playlist: PlaylistSummary::new(head),
            skipped: parsed.skipped.len(),
            skipped_entries: parsed.skipped.iter().copied().take(MAX_TOLD_ENTRIES).collect(),
        }
    }
}
