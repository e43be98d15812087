//! `Share`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, ConfigFlag, ConfigText, SecretRef, TimeSpan};

/// Live audio from one host to many listeners, at `/api/share`. What is left out is taken from the environment under the
/// relay's own names (`BEARER_TOKEN`, `MAX_SESSIONS`, `AUDIO_BUFFER_SECONDS`, `SESSION_TIMEOUT_MINUTES`) where it is set.
#[cfg_attr(not(feature = "share"), expect(dead_code, reason = "read where it is built with sharing"))]
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Share {
    /// Whether there is sharing. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// What `Authorization` must be, as it is or after `Bearer `: at least 16 characters, `Bearer ` not counted. Default:
    /// `env:BEARER_TOKEN`.
    pub token: Option<SecretRef>,
    /// Live sessions at most, 1 to 100000; a start beyond them is 503. Default: 50.
    pub max_sessions: Option<u32>,
    /// Connected listeners of all sessions at most, 1 to 1000000; one beyond them is 503. Default: 10000.
    pub max_listeners: Option<u32>,
    /// Sessions at most, 0 to 1000, whose audio is turned into another format at the same time; about 1 % of a core each.
    /// Default: 100.
    pub max_transcodes: Option<u32>,
    /// How much audio is kept for those who poll, `1s` to `30s`. Default: `5s`.
    pub buffer: Option<TimeSpan>,
    /// When a session ends whose host is not heard of, `10s` to `1d`. Default: `15m`.
    pub timeout: Option<TimeSpan>,
    /// How much audio one frame to a connected listener holds, `20ms` to `2s`. Default: `100ms`, and more with thousands
    /// of listeners.
    pub cadence: Option<TimeSpan>,
    /// Whether pages of localhost may call: for whoever develops a player. Default: `false`.
    pub allow_localhost: Option<ConfigFlag>,
    /// Whether audio is also kept in Redis (`State.Url`) as the document's schema has it, for programs that know only that.
    /// Default: `false`.
    pub compatibility: Option<ConfigFlag>,
    /// Where hosts may record their sessions. Default: nowhere.
    pub recording: Option<Recording>,
}

/// Recordings of sessions: an Ogg/Opus file each, and a list of its songs beside it.
#[cfg_attr(not(feature = "share"), expect(dead_code, reason = "read where it is built with sharing"))]
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Recording {
    /// A name in `ObjectStores`, of a store that takes objects in parts: not an embedded one.
    pub store: String,
    /// The bucket. May be `env:NAME`.
    pub bucket: ConfigText,
    /// What the objects' keys begin with. Default: `shared/`.
    pub prefix: Option<ConfigText>,
    /// When a recording ends, `1m` to `1d`. Default: `4h`.
    pub max_duration: Option<TimeSpan>,
    /// When a recording ends, `1MiB` to `40GiB`. Default: `2GiB`.
    pub max_size: Option<ByteSize>,
}
