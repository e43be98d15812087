//! Sources of lyrics: files beside the track, tags within it, and services.

pub mod embedded;
pub mod genius;
pub mod lrclib;
pub mod object_reader;
pub mod remote;
pub mod sidecar;
pub mod titles;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use primitives::blocking_calls::BlockingCallError;

/// A source of lyrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LyricsSource {
    /// Set by the track's owner or an admin.
    Edited,
    /// A file beside the track.
    Sidecar,
    /// Tags of the track's file.
    Embedded,
    /// LRCLIB.
    Lrclib,
    /// Genius: metadata and a link.
    Genius,
}

impl LyricsSource {
    /// Sources that are asked.
    pub const ASKED: [Self; 4] = [Self::Sidecar, Self::Embedded, Self::Lrclib, Self::Genius];

    /// Returns the name in metrics and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Sidecar => "sidecar",
            Self::Embedded => "embedded",
            Self::Lrclib => "lrclib",
            Self::Genius => "genius",
        }
    }
}

/// Failure of a source to give an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceFailure {
    /// It does not answer, or its answer cannot be read; the reason is in the log.
    #[error("the source does not answer")]
    Unavailable,
    /// Too much is asked of this node at once: the source was not asked.
    #[error("too many lyrics are looked up at once")]
    Busy,
}

impl From<BlockingCallError> for SourceFailure {
    fn from(error: BlockingCallError) -> Self {
        match error {
            BlockingCallError::TimedOut => Self::Busy,
            BlockingCallError::Panicked => Self::Unavailable,
        }
    }
}
