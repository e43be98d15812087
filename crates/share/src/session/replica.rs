//! A session's dealings with other nodes: messages and heartbeats in, reports out.

use super::Session;
use super::event::EndReason;
use super::metadata::SongMetadata;
use super::state::SessionState;
use crate::replication::message::{ControlMessage, NodeId, ReplicaMessage};
use crate::replication::outbox::OutboxPayload;
use crate::replication::report::{RegistryEntry, ReplicaReport};
use primitives::unix_time::UnixMillis;

impl Session {
    /// Takes a message of another node.
    pub fn receive_message(&self, from: NodeId, message: ReplicaMessage, now: UnixMillis) {
        self.apply(|state, effects| state.receive_message(from, message, now, effects));
    }

    /// Takes metadata that the host has sent to another node.
    pub fn set_remote_metadata(&self, metadata: SongMetadata) {
        self.apply(|state, effects| state.set_remote_metadata(metadata, effects));
    }

    /// Takes what the registry knows of the session; `me` is this node.
    pub fn apply_registry_entry(&self, entry: &RegistryEntry, me: NodeId, now: UnixMillis) {
        self.apply(|state, effects| state.apply_registry_entry(entry, me, now, effects));
    }

    /// Counts a heartbeat that found another session of this id; returns true where this one gives way to it.
    pub fn yields_to_rival(&self, now: UnixMillis) -> bool {
        self.apply(|state, _| state.yields_to_rival(now))
    }

    /// Ends the session at this node: it has ended at another, and the others know.
    pub fn end_remotely(&self, reason: EndReason, at: UnixMillis) {
        self.close(reason, at);
        self.set_end_published();
    }

    /// Returns what the registry is told of the session.
    pub fn replica_report(&self, now: UnixMillis) -> ReplicaReport {
        self.read(|state| state.replica_report(self.id, self.start, now))
    }

    /// Returns whether this node answers for the session, and it is live.
    pub fn is_home(&self) -> bool {
        self.read(SessionState::is_home)
    }

    /// Returns whether this is a copy that nobody at this node has asked for in a while.
    pub fn is_unused_copy(&self, now: UnixMillis) -> bool {
        self.events.receiver_count() == 0 && self.read(|state| state.is_unused_copy(now))
    }

    /// Notes that somebody asks for the session.
    pub fn note_request(&self, now: UnixMillis) {
        self.apply(|state, _| state.note_request(now));
    }

    /// Returns whether there is nothing more to tell the other nodes.
    pub fn is_end_published(&self) -> bool {
        self.read(SessionState::is_end_published)
    }

    /// Notes that the other nodes know of the end.
    pub fn set_end_published(&self) {
        self.apply(|state, _| state.set_end_published());
    }

    /// Sends a message without audio to all other nodes.
    pub fn announce(&self, message: ControlMessage) {
        self.send(OutboxPayload::Message(NodeId::ALL, ReplicaMessage::Control(message)));
    }

    /// Exchanges the chat's history with all nodes: each may have missed lines of the others.
    pub fn exchange_chat(&self) {
        self.apply(|state, effects| state.exchange_chat(effects));
    }
}
