//! Lyrics of tracks: from files beside them, from their tags, from LRCLIB and Genius, or set by their owners.
//!
//! Owns the formats ([`text`]), the [`sources`], the tables `lyrics_cache` and `lyrics_edits`, and the API. Knows tracks by
//! what a [`TrackResolver`] says of them, and nothing of the catalog or the proxy: who may stream a track may read its lyrics.

mod bodies;
mod edit_events;
mod metrics;
mod recent_failures;
mod routes;
mod search;
mod service;
pub mod settings;
pub mod sources;
mod store;
#[cfg(test)]
mod tests;
pub mod text;
mod track_lyrics;
mod track_question;
mod view;

use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
use sha2::{Digest, Sha256};

pub use routes::{admin_routes, routes};
pub use service::{LyricsService, LyricsServiceParts};

use primitives::hexadecimal::hexadecimal;
use primitives::ids::TrackId;
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error as ApiError;
use server_kit::api::user::User;
use sources::object_reader::TrackBucket;

/// A track as lyrics need it.
#[derive(Clone)]
pub struct LyricsTrack {
    /// Id.
    pub id: TrackId,
    /// Bucket of its object.
    pub bucket: TrackBucket,
    /// Key of its object.
    pub key: String,
    /// Owner, who may set its lyrics.
    pub owner: Option<Arc<str>>,
    /// Time of its addition to the catalogue, by which it differs from another track that had the id before; `None` where its
    /// object is found by its id, or by what the token says, alone.
    pub created_at: Option<UnixMillis>,
    /// Time of the last change of the entry, if there is one.
    pub updated_at: Option<UnixMillis>,
}

impl LyricsTrack {
    /// Returns the name under which answers and edits are kept: the id of a track of the catalogue, else a digest of the object,
    /// since the id may stand for other ones in other stores and for other users. No id has a control character.
    pub(crate) fn subject(&self) -> String {
        if self.created_at.is_some() {
            return self.id.as_str().to_owned();
        }
        let TrackBucket { signer, name } = &self.bucket;
        let object = serde_json::json!([self.id.as_str(), **signer.identity(), **name, self.key]).to_string();
        let digest = hexadecimal(&Sha256::digest(object));
        format!("\u{1}{digest}")
    }
}

/// Finder of tracks, implemented by the part that streams them.
pub trait TrackResolver: Send + Sync {
    /// Returns the track; an error says why `user`, who asks with `request_head`, cannot stream it.
    fn resolve<'a>(
        &'a self,
        id: &'a TrackId,
        request_head: &'a Parts,
        user: &'a User,
    ) -> BoxFuture<'a, Result<LyricsTrack, ApiError>>;
}

/// Reason for which a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database does not answer.
    #[error("lyrics cannot be kept or read at the moment")]
    Unavailable,
    /// Too much is asked at once.
    #[error("too many lyrics are looked up or read at once")]
    Busy,
    /// No source that could have lyrics answers, and none are kept.
    #[error("the sources of lyrics cannot be asked at the moment")]
    SourcesUnavailable,
    /// There are none.
    #[error("there are no lyrics of this track")]
    Missing,
    /// Neither the owner nor an admin.
    #[error("only the track's owner or an admin may do that")]
    NotOwner,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Unavailable | Error::Busy | Error::SourcesUnavailable => Self::unavailable(text),
            Error::Missing => Self::not_found(text),
            Error::NotOwner => Self::forbidden(text),
        }
    }
}
