//! Outbox of a node: messages of all its sessions go into one queue, are sent by one task, and are dropped where Redis
//! does not take them. Nothing here waits, so a session may send while it is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::message::{NodeId, ReplicaMessage};
use crate::audio::chunk::ChunkHeader;
use crate::session::id::SessionId;
use crate::session::incarnation::Incarnation;
use crate::session::metadata::SongMetadata;

/// KiB that wait at most: half a second of 100 hosts of the document.
const MAX_QUEUED_KIB: usize = 16 * 1024;
/// Heartbeats that wait at most; all other sessions have theirs within a second anyway.
const MAX_QUEUED_HEARTBEATS: usize = 1024;

/// Message on its way, and its session.
pub struct OutboxItem {
    /// Id of the session.
    pub id: SessionId,
    /// Start of the session.
    pub incarnation: Incarnation,
    /// Content of the message.
    pub payload: OutboxPayload,
    _room: OwnedSemaphorePermit,
}

/// Content of a message.
pub enum OutboxPayload {
    /// Message for a node, or for all.
    Message(NodeId, ReplicaMessage),
    /// Metadata, and whether the cover goes along: Redis may not have it.
    Metadata(Arc<SongMetadata>, bool),
    /// Chunk for the document's stream, which keeps about so many.
    StoredChunk(ChunkHeader, bytes::Bytes, usize),
}

/// Sending end of the outbox.
pub struct ReplicationOutbox {
    node: NodeId,
    compatibility: bool,
    room: Arc<Semaphore>,
    out: mpsc::UnboundedSender<OutboxItem>,
    heartbeats: mpsc::Sender<SessionId>,
    overflows: IntCounter,
    /// True where messages were dropped since this was asked last.
    overflowed: AtomicBool,
}

/// Receiving end of a [`ReplicationOutbox`].
pub struct OutboxReceivers {
    /// Messages to send.
    pub items: mpsc::UnboundedReceiver<OutboxItem>,
    /// Sessions that want their heartbeat at once.
    pub heartbeats: mpsc::Receiver<SessionId>,
}

impl ReplicationOutbox {
    /// Creates the outbox of `node`; messages for which there is no room count in `overflows`. `compatibility`: chunks
    /// are kept in Redis.
    pub fn new(node: NodeId, compatibility: bool, overflows: IntCounter) -> (Self, OutboxReceivers) {
        // Bounded in bytes by the permits, not in messages: a chunk may have a thousand times a line's.
        let (out, outs) = mpsc::unbounded_channel();
        let (turns, turn) = mpsc::channel(MAX_QUEUED_HEARTBEATS);
        let room = Arc::new(Semaphore::new(MAX_QUEUED_KIB));
        (
            Self { node, compatibility, room, out, heartbeats: turns, overflows, overflowed: AtomicBool::new(false) },
            OutboxReceivers { items: outs, heartbeats: turn },
        )
    }

    /// Returns the id of this node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns whether chunks are kept for programs that know only the document.
    pub fn keeps_audio(&self) -> bool {
        self.compatibility
    }

    /// Returns whether messages were dropped since this was asked last.
    pub fn take_overflowed(&self) -> bool {
        self.overflowed.swap(false, Ordering::Relaxed)
    }

    /// Asks for the session's heartbeat now rather than within a second.
    pub fn request_heartbeat(&self, id: SessionId) {
        let _ = self.heartbeats.try_send(id);
    }

    /// Sends a message, where there is room for it.
    pub fn send(&self, id: SessionId, incarnation: Incarnation, payload: OutboxPayload) {
        let size = match &payload {
            OutboxPayload::Message(_, message) => message.approximate_bytes(),
            OutboxPayload::Metadata(song, with_cover) => song.approximate_bytes(*with_cover),
            OutboxPayload::StoredChunk(_, samples, _) => samples.len(),
        };
        let room = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(room) else {
            self.overflows.inc();
            self.overflowed.store(true, Ordering::Relaxed);
            return;
        };
        // Nobody takes it any more when the node stops.
        let _ = self.out.send(OutboxItem { id, incarnation, payload, _room: room });
    }
}
