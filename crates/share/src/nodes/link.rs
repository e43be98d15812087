//! A session's way to other nodes: what it says goes into one queue of the node, is sent by one task, and is dropped where
//! Redis does not take it. Nothing here waits, so a session may say it while it is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::wire::{Message, NodeId};
use crate::chunk::Label;
use crate::id::SessionId;
use crate::incarnation::Incarnation;
use crate::metadata::Metadata;

/// KiB that wait at most: half a second of 100 hosts of the document.
const ROOM: usize = 16 * 1024;
/// Sessions that wait for their turn at most; all others have it within a second anyway.
const TURNS: usize = 1024;

/// What goes out, and of which session.
pub struct Sent {
    /// The session.
    pub id: SessionId,
    /// Which of its id.
    pub incarnation: Incarnation,
    /// What it is.
    pub what: What,
    _room: OwnedSemaphorePermit,
}

/// What goes out.
pub enum What {
    /// A message for a node, or for all.
    Message(NodeId, Message),
    /// The song, with its cover where Redis may not have it.
    Song(Arc<Metadata>, bool),
    /// A chunk for the document's stream, which keeps about so many.
    Kept(Label, bytes::Bytes, usize),
}

/// The way out of all sessions of a node.
pub struct Link {
    node: NodeId,
    compatibility: bool,
    room: Arc<Semaphore>,
    out: mpsc::UnboundedSender<Sent>,
    turns: mpsc::Sender<SessionId>,
    overflows: IntCounter,
    /// Whether words were dropped since this was asked last.
    lost: AtomicBool,
}

/// The other end of a [`Link`].
pub struct Ends {
    /// What goes out.
    pub out: mpsc::UnboundedReceiver<Sent>,
    /// Sessions of which something is to be said at once.
    pub turns: mpsc::Receiver<SessionId>,
}

impl Link {
    /// A link of `node`; what there is no room for counts in `overflows`. `compatibility`: chunks are kept in Redis.
    pub fn new(node: NodeId, compatibility: bool, overflows: IntCounter) -> (Self, Ends) {
        let (out, outs) = mpsc::unbounded_channel();
        let (turns, turn) = mpsc::channel(TURNS);
        let room = Arc::new(Semaphore::new(ROOM));
        (
            Self { node, compatibility, room, out, turns, overflows, lost: AtomicBool::new(false) },
            Ends { out: outs, turns: turn },
        )
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Whether chunks are kept for programs that know only the document.
    pub fn keeps(&self) -> bool {
        self.compatibility
    }

    /// Whether something was dropped since this was asked last.
    pub fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }

    /// Has the session's turn come now rather than within a second.
    pub fn hurry(&self, id: SessionId) {
        let _ = self.turns.try_send(id);
    }

    /// Sends.
    pub fn send(&self, id: SessionId, incarnation: Incarnation, what: What) {
        let size = match &what {
            What::Message(_, message) => message.size(),
            What::Song(song, whole) => song.size(*whole),
            What::Kept(_, samples, _) => samples.len(),
        };
        let room = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(room) else {
            self.overflows.inc();
            self.lost.store(true, Ordering::Relaxed);
            return;
        };
        // Nobody takes it any more when the node stops.
        let _ = self.out.send(Sent { id, incarnation, what, _room: room });
    }
}
