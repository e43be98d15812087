//! Inputs of other nodes: audio of a host that sends there, which is taken as if it had come here but without limits,
//! messages, and what heartbeats bring.

use std::sync::Arc;
use std::time::Duration;

use super::SessionState;
use super::backlog::{audio_duration, backlog_of};
use super::effect::{Effect, Effects};
use crate::audio::chunk::AudioChunk;
use crate::audio::opus::decode_opus_frame;
use crate::replication::message::{ControlMessage, NodeId, ReplicaMessage};
use crate::replication::report::{HostSocket, RegistryEntry, ReplicaReport};
use crate::session::event::SessionEvent;
use crate::session::id::SessionId;
use crate::session::incarnation::SessionStart;
use crate::session::metadata::SongMetadata;
use primitives::unix_time::{UnixMicros, UnixMillis};

impl SessionState {
    /// Takes a message of another node.
    pub fn receive_message(&mut self, from: NodeId, message: ReplicaMessage, now: UnixMillis, effects: &mut Effects) {
        if self.ended.is_some() {
            return;
        }
        match message {
            ReplicaMessage::Control(message) => self.receive_control(from, message, now, effects),
            audio if self.needs_audio(now) => self.receive_remote_audio(from, audio, now, effects),
            // It was on its way when nobody here needed it any more.
            ReplicaMessage::Chunk(..) | ReplicaMessage::Frame(_) | ReplicaMessage::Backlog(_) => {}
        }
    }

    fn receive_control(&mut self, from: NodeId, message: ControlMessage, now: UnixMillis, effects: &mut Effects) {
        if !message.is_plausible(now) {
            return;
        }
        match message {
            ControlMessage::NeedsAudio { backlog } => {
                self.replica.lease_audio(from, now);
                if backlog && self.host.sends_here(now) {
                    effects.push(Effect::Replicate(from, backlog_of(&self.audio)));
                }
                // It may have begun before that node had the session.
                if self.recording.is_here() {
                    effects.reply(from, ControlMessage::Recorded { on: true });
                }
            }
            // Where both have the same number, the registry says whose the host is.
            ControlMessage::HostSocket { here: true, number } if number > self.host.socket_number() => {
                self.replace_host(number, effects);
            }
            ControlMessage::HostSocket { here: false, .. } if !self.host.is_connected() => self.set_away(true, effects),
            ControlMessage::ChatLine { line } => self.insert_line(&line, effects),
            ControlMessage::ChatSwitched { on, id } => self.apply_chat_switch(on, id, effects),
            ControlMessage::RequestChat => self.send_chat(from, effects),
            ControlMessage::ChatHistory(history) => self.merge_chat(&history, now, effects),
            ControlMessage::Recorded { on } => self.set_recorded_elsewhere(on, effects),
            ControlMessage::EndRecording => self.stop_recorder(effects),
            // The others are taken in before they come here.
            ControlMessage::HostSocket { .. } | ControlMessage::Metadata { .. } | ControlMessage::Ended { .. } => {}
        }
    }

    fn receive_remote_audio(&mut self, from: NodeId, audio: ReplicaMessage, now: UnixMillis, effects: &mut Effects) {
        // Its host is live, or this copy would end by the timeout before the next heartbeat tells so.
        self.host.note_heard_elsewhere(now);
        let Some(wait) = &mut self.replica.backlog_wait else {
            // A second backlog tells nothing new.
            if !matches!(audio, ReplicaMessage::Backlog(_)) {
                self.take_remote_audio(audio, now.to_micros(), now, effects);
            }
            return;
        };
        match audio {
            ReplicaMessage::Backlog(parts) => {
                // The last of it ends now; the parts before it came as much earlier as they play.
                let mut ago: Duration = parts.iter().map(audio_duration).sum();
                for part in parts {
                    let own = audio_duration(&part);
                    self.take_remote_audio(part, now.to_micros() - ago, now, effects);
                    ago = ago.saturating_sub(own);
                }
                self.end_backlog_wait(Some(from), now, effects);
            }
            audio => {
                if wait.hold(from, audio) {
                    self.end_backlog_wait(None, now, effects);
                }
            }
        }
    }

    fn end_backlog_wait(&mut self, sender: Option<NodeId>, now: UnixMillis, effects: &mut Effects) {
        let Some(wait) = self.replica.backlog_wait.take() else { return };
        for audio in wait.into_audio(sender) {
            self.take_remote_audio(audio, now.to_micros(), now, effects);
        }
    }

    /// Takes audio that came to another node at `arrived_at`.
    fn take_remote_audio(
        &mut self,
        audio: ReplicaMessage,
        arrived_at: UnixMicros,
        now: UnixMillis,
        effects: &mut Effects,
    ) {
        match audio {
            ReplicaMessage::Chunk(header, samples) => {
                if let Ok(chunk) = AudioChunk::from_samples(header, samples, arrived_at) {
                    self.audio.receive_chunk(Arc::new(chunk), now, effects);
                }
            }
            ReplicaMessage::Frame(bytes) => {
                if let Ok((header, packets)) = decode_opus_frame(bytes, arrived_at) {
                    self.audio.receive_packets(&header, packets, effects);
                }
            }
            ReplicaMessage::Backlog(_) | ReplicaMessage::Control(_) => {}
        }
    }

