//! Sessions of viewers: opened when a film is started, extended while it plays, ended by the viewer, by an operator, by
//! time, or by a newer session of the same user.

use std::sync::Arc;

use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

/// Id of a session: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// Kind of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ManifestType {
    /// HTTP Live Streaming (RFC 8216).
    Hls,
    /// MPEG-DASH (ISO/IEC 23009-1).
    Dash,
}

/// Rules that a grant carries with it, as bits; those that are not named are reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrantPolicy(pub u8);

/// Session of a viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilmSession {
    /// Its id.
    pub id: SessionId,
    /// The viewer.
    pub user: UserId,
    /// The viewer's token generation when it was opened: a logout everywhere begins the next one.
    pub generation: u32,
    /// The film.
    pub movie: TrackId,
    /// Prefix of the film's keys in the bucket, with a slash at its end.
    pub prefix: Arc<str>,
    /// Manifest that it was opened for.
    pub manifest_type: ManifestType,
    /// Rules of its grant.
    pub policy: GrantPolicy,
    /// Time at which it was opened.
    pub opened_at: UnixMillis,
    /// Time at which it ends unless it is extended.
    pub expires_at: UnixMillis,
}

/// Reason for which a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionEnd {
    /// The viewer stopped it.
    Stopped,
    /// Neither a report nor a segment in time, the ceiling reached, or there was never one of that id.
    Expired,
    /// An operator ended it, or the user has logged out everywhere.
    Revoked,
    /// A newer session of the same user took its place.
    Displaced,
    /// The subscription has ended.
    Unsubscribed,
}

/// Verdict over a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionVerdict {
    /// It lives.
    Live,
    /// It has ended.
    Ended(SessionEnd),
}

/// The sessions cannot be read or written now: try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sessions of films cannot be read or written at the moment")]
pub struct SessionsUnavailable;
