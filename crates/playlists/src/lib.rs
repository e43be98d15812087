//! Playlists: lists of tracks that users keep, and their exchange with other players as M3U and XSPF.
//!
//! Owns the table `playlists`, the formats, and the API. Knows tracks by their ids alone: whether a track is there, and who may
//! have it, is asked when it is played.

mod bodies;
mod formats;
mod metrics;
mod playlist;
mod routes;
mod service;
pub mod settings;
mod store;
mod view;

pub use playlist::{Playlist, PlaylistItem};
pub use routes::routes;
pub use service::{PlaylistService, PlaylistServiceParts};

use formats::FormatError;
use http_semantics::error_codes::ErrorCode;
use server_kit::api::error::Error as ApiError;

/// Reason for which a request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database does not answer: try again.
    #[error("playlists cannot be kept or read at the moment")]
    Unavailable,
    /// No such playlist, or not one of this user.
    #[error("there is no such playlist")]
    NoSuchPlaylist,
    /// The user has as many as there may be.
    #[error("there are {0} playlists of this user, which is the most that are kept")]
    TooManyPlaylists(u32),
    /// More tracks than a playlist may have.
    #[error("the playlist would have {0} tracks; at most {1} are kept")]
    TooManyItems(usize, u32),
    /// More text than a playlist may have.
    #[error("the playlist would have {0} bytes; at most {1} are kept")]
    TooLarge(usize, u64),
    /// The playlist is another one than the request is about.
    #[error("the playlist was changed meanwhile: get it again, and send the change with its `ETag` as `If-Match`")]
    Changed,
    /// The file is no playlist.
    #[error("the file cannot be read: {0}")]
    Unreadable(FormatError),
    /// The file names no track.
    #[error("the file names no track of this server")]
    NothingImported,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Unavailable => Self::unavailable(detail),
            Error::NoSuchPlaylist => Self::not_found(detail),
            Error::TooManyPlaylists(_) => Self::conflict(detail),
            Error::Changed => Self::new(ErrorCode::PreconditionFailed, detail),
            Error::TooManyItems(..) | Error::TooLarge(..) | Error::Unreadable(_) | Error::NothingImported => {
                Self::unprocessable(detail)
            }
        }
    }
}
