//! `Channels`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, ConfigFlag, ConfigText, TimeSpan};

/// Queues of tracks that users want to hear together, one for each channel, at `/api/v1/queue`, kept in Redis (`State`), or
/// in memory for one node; and played to a session each where there is `Share`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Channels {
    /// Whether there are any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Names of the channels, 1 to 64 letters, digits, `-`, `_` and `.` each, at most 100. Default: `[main]`.
    pub names: Option<Vec<ConfigText>>,
    /// Roles whose users may have a schedule begin a playlist or a track on a channel, some of `user`, `vip` and `admin`: everybody
    /// hears it. Default: `[admin]`.
    pub scheduled_by: Option<Vec<ConfigText>>,
    /// How much earlier an item of a VIP counts as queued, `0s` to `1d`. Default: `10m`.
    pub vip_head_start: Option<TimeSpan>,
    /// How much earlier an item of an admin counts as queued, `0s` to `1d`. Default: `1h`.
    pub admin_head_start: Option<TimeSpan>,
    /// Items in a channel's queue at most, 1 to 10000; one beyond them is 409. Default: 500.
    pub max_items: Option<u32>,
    /// Items of one user in it at most, 1 to 10000; one beyond them is 429. Default: 10.
    pub max_items_per_user: Option<u32>,
    /// Bytes of a channel's queue at most, `1KiB` to `16MiB`; an item beyond them is 409. Default: `256KiB`.
    pub max_size: Option<ByteSize>,
    /// Bytes of what one user has in it at most, `1KiB` to `16MiB`; an item beyond them is 429. Default: `16KiB`.
    pub max_size_per_user: Option<ByteSize>,
    /// Length of a track that nobody has told, for estimates, `1s` to `1d`. Default: `4m`.
    pub typical_duration: Option<TimeSpan>,
    /// How long an item is kept for a node that plays it and says nothing, `3s` to `10m`. Default: `15s`.
    pub claim_lease: Option<TimeSpan>,
    /// How long the end of a track and the beginning of the next are heard together, `0s` to `12s`; `0s` joins them without a gap.
    /// Default: `3s`.
    pub crossfade: Option<TimeSpan>,
    /// When the session of a channel ends that has nothing to play, `1s` to `1d`. Default: `5m`.
    pub idle_timeout: Option<TimeSpan>,
}
