//! Recognition: which track of the catalogue a clip of sound is from.
//!
//! Owns the landmarks of sound, the [`index`] of them on this node's disk, the table `recognition_history`, and the API. Knows
//! tracks by what a [`TrackDirectory`] says of them, and nothing of the catalog or the proxy: a track that a user may not stream
//! is not named to the user.

mod clip;
mod history;
pub mod index;
pub mod landmarks;
mod metrics;
mod routes;
mod service;
pub mod settings;
mod view;

use futures::future::BoxFuture;
use http::request::Parts;

pub use clip::{ClipError, ClipFormat, landmarks as clip_landmarks};
pub use routes::{history_routes, routes};
pub use service::{MIN_SCORE, RecognitionService, RecognitionServiceParts};

use http_semantics::error_codes::ErrorCode;
use server_kit::api::error::Error as ApiError;
use server_kit::api::user::User;

/// Names of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecognizedTrack {
    /// Its title.
    pub title: String,
    /// Its artist, where it is known.
    pub artist: Option<String>,
}

/// Directory of tracks, implemented by the part that streams them.
pub trait TrackDirectory: Send + Sync {
    /// Returns the names of the track that has this version of its object; `None` where there is none, or where `user`, who asks
    /// with `request_head`, may not stream it. An error says that nobody can tell.
    fn describe<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        request_head: &'a Parts,
        user: &'a User,
    ) -> BoxFuture<'a, Result<Option<RecognizedTrack>, ApiError>>;
}

/// Reason for which a request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database does not answer.
    #[error("the history cannot be kept or read at the moment")]
    Unavailable,
    /// There is no index, or it cannot be read.
    #[error("there is no index of the catalogue's sound at the moment")]
    NoIndex,
    /// Too many clips are sent at once.
    #[error("too many clips are recognised at once")]
    Busy,
    /// The form has not been sent in time.
    #[error("the file was not sent within a minute")]
    SlowUpload,
    /// The form is none.
    #[error("{0}")]
    Form(&'static str),
    /// The file is too large.
    #[error("the file is larger than 10 MiB")]
    TooLarge,
    /// The content is of none of the formats.
    #[error("the file is none of MP3, WAVE, Ogg and M4A, whatever its name says")]
    Format,
    /// The clip has no sound.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// No such entry of this user.
    #[error("there is no such entry in the history")]
    NoSuchEntry,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Unavailable | Error::NoIndex | Error::Busy => Self::unavailable(text),
            Error::SlowUpload => Self::new(ErrorCode::RequestTimeout, text),
            Error::Form(_) => Self::bad_request(text),
            Error::TooLarge => Self::too_large(text),
            Error::Format => Self::unsupported_media_type(text),
            Error::Clip(_) => Self::unprocessable(text),
            Error::NoSuchEntry => Self::not_found(text),
        }
    }
}
