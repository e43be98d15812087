//! Body of a response, from the store or from the cache.

use std::io;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::cache::{CacheStatus, SliceReader};
use super::{AttemptStats, ObjectError, ResumableDownload};

/// Body on its way to a client.
pub enum ObjectBody {
    /// Body from the store, for this client alone.
    Direct(ResumableDownload),
    /// Body from the cache, which the store may fill meanwhile.
    Cached(SliceReader),
    /// Body that is whole in memory, made of another one.
    Whole(WholeBody),
}

/// Body that is whole in memory.
pub struct WholeBody {
    bytes: Bytes,
    /// Bytes that the last [`ObjectBody::fill`] made available.
    given: Bytes,
    /// Effort of the body that it was made of.
    attempt_stats: AttemptStats,
    /// Room that it takes, free again when it is sent.
    _room: OwnedSemaphorePermit,
}

impl WholeBody {
    /// Creates the body of these `bytes`, which took the effort `attempt_stats` to get, and are in memory by `room`.
    pub fn new(bytes: Bytes, attempt_stats: AttemptStats, room: OwnedSemaphorePermit) -> Self {
        Self { bytes, given: Bytes::new(), attempt_stats, _room: room }
    }

    fn fill(&mut self, room: usize) -> bool {
        self.given = self.bytes.split_to(room.max(1).min(self.bytes.len()));
        !self.given.is_empty()
    }
}

impl ObjectBody {
    /// Makes the client's next bytes available, about `room` at most. Returns false at the clean end. Where `passing`
    /// is set it may return true with no bytes available: then [`ObjectBody::splice_to`] must be called to move them.
    /// Fails where the body broke off and could not be continued.
    pub async fn fill(&mut self, room: usize, passing: bool) -> Result<bool, ObjectError> {
        match self {
            Self::Direct(download) => download.fill(room, passing).await,
            Self::Cached(reader) => reader.fill(room).await,
            Self::Whole(body) => Ok(body.fill(room)),
        }
    }

    /// Returns true where its bytes come from the cache.
    pub fn is_cached(&self) -> bool {
        matches!(self, Self::Cached(_))
    }

    /// Returns about how many bytes it keeps in memory that [`ObjectBody::release`] would free.
    pub fn kept_bytes(&self) -> usize {
        match self {
            // It is small, and there is no other place that it could be read from again.
            Self::Direct(_) | Self::Whole(_) => 0,
            Self::Cached(reader) => reader.kept_bytes(),
        }
    }

    /// Keeps no more of the body in memory than it must, until [`ObjectBody::fill`] is called again. Bytes that were made
    /// available must have been taken.
    pub fn release(&mut self) {
        match self {
            // Its buffer is the connection's, or all that there is.
            Self::Direct(_) | Self::Whole(_) => {}
            Self::Cached(reader) => reader.release(),
        }
    }

    /// Moves up to `room` bytes that are there to the client's socket `to`, without waiting, and returns how many.
    /// Bytes that `to` does not accept are made available instead. Returns 0 for a cached body, which has no socket of
    /// its own. An error is one of `to`.
    pub fn splice_to(&mut self, to: &TcpStream, room: usize) -> io::Result<usize> {
        match self {
            Self::Direct(download) => download.splice_to(to, room),
            // Bytes of the cache are in our memory, so there is no socket to splice from.
            Self::Cached(_) | Self::Whole(_) => Ok(0),
        }
    }

    /// Returns the bytes that the last [`ObjectBody::fill`] made available.
    pub fn available(&self) -> &[u8] {
        match self {
            Self::Direct(download) => download.available(),
            Self::Cached(reader) => reader.available(),
            Self::Whole(body) => &body.given,
        }
    }

    /// Returns the available bytes as an owned value: a copy where they belong to a connection, shared where they are
    /// cached.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Direct(download) => Bytes::copy_from_slice(download.available()),
            Self::Cached(reader) => reader.to_bytes(),
            Self::Whole(body) => body.given.clone(),
        }
    }

    /// Returns how often the body was continued so far; for a cached one, those of the slice under way are added at its end.
    pub fn resumes(&self) -> u32 {
        match self {
            Self::Direct(download) => download.resumes(),
            Self::Cached(reader) => reader.resumes(),
            Self::Whole(body) => body.attempt_stats.resumes.total(),
        }
    }

    /// Returns the effort so far.
    pub fn attempt_stats(&self) -> AttemptStats {
        match self {
            Self::Direct(download) => download.attempt_stats(),
            Self::Cached(reader) => reader.attempt_stats(),
            Self::Whole(body) => body.attempt_stats.clone(),
        }
    }

    /// Returns the cache status that the whole response will have, as far as it can be known before the end; `None`
    /// without the cache.
    pub fn expected_cache_status(&self) -> Option<CacheStatus> {
        match self {
            Self::Direct(_) => None,
            Self::Whole(body) => body.attempt_stats.cache,
            Self::Cached(reader) => Some(reader.expected_cache_status()),
        }
    }
}
