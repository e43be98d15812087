//! Forms in which lyrics are shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::search::SearchAnswer;
use crate::service::TrackAnswer;
use crate::sources::LyricsSource;
use crate::store::CacheCounts;
use crate::text::{LyricsLine, LyricsText, TextKind, to_lrc, to_plain};
use crate::track_lyrics::TrackLyrics;
use primitives::unix_time::UnixMillis;
use server_kit::api::timestamps::to_rfc3339;

/// Lyrics of a track.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "track_id": "01HQ8ZK3", "artist": "Ada", "title": "Prelude", "album": null, "duration_ms": 240000,
    "instrumental": false, "lang": "en", "plain": "First line", "lrc": "[00:12.50]First line",
    "synced": [{ "start_ms": 12500, "end_ms": 15800, "text": "First line", "words": [] }],
    "texts": [{ "kind": "main", "lang": "en", "is_synced": true,
        "lines": [{ "start_ms": 12500, "end_ms": 15800, "text": "First line", "words": [] }] }],
    "offset_ms": 0, "source": "sidecar", "link": null, "is_stale": false, "may_edit": false,
    "cached_at": "2026-01-31T18:00:00.25Z", "expires_at": "2026-02-07T18:00:00.25Z" }))]
pub struct LyricsView {
    /// The track; null in results of a search.
    pub track_id: Option<String>,
    /// Artist.
    pub artist: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// Album.
    pub album: Option<String>,
    /// Length of the track in milliseconds, where the source knows it.
    pub duration_ms: Option<u64>,
    /// True where nothing is sung.
    pub instrumental: bool,
    /// Language of the main text (BCP 47), where it is known.
    pub lang: Option<String>,
    /// The main text as plain text.
    pub plain: Option<String>,
    /// The main text as LRC; null where it has no times.
    pub lrc: Option<String>,
    /// Lines of the main text by their starts; empty where it has no times.
    pub synced: Vec<LyricsLine>,
    /// All texts, the main one first.
    pub texts: Vec<LyricsText>,
    /// Offset that the file names, in milliseconds: the times contain it.
    pub offset_ms: i32,
    /// Where they are from.
    pub source: LyricsSource,
    /// Page about the song, https.
    pub link: Option<String>,
    /// True if they are older than their time, since the source does not answer.
    pub is_stale: bool,
    /// True if the caller may set them.
    pub may_edit: bool,
    /// Time at which they were found or set (RFC 3339).
    pub cached_at: String,
    /// Time from which the sources are asked again (RFC 3339); null for what was set.
    pub expires_at: Option<String>,
}

/// Results of a search.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LyricsSearchView {
    /// The artist that was asked for.
    pub artist: String,
    /// The song that was asked for.
    pub song: String,
    /// At most five, best first.
    pub results: Vec<LyricsView>,
    /// True if they are older than their time, since no service answers.
    pub is_stale: bool,
}

/// Numbers of what is kept.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct CacheStatusView {
    /// All answers.
    total: i64,
    /// Answers that hold.
    active: i64,
    /// Answers that are older than their time.
    expired: i64,
    /// Answers that there are no lyrics.
    misses: i64,
    /// Tracks whose lyrics were set, beside the answers.
    edited: i64,
}

impl From<CacheCounts> for CacheStatusView {
    fn from(counts: CacheCounts) -> Self {
        let CacheCounts { total, active, misses, edited } = counts;
        Self { total, active, expired: total - active, misses, edited }
    }
}

impl LyricsView {
    /// Returns the view of an answer; `None` where there are no lyrics.
    pub fn of_track(track_id: &str, answer: &TrackAnswer, may_edit: bool) -> Option<Self> {
        let view = Self::new(answer.lyrics.as_deref()?, answer.cached_at, answer.expires_at);
        Some(Self { track_id: Some(track_id.to_owned()), is_stale: answer.is_stale, may_edit, ..view })
    }

    fn new(lyrics: &TrackLyrics, cached_at: UnixMillis, expires_at: Option<UnixMillis>) -> Self {
        let main = lyrics.texts.iter().find(|text| text.kind == TextKind::Main);
        Self {
            track_id: None,
            artist: lyrics.artist.clone(),
            title: lyrics.title.clone(),
            album: lyrics.album.clone(),
            duration_ms: lyrics.duration_ms,
            instrumental: lyrics.instrumental,
            lang: main.and_then(|main| main.lang.clone()),
            plain: main.map(to_plain),
            lrc: main.and_then(to_lrc),
            synced: main.filter(|main| main.is_synced).map(|main| main.lines.clone()).unwrap_or_default(),
            texts: lyrics.texts.clone(),
            offset_ms: lyrics.offset_ms,
            source: lyrics.source,
            link: lyrics.link.clone(),
            is_stale: false,
            may_edit: false,
            cached_at: to_rfc3339(cached_at),
            expires_at: expires_at.map(to_rfc3339),
        }
    }
}

impl LyricsSearchView {
    /// Returns the view of the results for `artist` and `song`.
    pub fn new(artist: String, song: String, answer: &SearchAnswer) -> Self {
        let view = |lyrics| LyricsView {
            is_stale: answer.is_stale,
            ..LyricsView::new(lyrics, answer.cached_at, Some(answer.expires_at))
        };
        Self { artist, song, results: answer.results.iter().map(view).collect(), is_stale: answer.is_stale }
    }
}
