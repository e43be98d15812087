//! `Recognition`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, ConfigText, TimeSpan};

/// Recognition of clips at `/api/v1/recognition`: which track of the catalogue they are from. `tidegate index` makes the index, and
/// the history is kept in `Database`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Recognition {
    /// Whether there is any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Folder of the index, on a disk of this node. Default: `data/recognition`.
    pub index: Option<ConfigText>,
    /// How much of a clip is listened to, `5s` to `2m`. Default: `20s`.
    pub clip_length: Option<TimeSpan>,
    /// Entries of one user's history, 1 to 100000; beyond them the oldest go. Default: 500.
    pub max_history: Option<u32>,
}