    /// Takes metadata that the host has sent to another node.
    pub fn set_remote_metadata(&mut self, metadata: SongMetadata, effects: &mut Effects) {
        if self.ended.is_none() {
            self.metadata = Some(Arc::new(metadata));
            effects.notify(SessionEvent::MetadataChanged);
        }
    }

    /// Takes what the registry knows of the session; `me` is this node.
    pub fn apply_registry_entry(&mut self, entry: &RegistryEntry, me: NodeId, now: UnixMillis, effects: &mut Effects) {
        if self.ended.is_some() {
            return;
        }
        // The registry moves the home to a node that hears the host, so this can change at any heartbeat.
        let home = entry.home == Some(me);
        if self.replica.set_home(home) {
            effects.push(Effect::HomeChanged(home));
        }
        let elsewhere = entry.socket_holder.is_some_and(|holder| holder != me);
        if self.host.yields_to(entry.highest_socket, elsewhere) {
            self.replace_host(entry.highest_socket, effects);
        }
        self.host.note_heard_elsewhere(now - entry.heard_ago);
        let listeners = entry.replicas.iter().map(|replica| replica.listeners).sum();
        let needy = entry.replicas.iter().filter(|replica| replica.needs_audio).map(|replica| replica.id);
        self.replica.apply_heartbeat(listeners, entry.bytes, needy, now);
        let connected = self.host.is_connected() || entry.replicas.iter().any(|replica| replica.has_host_socket);
        if let Some(away) = self.host.judge_loss(entry.heard_over_socket && !connected) {
            self.set_away(away, effects);
        }
    }

    /// Closes the host's socket at this node, where there is one: the host has one of this number at another.
    fn replace_host(&mut self, number: u64, effects: &mut Effects) {
        self.host.replace(number);
        self.set_away(false, effects);
        effects.notify(SessionEvent::HostReplaced);
        effects.push(Effect::RequestHeartbeat);
    }

    /// Counts a heartbeat that found another session of this id; returns true where this one gives way to it.
    pub fn yields_to_rival(&mut self, now: UnixMillis) -> bool {
        let sends_here = self.host.sends_here(now);
        self.replica.yields_to_rival(sends_here)
    }

    /// Does what time brings to a session on several nodes.
    pub(super) fn tick_replica(&mut self, now: UnixMillis, effects: &mut Effects) {
        if !self.config.is_replicated {
            return;
        }
        if self.config.stores_audio && self.host.sends_here(now) {
            // Somebody may read the audio where it is stored.
            self.listeners.note_poll(now);
        }
        if self.replica.backlog_wait.as_ref().is_some_and(|wait| wait.is_over(now)) {
            self.end_backlog_wait(None, now, effects);
        }
        let needs = self.needs_audio(now);
        if self.replica.stop_needing_audio(needs) {
            // Audio of other nodes goes by from here on: what came before would not join what comes after.
            self.audio.clear(effects);
        }
    }

    /// Returns whether somebody here needs audio; whoever sends it needs what is sent elsewhere too.
    pub(super) fn needs_audio(&self, now: UnixMillis) -> bool {
        self.audio.listeners() > 0 || self.listeners.has_polled(now) || self.host.sends_here(now)
    }

    /// Returns what the registry is told of the session.
    pub fn replica_report(&self, id: SessionId, start: SessionStart, now: UnixMillis) -> ReplicaReport {
        let opened = self.host.connected_since();
        ReplicaReport {
            id,
            start,
            needs_audio: self.needs_audio(now),
            needs_backlog: self.replica.backlog_wait.is_some(),
            hears_host: self.host.sends_here(now),
            host_socket: opened.map(|opened_at| HostSocket { number: self.host.socket_number(), opened_at }),
            heard_over_socket: self.host.is_over_socket(),
            heard_here_ago: self.host.heard_here().map(|heard| now - heard),
            heard_ago: now - self.host.last_heard(),
            listeners: self.local_listener_count(now),
            bytes: self.received_bytes,
            ended: self.ended.filter(|_| !self.replica.is_end_published()).map(|ended| ended.reason),
        }
    }

    /// Returns whether this node answers for the session, and it is live.
    pub fn is_home(&self) -> bool {
        self.replica.is_home() && self.ended.is_none()
    }

    /// Returns whether this is a copy that nobody at this node has asked for in a while. A copy that its host has sent to is
    /// kept: its bytes would be lost.
    pub fn is_unused_copy(&self, now: UnixMillis) -> bool {
        let copy = self.config.is_replicated && !self.replica.is_home() && self.received_bytes == 0;
        let alone = self.local_listener_count(now) == 0 && !self.host.sends_here(now);
        copy && alone && self.replica.is_unrequested(now)
    }

    /// Notes that somebody asks for the session.
    pub fn note_request(&mut self, now: UnixMillis) {
        self.replica.note_request(now);
    }

    /// Returns whether the other nodes know of the end.
    pub fn is_end_published(&self) -> bool {
        self.replica.is_end_published()
    }

    /// Notes that the other nodes know of the end.
    pub fn set_end_published(&mut self) {
        self.replica.set_end_published();
    }
}
