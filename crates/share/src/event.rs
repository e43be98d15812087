//! What a session tells those who are connected to it: on one ring per session, so that a listener that is slow costs the
//! others nothing.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};

use super::lane::Frame;

/// Events that a listener may be behind; who is further behind goes on at the live edge.
pub const RING: usize = 32;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The host stopped it.
    Stopped,
    /// The host was not heard of for too long.
    Timeout,
    /// While nodes were apart, one that began before got the same id.
    Replaced,
}

impl Reason {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Timeout => "timeout",
            Self::Replaced => "replaced",
        }
    }

    /// The reason of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Stopped, Self::Timeout, Self::Replaced].into_iter().find(|reason| reason.name() == name)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Audio.
    Frame(Arc<Frame>),
    /// The host has said something of the song: it is with the session, since lyrics are large and the ring would hold
    /// many.
    Metadata,
    /// So many listen; told from time to time too, so that dead connections show.
    Count(usize),
    /// Another socket is the host's from now on.
    HostReplaced,
    /// The host's socket was lost, or is there again.
    Host(bool),
    /// A line of the chat, or that it is switched on or off, as it is sent.
    Chat(Utf8Bytes),
    /// The last lines are others than were told: they are with the session.
    ChatAnew,
    /// Whether the session is recorded, from now on.
    Recording(bool),
    /// The session is over.
    Ended(Reason),
    /// This node stops; the session may go on elsewhere.
    Stopping,
}
