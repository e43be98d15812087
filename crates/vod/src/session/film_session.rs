//! Session of a viewer as others see it: its id, its verdicts, and the views in it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

/// Id of a session: 128 random bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// Returns a new id.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Parses the text of an id.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(|id| Self(id.into_bytes()))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

/// Kind of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionVerdict {
    /// It lives, and is this viewer's.
    Live(UserId),
    /// It has ended.
    Ended(SessionEnd),
}

/// The sessions cannot be read or written now: try again. That is no verdict: a grant that has not expired may be
/// believed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sessions of films cannot be read or written at the moment")]
pub struct SessionsUnavailable;

/// Reason for which a session cannot be opened now: try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionOpenError {
    /// The sessions cannot be written.
    #[error(transparent)]
    Sessions(#[from] SessionsUnavailable),
    /// Nobody can tell whether the user has logged out everywhere.
    #[error("whether you have logged out cannot be told at the moment")]
    LogoutsUnavailable,
}

/// View that has begun or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilmView {
    /// Its id.
    pub id: Uuid,
    /// Session that it is in.
    pub session: SessionId,
    /// The viewer.
    pub user: UserId,
    /// The film.
    pub movie: TrackId,
    /// Time at which it began.
    pub started_at: UnixMillis,
    /// Time of the last report; of a player that sends none, of the last segment.
    pub last_seen_at: UnixMillis,
    /// Position of the last report, in milliseconds.
    pub position: i64,
    /// Device that it began with.
    pub device: ViewerDevice,
    /// True if it has ended and that is published already, but not recorded.
    pub is_published: bool,
}

/// Device of a viewer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerDevice {
    /// The header `User-Agent`, cut to 512 bytes.
    pub user_agent: Option<Box<str>>,
    /// The address.
    pub address: Option<IpAddr>,
}

/// Longest user agent that is kept, in bytes.
const MAX_AGENT_BYTES: usize = 512;

impl ViewerDevice {
    /// Creates it from the header and the address.
    pub fn new(user_agent: Option<&str>, address: Option<IpAddr>) -> Self {
        Self { user_agent: user_agent.map(|agent| cut(agent, MAX_AGENT_BYTES).into()), address }
    }
}

/// Returns the beginning of `text`, at most `most` bytes, that ends at a character.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// Position that a player has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedPosition {
    /// Milliseconds from the beginning.
    pub position: i64,
    /// Time by the player's clock, which orders reports that overtake each other; not after the time of their arrival. Reports
    /// without one are in the order of their arrival: the clocks of two nodes differ.
    pub at: Option<UnixMillis>,
}

/// Outcome of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportOutcome {
    /// View that begins with it, where the one before has ended.
    pub begun: Option<FilmView>,
    /// True if the view has a newer position, which stays.
    pub is_outdated: bool,
}

/// Outcome of a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// This view has ended.
    Ended(FilmView),
    /// The last view had ended before.
    HadEnded,
    /// No session is known.
    Unknown,
}

/// Session that was opened.
#[derive(Debug)]
pub struct OpenedSession {
    /// The session.
    pub session: FilmSession,
    /// Its first view.
    pub view: FilmView,
    /// Views that ended since the user had too many sessions.
    pub displaced: Vec<FilmView>,
}

/// Session that [`FilmSessions::take_due`](super::FilmSessions::take_due) has looked at.
#[derive(Debug)]
pub struct DueSession {
    /// Its id.
    pub id: SessionId,
    /// The viewer.
    pub user: UserId,
    /// Views that have ended: reports are missing, or the node that ended one has not finished it.
    pub ended: Vec<FilmView>,
    /// True if the subscription should be checked again.
    pub is_recheck_due: bool,
    /// True if it is not extended any more.
    pub is_ending: bool,
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_long_user_agent_is_cut_at_a_character() {
        assert_eq!(cut("abc", 512), "abc");
        assert_eq!(cut("aüb", 2), "a");
    }
}
