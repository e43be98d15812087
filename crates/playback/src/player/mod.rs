//! Players: the settings of a user's channels (speed, pitch, equalizer), the live player of each, and a stream of events
//! by which a change made in one window or by a bot reaches the others.
//!
//! Owns settings in the database, live players in Redis or in memory, and the streams of this node. The client renders:
//! nothing here touches audio. A channel belongs to its user: every key has both, and a channel of another user does not
//! exist. Knows nothing of tracks but their ids; where a user stopped in one is kept by positions.

mod bodies;
mod channel;
mod channel_store;
mod event_hub;
mod event_relay;
mod event_stream;
mod inputs;
mod item_limit;
mod metrics;
mod playback_events;
mod record;
mod routes;
mod service;
pub mod settings;
mod snapshot;
mod sound;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

pub use routes::{report_routes, routes};
pub use service::{PlayerService, PlayerServiceParts};

/// Reason for which a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database or Redis does not answer: try again.
    #[error("players and their settings cannot be kept or read at the moment")]
    Unavailable,
    /// There is no room for another player or stream, or too much happens to one player at once.
    #[error("there are too many players, or too many changes of this one at once")]
    Busy,
    /// The user has no such channel.
    #[error("there is no such channel: `main`, or one in which a player of yours has reported")]
    NoSuchChannel,
    /// Nothing is loaded.
    #[error("nothing is played in this channel")]
    NothingPlays,
    /// The position is past the end of the item, whose length in milliseconds this is.
    #[error("the position is past the end of the track, which has {0} ms")]
    PastEnd(i64),
    /// The user's players have begun so many items that the next one must wait this long.
    #[error("players of this user begin too many tracks")]
    TooManyItems(Duration),
    /// The user has so many open streams already.
    #[error("at most {0} streams of events may be open at once")]
    TooManyListeners(usize),
}
