//! Events of a session for those who are connected to it: in one ring per session, so that a listener that is slow
//! costs the others nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audio::packet_queue::AudioFrame;

/// Events that a listener may be behind; one that is further behind goes on at the live edge.
pub const EVENT_RING: usize = 32;

/// Reason of a session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// The host stopped it.
    Stopped,
    /// The host was not heard for too long.
    Timeout,
    /// While nodes were apart, one that began before got the same id.
    Replaced,
}

impl EndReason {
    /// Returns the reason's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Timeout => "timeout",
            Self::Replaced => "replaced",
        }
    }

    /// Returns the reason of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Stopped, Self::Timeout, Self::Replaced].into_iter().find(|reason| reason.name() == name)
    }
}

/// Event of a session.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// Frame of audio.
    Frame(Arc<AudioFrame>),
    /// The host has sent metadata. It is with the session: lyrics are large, and the ring would hold many.
    MetadataChanged,
    /// Number of listeners; told from time to time too, so that dead connections show.
    ListenerCount(usize),
    /// Another socket is the host's from now on.
    HostReplaced,
    /// Presence of a host that sends over a socket: false where it has lost it.
    HostPresence(bool),
    /// Line of the chat, or a switch of it, as it is sent.
    ChatMessage(Arc<str>),
    /// The last lines differ from those that were told: they are with the session.
    ChatReset,
    /// Recording of the session: true from its beginning, false from its end.
    RecordingChanged(bool),
    /// The session is over.
    Ended(EndReason),
    /// This node stops; the session may go on elsewhere.
    NodeStopping,
}
