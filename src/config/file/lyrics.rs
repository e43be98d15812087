//! `Lyrics`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, ConfigFlag, ConfigText, SecretRef, TimeSpan};

/// Lyrics of tracks, at `/api/v1/lyrics`, kept in `Database`: from files beside the tracks, from their tags, and from services
/// outside where their sections are there.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Lyrics {
    /// Whether there are any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// The sources, in the order in which they are asked: `Sidecar`, `Embedded`, `Lrclib`, `Genius`. Default: these, as far as
    /// they are configured.
    pub sources: Option<Vec<LyricsSourceName>>,
    /// Formats of files beside a track; the first that is there is the text: `ttml`, `elrc`, `lrc`, `srt`, `txt`. Default: these.
    pub formats: Option<Vec<LyricsFormat>>,
    /// How long lyrics are kept, `1s` to `30d`. Default: `7d`.
    pub cache_for: Option<TimeSpan>,
    /// How long it is kept that there are none, `1s` to `30d`. Default: `24h`.
    pub miss_cache_for: Option<TimeSpan>,
    /// How large what is kept may be, `1MiB` to `1TiB`; beyond it the oldest goes. Default: `256MiB`.
    pub max_cache_size: Option<ByteSize>,
    /// LRCLIB, which is told artist, title, album and length of tracks. Default: it is not asked.
    pub lrclib: Option<LyricsService>,
    /// Genius, for a link to the page of a song; it is told artist and title. Default: it is not asked.
    pub genius: Option<GeniusService>,
    /// Whether it is published who has set or removed the lyrics of a track; needs `Events`. Default: `false`.
    pub publish_events: Option<ConfigFlag>,
    /// The topic of these events. Default: `lyrics.events`.
    pub events_topic: Option<ConfigText>,
}

/// A source of lyrics.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LyricsSourceName {
    /// Files beside the track.
    Sidecar,
    /// Tags in the track's file.
    Embedded,
    /// LRCLIB.
    Lrclib,
    /// Genius.
    Genius,
}

/// A format of lyrics.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LyricsFormat {
    /// TTML.
    Ttml,
    /// LRC with times of words.
    Elrc,
    /// LRC.
    Lrc,
    /// SubRip.
    Srt,
    /// Text without times.
    Txt,
}

/// LRCLIB, or a server that speaks its API.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct LyricsService {
    /// Its address. May be `env:NAME`. Default: `https://lrclib.net`.
    pub url: Option<ConfigText>,
    /// For its answer, `100ms` to `30s`. Default: `5s`.
    pub timeout: Option<TimeSpan>,
}

/// Genius.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct GeniusService {
    /// A client access token of its API.
    pub token: SecretRef,
    /// Its address. May be `env:NAME`. Default: `https://api.genius.com`.
    pub url: Option<ConfigText>,
    /// For its answer, `100ms` to `30s`. Default: `5s`.
    pub timeout: Option<TimeSpan>,
}
