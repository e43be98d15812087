//! Bodies and queries of requests, and what is refused in them.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::formats::MAX_TEXT_BYTES;
use crate::playlist::{MAX_DURATION_MILLIS, PlaylistContent, PlaylistItem};
use server_kit::api::error::Error;
use server_kit::api::id;
use server_kit::api::json_values::Milliseconds;
use server_kit::api::plain_text::parse_line;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// Longest description, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 1000;

/// Playlist that is made, or that another one is replaced with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Morning", "items": [{ "track_id": "track-7", "title": "So What", "artist": "Miles Davis" }] }))]
pub struct PlaylistRequest {
    /// Its name, plain text of at most 200 bytes.
    name: String,
    /// What its owner says of it: plain text of at most 1000 bytes.
    description: Option<String>,
    /// The tracks in their order.
    #[serde(default)]
    items: Vec<ItemRequest>,
}

/// Tracks that are added at the end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "items": [{ "track_id": "track-8" }] }))]
pub struct AppendRequest {
    /// The tracks in their order.
    items: Vec<ItemRequest>,
}

/// Track of a playlist.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemRequest {
    /// The track.
    track_id: String,
    /// Its title, plain text of at most 512 bytes.
    title: Option<String>,
    /// Its artist, plain text of at most 512 bytes.
    artist: Option<String>,
    /// Its length in milliseconds.
    #[schema(minimum = 1, value_type = Option<f64>)]
    duration_ms: Option<Milliseconds>,
}

/// Page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Administrators: only the playlists of this user.
    pub user_id: Option<String>,
    /// Entries of a page, 1 to 100. Default: 50.
    pub limit: Option<u32>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
}

/// Name of a playlist that is imported.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// Name of the playlist. Default: the one that the file has, else `Imported`.
    pub name: Option<String>,
}

/// Format of an export.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `m3u8`, `m3u` or `xspf`. Default: `m3u8`.
    pub format: Option<String>,
}

impl PlaylistRequest {
    /// Returns the content.
    pub fn content(self) -> Result<PlaylistContent, Error> {
        let description = self.description.filter(|text| !text.trim().is_empty());
        Ok(PlaylistContent {
            name: parse_line("name", &self.name, MAX_NAME_BYTES)?,
            description: description.map(|text| parse_line("description", &text, MAX_DESCRIPTION_BYTES)).transpose()?,
            items: items(self.items)?,
        })
    }
}

impl AppendRequest {
    /// Returns the tracks.
    pub fn items(self) -> Result<Vec<PlaylistItem>, Error> {
        if self.items.is_empty() {
            return Err(Error::unprocessable("`items` is empty; expected tracks to add"));
        }
        items(self.items)
    }
}

fn items(requests: Vec<ItemRequest>) -> Result<Vec<PlaylistItem>, Error> {
    requests.into_iter().enumerate().map(|(index, request)| request.item(index)).collect()
}

impl ItemRequest {
    fn item(self, index: usize) -> Result<PlaylistItem, Error> {
        let text = |name: &str, text: Option<String>| {
            let text = text.filter(|text| !text.trim().is_empty());
            text.map(|text| parse_line(&format!("items[{index}].{name}"), &text, MAX_TEXT_BYTES)).transpose()
        };
        let duration_ms = self.duration_ms.map(|Milliseconds(millis)| {
            let good = u32::try_from(millis).ok().filter(|millis| (1..=MAX_DURATION_MILLIS).contains(millis));
            let expected = format!("expected 1 to {MAX_DURATION_MILLIS}");
            good.ok_or_else(|| Error::unprocessable(format!("`items[{index}].duration_ms` is {millis}; {expected}")))
        });
        Ok(PlaylistItem {
            track: id::parse_track(&format!("items[{index}].track_id"), &self.track_id)?,
            title: text("title", self.title)?,
            artist: text("artist", self.artist)?,
            duration_ms: duration_ms.transpose()?,
        })
    }
}
