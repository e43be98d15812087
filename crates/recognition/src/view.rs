//! Bodies of requests and answers.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::history::{HistoryEntry, RecognizedMatch};
use server_kit::api::timestamps::to_rfc3339;

/// Form with a clip.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the description of the API; the form is read part by part")]
pub struct ClipForm {
    /// The file: MP3, WAVE, Ogg or M4A, told by its content, of at most 10 MiB.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Outcome of a recognition.
#[derive(Serialize, ToSchema)]
pub struct RecognitionView {
    /// Id of the entry in the history; null where it could not be kept.
    #[schema(value_type = Option<String>)]
    id: Option<Uuid>,
    /// Whether a track was recognised; without one, the rest is null and the confidence 0.
    matched: bool,
    title: Option<String>,
    artist: Option<String>,
    /// The track, where it is one of the catalogue.
    track_id: Option<String>,
    /// From 0 to 1; at least 0.5 for a match.
    #[schema(minimum = 0, maximum = 1)]
    confidence: f64,
    /// Where in the track the clip begins.
    #[schema(minimum = 0)]
    offset_ms: Option<u64>,
    /// `catalogue`.
    source: Option<&'static str>,
    created_at: String,
}

/// Entry of a history.
#[derive(Serialize, ToSchema)]
pub struct HistoryView {
    #[serde(flatten)]
    recognition: RecognitionView,
    /// Whose it is.
    user_id: String,
}

/// Page of a history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Administrators: only the entries of this user.
    pub user_id: Option<String>,
    /// Entries of a page, 1 to 100. Default: 50.
    pub limit: Option<u32>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
}

impl RecognitionView {
    /// Shows an entry; `is_kept` is false for one that is not in the history.
    pub fn new(entry: HistoryEntry, is_kept: bool) -> Self {
        let HistoryEntry { id, found, created_at, .. } = entry;
        let (id, created_at, matched) = (is_kept.then_some(id), to_rfc3339(created_at), found.is_some());
        let Some(RecognizedMatch { title, artist, track, confidence, offset, source }) = found else {
            let (title, artist, track_id, offset_ms, source) = (None, None, None, None, None);
            return Self { id, matched, title, artist, track_id, confidence: 0.0, offset_ms, source, created_at };
        };
        Self {
            id,
            matched,
            title: Some(title),
            artist,
            track_id: track,
            confidence: (confidence * 1000.0).round() / 1000.0,
            offset_ms: Some(u64::try_from(offset.as_millis()).unwrap_or(u64::MAX)),
            source: Some(source.name()),
            created_at,
        }
    }
}

impl HistoryView {
    /// Shows an entry.
    pub fn new(entry: HistoryEntry) -> Self {
        Self { user_id: entry.user.as_str().to_owned(), recognition: RecognitionView::new(entry, true) }
    }
}
