//! `Backup`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, ConfigText, TimeSpan};

/// Backups at `/api/v1/backup`, for administrators: of `Database`, of Redis, of this file without its secrets, and of the access
/// log's file. Each is restored on trial before it counts. Their history is kept in `Database`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Backup {
    /// Whether there are any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// A name in `ObjectStores`, but no embedded store: that takes nothing in parts.
    pub store: String,
    /// The bucket. May be `env:NAME`.
    pub bucket: ConfigText,
    /// What the objects' keys begin with; another one for each database. Default: `backups/`.
    pub prefix: Option<ConfigText>,
    /// How often one is made without being asked for, `10m` to `365d`. Default: never.
    pub every: Option<TimeSpan>,
    /// How long verified ones are kept, `1h` to `3650d`. Default: `30d`.
    pub keep_for: Option<TimeSpan>,
    /// Verified ones that are kept however old they are, 1 to 1000. Default: 3.
    pub keep_at_least: Option<u32>,
    /// When one counts as failed whose process is not heard of, `1s` to `10m`. Default: `1m`.
    pub lease: Option<TimeSpan>,
    /// A folder for copies of the database and of Redis while one is made, with room for both. Default: `/var/tmp`.
    pub work_folder: Option<ConfigText>,
}
