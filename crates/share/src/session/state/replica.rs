//! A session's place among the nodes: which node answers for it, which ones need its audio, and what they have of it.

use std::time::Duration;

use super::backlog::BacklogWait;
use crate::replication::message::NodeId;
use crate::replication::report::LEASE;
use primitives::unix_time::UnixMillis;

/// Heartbeats for which a node without the host waits before it gives way to another session of the same id.
const RIVAL_HEARTBEATS: u8 = 3;
/// Time for which a copy is kept that nobody asks for.
const UNUSED_TIME: Duration = Duration::from_secs(10);
/// Nodes that are lent audio at most: each message may name another one.
const MAX_LEASES: usize = 1_024;
/// Time after which a cover that has not changed is published again: before the copy of it expires.
const COVER_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Place of a session among the nodes. Each node is the others' equal; only the counting of sessions needs one that answers
/// for it, the home.
pub struct ReplicaState {
    home: bool,
    /// True once the other nodes know that the session has ended.
    end_published: bool,
    requested_at: UnixMillis,
    rival_heartbeats: u8,
    /// Nodes that need audio, and until when.
    audio_leases: Vec<(NodeId, UnixMillis)>,
    remote_listeners: usize,
    remote_bytes: u64,
    needed_audio: bool,
    /// Audio that waits for what came before it.
    pub backlog_wait: Option<BacklogWait>,
    /// Time at which metadata took its cover along last; `None` before the first.
    cover_published_at: Option<UnixMillis>,
}

impl ReplicaState {
    /// Creates the replica state of a session that begins at this node, or (`home` is false) of a copy of one.
    pub fn new(home: bool, now: UnixMillis) -> Self {
        Self {
            home,
            end_published: false,
            requested_at: now,
            rival_heartbeats: 0,
            audio_leases: Vec::new(),
            remote_listeners: 0,
            remote_bytes: 0,
            needed_audio: false,
            backlog_wait: None,
            cover_published_at: None,
        }
    }

    /// Returns whether this node answers for the session.
    pub fn is_home(&self) -> bool {
        self.home
    }

    /// Sets whether this node answers for the session; returns true where that is news.
    pub fn set_home(&mut self, home: bool) -> bool {
        std::mem::replace(&mut self.home, home) != home
    }

    /// Returns whether the other nodes know of the end.
    pub fn is_end_published(&self) -> bool {
        self.end_published
    }

    /// Notes that the other nodes know of the end.
    pub fn set_end_published(&mut self) {
        self.end_published = true;
    }

    /// Notes that somebody asks for the session.
    pub fn note_request(&mut self, now: UnixMillis) {
        self.requested_at = now;
    }

    /// Returns whether nobody has asked for the session in a while.
    pub fn is_unrequested(&self, now: UnixMillis) -> bool {
        now - self.requested_at >= UNUSED_TIME
    }

    /// Lends audio to `node` for the time of a lease.
    pub fn lease_audio(&mut self, node: NodeId, now: UnixMillis) {
        let until = now + LEASE;
        let full = self.audio_leases.len() >= MAX_LEASES;
        match self.audio_leases.iter_mut().find(|(known, _)| *known == node) {
            Some((_, known)) => *known = until,
            None if full => {}
            None => self.audio_leases.push((node, until)),
        }
    }

    /// Returns whether a node needs audio.
    pub fn has_audio_lease(&self, now: UnixMillis) -> bool {
        self.audio_leases.iter().any(|(_, until)| *until > now)
    }

    /// Takes in a heartbeat's answer: listeners and bytes at other nodes, and the nodes that need audio.
    pub fn apply_heartbeat(
        &mut self,
        listeners: usize,
        bytes: u64,
        needy: impl Iterator<Item = NodeId>,
        now: UnixMillis,
    ) {
        self.rival_heartbeats = 0;
        (self.remote_listeners, self.remote_bytes) = (listeners, bytes);
        needy.for_each(|node| self.lease_audio(node, now));
        // Nodes that were stopped or killed never say so: their leases just run out.
        self.audio_leases.retain(|(_, until)| *until > now);
    }

    /// Counts a heartbeat that found another session of the id; returns true where this one gives way. One whose host
    /// `sends_here` does so at once, so that the host is told; the others wait for that node's heartbeat.
    pub fn yields_to_rival(&mut self, sends_here: bool) -> bool {
        self.rival_heartbeats = self.rival_heartbeats.saturating_add(1);
        sends_here || self.rival_heartbeats >= RIVAL_HEARTBEATS
    }

    /// Returns how many listen at other nodes.
    pub fn remote_listeners(&self) -> usize {
        self.remote_listeners
    }

    /// Returns the bytes of audio that the host has sent to other nodes.
    pub fn remote_bytes(&self) -> u64 {
        self.remote_bytes
    }

    /// Sets whether audio is needed here; returns true where it is not any more.
    pub fn stop_needing_audio(&mut self, needs: bool) -> bool {
        std::mem::replace(&mut self.needed_audio, needs) && !needs
    }

    /// Returns whether metadata is published with its cover: where that `changed`, or its copy is about to expire.
    pub fn takes_cover(&mut self, changed: bool, now: UnixMillis) -> bool {
        let due = changed || self.cover_published_at.is_none_or(|published| now - published >= COVER_AGAIN_AFTER);
        if due {
            self.cover_published_at = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn audio_is_lent_for_the_time_of_a_lease() {
        let mut replica = ReplicaState::new(true, at(0));
        assert!(!replica.has_audio_lease(at(0)));
        replica.lease_audio(NodeId::ALL, at(1_000));
        assert_eq!([3_999, 4_000].map(|now| replica.has_audio_lease(at(now))), [true, false]);
        replica.apply_heartbeat(3, 7, std::iter::once(NodeId::ALL), at(10_000));
        assert!(replica.has_audio_lease(at(12_999)));
        assert_eq!((replica.remote_listeners(), replica.remote_bytes()), (3, 7));
    }

    #[test]
    fn who_has_the_host_gives_way_to_a_rival_at_once_and_the_others_at_the_third_heartbeat() {
        assert!(ReplicaState::new(true, at(0)).yields_to_rival(true));
        let mut replica = ReplicaState::new(true, at(0));
        assert_eq!([(); 3].map(|()| replica.yields_to_rival(false)), [false, false, true]);
        replica.apply_heartbeat(0, 0, std::iter::empty(), at(0));
        assert!(!replica.yields_to_rival(false), "it was alone for once");
    }

    #[test]
    fn a_cover_goes_along_when_it_changes_and_before_it_expires() {
        let mut replica = ReplicaState::new(true, at(0));
        let taken = [(false, 0), (false, 9_999), (true, 9_999), (false, 10_000), (false, 19_999)]
            .map(|(changed, now)| replica.takes_cover(changed, at(now)));
        assert_eq!(taken, [true, false, true, false, true]);
    }

    #[test]
    fn the_end_of_a_need_is_news_once() {
        let mut replica = ReplicaState::new(true, at(0));
        let ends = [false, true, true, false, false].map(|needs| replica.stop_needing_audio(needs));
        assert_eq!(ends, [false, false, false, true, false]);
    }
}
