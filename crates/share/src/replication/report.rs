//! Reports of nodes about their sessions, and what the registry makes of them for the others. Plain values: the registry
//! itself is in `registry.rs`.

use std::time::Duration;

use super::message::NodeId;
use crate::session::event::EndReason;
use crate::session::id::SessionId;
use crate::session::incarnation::SessionStart;
use primitives::unix_time::UnixMillis;

/// Time for which a node's report is true: so soon a node that was killed is forgotten.
pub const LEASE: Duration = Duration::from_secs(3);

/// Socket over which a host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSocket {
    /// Number that is higher than that of any socket of the session that was known where it was opened.
    pub number: u64,
    /// Time at which it was opened.
    pub opened_at: UnixMillis,
}

/// Report of a node about its replica of a session.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaReport {
    /// Id of the session.
    pub id: SessionId,
    /// Start of the session.
    pub start: SessionStart,
    /// True where somebody there needs audio.
    pub needs_audio: bool,
    /// True where the last of what came before is needed, too.
    pub needs_backlog: bool,
    /// True where the host sends there.
    pub hears_host: bool,
    /// Socket of the host, if it is there.
    pub host_socket: Option<HostSocket>,
    /// True where the host was last heard over a socket.
    pub heard_over_socket: bool,
    /// Time since the host was heard there, if it was.
    pub heard_here_ago: Option<Duration>,
    /// Time since the host was heard at any node, as far as is known.
    pub heard_ago: Duration,
    /// Listeners there.
    pub listeners: usize,
    /// Bytes of audio that the host has sent there.
    pub bytes: u64,
    /// Reason of the end, where the other nodes do not know of it yet.
    pub ended: Option<EndReason>,
}

/// Answer of the registry about a session.
#[derive(Clone, Debug)]
pub enum RegistryLookup {
    /// The registry knows no session of this id.
    Absent,
    /// It knows another start of this id.
    OtherIncarnation,
    /// The session has ended.
    Ended {
        /// Start of the session.
        start: SessionStart,
        /// Reason of the end.
        reason: EndReason,
        /// Time since the end.
        age: Duration,
    },
    /// The session is live.
    Live(RegistryEntry),
}

/// Entry of a live session in the registry.
#[derive(Clone, Debug)]
pub struct RegistryEntry {
    /// Start of the session.
    pub start: SessionStart,
    /// Time since its host was heard at any node.
    pub heard_ago: Duration,
    /// Node that answers for it.
    pub home: Option<NodeId>,
    /// True where the host was last heard over a socket.
    pub heard_over_socket: bool,
    /// Bytes of audio that the host has sent to other nodes.
    pub bytes: u64,
    /// Highest number that a socket of its host had.
    pub highest_socket: u64,
    /// Node that has the host's socket.
    pub socket_holder: Option<NodeId>,
    /// Other nodes that have the session.
    pub replicas: Vec<ReplicaStatus>,
}

/// Status of a session at another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Id of the node.
    pub id: NodeId,
    /// Listeners there.
    pub listeners: usize,
    /// True where somebody there needs audio.
    pub needs_audio: bool,
    /// True where the host's socket is there.
    pub has_host_socket: bool,
}

/// Answer of the registry to the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishOutcome {
    /// It has ended by this.
    Ended,
    /// It had ended before, or another start of its id is there.
    AlreadyEnded,
    /// It lives on at other nodes.
    StillLive,
}
