//! The body of an answer, wherever it comes from.

use std::io;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::cache::{CacheStatus, SliceReader};
use super::{AttemptStats, ObjectError, ResumableDownload};

/// A body on its way to the player.
pub enum ObjectBody {
    /// From the store, for this player alone.
    Direct(ResumableDownload),
    /// Through the cache.
    Cached(SliceReader),
}

impl ObjectBody {
    /// Makes the player's next bytes available, `room` at most where they are read for it alone; false at the clean end.
    /// Where `passing` is set and none are available then, those that are there are to be had by [`ObjectBody::splice_to`] only.
    pub async fn fill(&mut self, room: usize, passing: bool) -> Result<bool, ObjectError> {
        match self {
            Self::Direct(download) => download.fill(room, passing).await,
            Self::Cached(reader) => reader.fill(room).await,
        }
    }

    /// Passes about `room` bytes to the player's socket `to`, and says how many; those that it does not take now are
    /// available then. An error is that of `to`.
    pub fn splice_to(&mut self, to: &TcpStream, room: usize) -> io::Result<usize> {
        match self {
            Self::Direct(download) => download.splice_to(to, room),
            Self::Cached(_) => Ok(0),
        }
    }

    /// What the last [`ObjectBody::fill`] made available.
    pub fn available(&self) -> &[u8] {
        match self {
            Self::Direct(download) => download.available(),
            Self::Cached(reader) => reader.available(),
        }
    }

    /// The same, to be kept: a copy where the bytes belong to a connection.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Direct(download) => Bytes::copy_from_slice(download.available()),
            Self::Cached(reader) => reader.to_bytes(),
        }
    }

    /// What it took.
    pub fn attempt_stats(&self) -> AttemptStats {
        match self {
            Self::Direct(download) => download.attempt_stats(),
            Self::Cached(reader) => reader.attempt_stats(),
        }
    }

    /// How the cache will have taken part, as far as can be told; `None` past it.
    pub fn expected_cache_status(&self) -> Option<CacheStatus> {
        match self {
            Self::Direct(_) => None,
            Self::Cached(reader) => Some(reader.expected_cache_status()),
        }
    }
}
