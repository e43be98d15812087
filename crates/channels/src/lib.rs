//! Channels: what users want to hear together, in a queue for each channel, VIPs first and nobody starved; and its player.
//!
//! Owns the queues ([`queue`]), in memory or in Redis, their API, and the player of a channel ([`player`]), which decodes and joins
//! tracks ([`audio`]) and sends them to a session that its [`player::output::ProgramOutput`] opens. Knows tracks by what a [`TrackAccess`] says of them, and
//! nothing of the catalog or the proxy: who may stream a track may have it played. Nothing here is shared between two channels.

pub mod audio;
mod bodies;
pub mod channel;
mod feed;
mod metrics;
pub mod player;
pub mod queue;
mod routes;
mod service;
pub mod settings;
#[cfg(test)]
mod tests;

use futures::future::BoxFuture;
use http::request::Parts;

pub use routes::routes;
pub use service::{ChannelPlayerParts, ChannelService, ChannelServiceParts, MAX_PLAYLIST_TRACKS};

use primitives::ids::{TrackId, UserId};
use server_kit::api::error::Error as ApiError;
use server_kit::api::user::User;
use server_kit::limit::stream_limits::StreamRefusal;

/// Judge of who may have a track played, implemented by the part that streams tracks.
pub trait TrackAccess: Send + Sync {
    /// Returns the host under which `user`, who asks with `request_head`, may stream the track, or an error that says why that
    /// may not be.
    fn check<'a>(
        &'a self,
        id: &'a TrackId,
        request_head: &'a Parts,
        user: &'a User,
    ) -> BoxFuture<'a, Result<Option<String>, ApiError>>;

    /// Returns an error that says why the track cannot be played on behalf of `owner`, who asks for nothing now.
    fn check_for<'a>(&'a self, id: &'a TrackId, owner: &'a UserId) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// Reason for which a request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Redis does not answer: try again.
    #[error("the queue cannot be read or changed at the moment")]
    Unavailable,
    /// It cannot be said whether the user may follow or hear the channel.
    #[error("the channel cannot be followed at the moment")]
    ListeningUnavailable,
    /// No such channel.
    #[error("there is no such channel")]
    NoSuchChannel,
    /// No such item in the queue of this channel.
    #[error("there is no such item in this channel's queue")]
    NoSuchItem,
    /// The item is another user's.
    #[error("only who has queued an item or an admin may take it out")]
    NotOwner,
    /// The track waits, or is played.
    #[error("the track is in this channel's queue already")]
    Duplicate,
    /// Nothing is heard on the channel.
    #[error("nothing is played on this channel at the moment")]
    Silent,
    /// The queue is full.
    #[error("the queue of this channel is full")]
    ChannelFull,
    /// The user has queued as much as one may.
    #[error("as much of yours waits in this channel's queue as may")]
    UserFull,
    /// As many follow queues as may.
    #[error(transparent)]
    Streams(#[from] StreamRefusal),
    /// A playlist without tracks, or with too many.
    #[error("a playlist has 1 to {0} tracks")]
    PlaylistSize(usize),
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Unavailable | Error::ListeningUnavailable => Self::unavailable(detail),
            Error::NoSuchChannel | Error::NoSuchItem => Self::not_found(detail),
            Error::NotOwner => Self::forbidden(detail),
            Error::Duplicate | Error::ChannelFull | Error::Silent => Self::conflict(detail),
            Error::Streams(StreamRefusal::Full) => Self::unavailable(detail),
            Error::Streams(StreamRefusal::TooManyOfUser(_)) => Self::too_many(detail, routes::STREAM_RETRY),
            Error::UserFull => Self::too_many(detail, routes::USER_RETRY),
            Error::PlaylistSize(_) => Self::unprocessable(detail),
        }
    }
}
