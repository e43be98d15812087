//! Ports of the player: where tracks come from, and where the sound goes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::queue::item::QueueItem;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use track_audio::object::{TrackObject, TrackObjectError};

/// Track that is open.
pub struct OpenedTrack {
    /// Its object.
    pub object: Arc<dyn TrackObject>,
    /// Title that listeners see.
    pub title: String,
}

/// Opener of tracks, implemented by the part that streams them.
pub trait TrackObjects: Send + Sync {
    /// Opens the track of an item. The right of who has requested it was judged then; that of a playlist's owner is judged here.
    fn open<'a>(&'a self, item: &'a QueueItem) -> BoxFuture<'a, Result<OpenedTrack, TrackObjectError>>;
}

/// The session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct ProgramEnded;

/// No session can be opened at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProgramUnavailable(pub String);

/// User who listens, for no longer than the user's token is good.
#[derive(Clone, Copy, Debug)]
pub struct ProgramListener<'a> {
    /// The user.
    pub user: &'a UserId,
    /// Time at which the token ends.
    pub token_until: UnixMillis,
}

/// Opener of sessions that people listen to.
pub trait ProgramOutput: Send + Sync {
    /// Opens a session.
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Program>, ProgramUnavailable>>;

    /// Returns a ticket with which `listener` may begin to listen to a session within `ttl`; `None` where it has ended.
    fn issue_ticket<'a>(
        &'a self,
        session: &'a str,
        ttl: Duration,
        listener: ProgramListener<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, ProgramUnavailable>>;
}

/// Session of a channel.
pub trait Program: Send {
    /// Returns the session's id.
    fn session(&self) -> String;

    /// Sends the next samples: interleaved stereo at [`crate::audio::SAMPLE_RATE`].
    fn send(&mut self, samples: &[f32]) -> Result<(), ProgramEnded>;

    /// Says what is heard, and how far it is.
    fn announce(&mut self, title: &str, elapsed: Duration, length: Duration);

    /// Ends the session.
    fn end(self: Box<Self>) -> BoxFuture<'static, ()>;
}
