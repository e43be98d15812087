//! `Schedules`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, TimeSpan};

/// What users want begun at a time, at `/api/v1/scheduler`, kept in `Database`: radio stations, with `Radio` and `Playback`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Schedules {
    /// Whether there are any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Schedules of one user, 1 to 10000; one beyond them is 409. Default: 100.
    pub max_schedules_per_user: Option<u32>,
    /// Least time between two instants of one schedule, `1s` to `1d`; more often is 422. Default: `1m`.
    pub min_interval: Option<TimeSpan>,
    /// How late an instant is made good unless its schedule says otherwise, `0s` to `1d`. Default: `5m`.
    pub misfire_grace: Option<TimeSpan>,
    /// When another node takes over what one that has died had claimed, `1s` to `10m`. Default: `30s`.
    pub lease: Option<TimeSpan>,
    /// How long runs that have ended are kept, `1h` to `3650d`. Default: `90d`.
    pub history_for: Option<TimeSpan>,
}
