//! The body of an answer, wherever it comes from.

use bytes::Bytes;

use super::cache::{Reader, State};
use super::{Download, Failure, Tally};

/// What a player is given at once out of the cache. Larger pieces cost less CPU, but a player must take one within its
/// time limit: only the first meets an empty socket.
const FIRST_PIECE: usize = 256 * 1024;
const PIECE: usize = 64 * 1024;

/// A body on its way to the player.
pub enum Body {
    /// From the store, for this player alone.
    Direct(Download),
    /// Through the cache.
    Cached(Reader),
}

impl Body {
    /// Makes the player's next bytes available; false at the clean end.
    pub async fn fill(&mut self) -> Result<bool, Failure> {
        match self {
            Self::Direct(download) => download.fill().await,
            Self::Cached(reader) => reader.fill(if reader.is_at_start() { FIRST_PIECE } else { PIECE }).await,
        }
    }

    /// What the last [`Body::fill`] made available.
    pub fn available(&self) -> &[u8] {
        match self {
            Self::Direct(download) => download.available(),
            Self::Cached(reader) => reader.available(),
        }
    }

    /// The same, to be kept: a copy where the bytes belong to a connection.
    pub fn owned(&self) -> Bytes {
        match self {
            Self::Direct(download) => Bytes::copy_from_slice(download.available()),
            Self::Cached(reader) => reader.owned(),
        }
    }

    /// What it took.
    pub fn tally(&self) -> Tally {
        match self {
            Self::Direct(download) => download.tally(),
            Self::Cached(reader) => reader.tally(),
        }
    }

    /// How the cache will have taken part, as far as can be told; `None` past it.
    pub fn forecast(&self) -> Option<State> {
        match self {
            Self::Direct(_) => None,
            Self::Cached(reader) => Some(reader.forecast()),
        }
    }
}
