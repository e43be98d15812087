//! The body of an answer, wherever it comes from.

use std::io;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::cache::{Reader, State};
use super::{Download, Failure, Tally};

/// A body on its way to the player.
pub enum Body {
    /// From the store, for this player alone.
    Direct(Download),
    /// Through the cache.
    Cached(Reader),
}

impl Body {
    /// Makes the player's next bytes available, `room` at most where they are read for it alone; false at the clean end.
    /// Where `passing` is set and none are available then, those that are there are to be had by [`Body::pass`] only.
    pub async fn fill(&mut self, room: usize, passing: bool) -> Result<bool, Failure> {
        match self {
            Self::Direct(download) => download.fill(room, passing).await,
            Self::Cached(reader) => reader.fill(room).await,
        }
    }

    /// Passes about `room` bytes to the player's socket `to`, and says how many; those that it does not take now are
    /// available then. An error is that of `to`.
    pub fn pass(&mut self, to: &TcpStream, room: usize) -> io::Result<usize> {
        match self {
            Self::Direct(download) => download.pass(to, room),
            Self::Cached(_) => Ok(0),
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
