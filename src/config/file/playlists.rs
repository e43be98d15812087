//! `Playlists`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, ConfigFlag};

/// Playlists of users at `/api/v1/playlists`, kept in `Database`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Playlists {
    /// Whether there are any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Playlists of one user, 1 to 100000; one beyond them is 409. Default: 500.
    pub max_playlists_per_user: Option<u32>,
    /// Tracks of one playlist, 1 to 100000; one beyond them is 422. Default: 5000.
    pub max_items: Option<u32>,
    /// How large the ids and texts of one playlist may be, `1KiB` to `64MiB`. Default: `1MiB`.
    pub max_size: Option<ByteSize>,
}
