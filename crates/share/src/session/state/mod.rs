//! State of one session, as a pure machine: each input comes with its time, and what is to be done about it comes out as
//! [`Effect`]s. Knows no socket, no lock, no task and no other node but by its number; the shell around it
//! (`session/mod.rs`) locks it, applies inputs and performs effects.

pub mod audio;
mod backlog;
mod effect;
mod from_host;
mod from_listener;
mod from_replica;
mod host;
mod host_limits;
mod listeners;
mod recording;
mod replica;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use effect::{Effect, Effects};
pub use from_host::{HostChunk, HostFrame};
pub use from_listener::StreamGreeting;

use self::audio::AudioState;
use self::host::HostState;
use self::host_limits::HostLimits;
pub use self::host_limits::MAX_SMALL_TEXT;
use self::listeners::ListenerState;
use self::recording::RecordingState;
use self::replica::ReplicaState;
use super::chat::{ChatHistory, ChatLine, ChatPost, ChatRoom, ChatSender, ChatSnapshot, LinePlacement};
use super::event::{EndReason, SessionEvent};
use super::metadata::SongMetadata;
use crate::recording::{RecordingFailure, RecordingStatus};
use crate::refusal::Refusal;
use crate::replication::message::{ControlMessage, NodeId};
use primitives::unix_time::UnixMillis;

/// Time for which audio is given out after it came: whoever comes to a host that has said nothing since hears nothing.
const AUDIO_LIFE: Duration = Duration::from_secs(10);

/// Settings of a session that never change.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Number of this node: chat ids end in a part of it.
    pub node: u64,
    /// How much audio is kept.
    pub buffer: Duration,
    /// True where there may be other nodes.
    pub is_replicated: bool,
    /// True where chunks are stored for programs that read no more than that.
    pub stores_audio: bool,
    /// True where this node can record.
    pub can_record: bool,
}

/// End of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// Reason of the end.
    pub reason: EndReason,
    /// Time of the end.
    pub at: UnixMillis,
}

/// Summary of a session for the log and the metrics of the node that answered for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSession {
    /// Most listeners at once.
    pub peak_listeners: usize,
    /// Bytes of audio that the host has sent to this node.
    pub received_bytes: u64,
}

/// State of a session.
pub struct SessionState {
    config: SessionConfig,
    ended: Option<SessionEnd>,
    audio: AudioState,
    host: HostState,
    limits: HostLimits,
    listeners: ListenerState,
    replica: ReplicaState,
    chat: ChatRoom,
    recording: RecordingState,
    metadata: Option<Arc<SongMetadata>>,
    /// Bytes of audio that the host has sent to this node.
    received_bytes: u64,
}

impl SessionState {
    /// Creates the state of a session that begins now.
    pub fn new(config: SessionConfig, now: UnixMillis) -> Self {
        Self::make(config, true, now, now)
    }

    /// Creates the state of a copy of a session of other nodes, whose host was last heard at `last_heard`.
    pub fn copy(config: SessionConfig, last_heard: UnixMillis, now: UnixMillis) -> Self {
        Self::make(config, false, last_heard, now)
    }

    fn make(config: SessionConfig, home: bool, last_heard: UnixMillis, now: UnixMillis) -> Self {
        Self {
            config,
            ended: None,
            audio: AudioState::new(config.buffer),
            host: HostState::new(last_heard, home),
            limits: HostLimits::new(now),
            listeners: ListenerState::new(now),
            replica: ReplicaState::new(home, now),
            chat: ChatRoom::new(config.node, now),
            recording: RecordingState::default(),
            metadata: None,
            received_bytes: 0,
        }
    }

    /// Returns the audio, for its transcoder and its cadence.
    pub fn audio_mut(&mut self) -> &mut AudioState {
        &mut self.audio
    }

    /// Returns how the session ended, if it has.
    pub fn ended(&self) -> Option<SessionEnd> {
        self.ended
    }

    /// Fails where the session has ended.
    pub fn check_live(&self) -> Result<(), Refusal> {
        if self.ended.is_some() { Err(Refusal::UnknownSession) } else { Ok(()) }
    }

    /// Returns whether the host was not heard for `timeout`.
    pub fn is_timed_out(&self, timeout: Duration, now: UnixMillis) -> bool {
        self.ended.is_none() && self.host.is_silent(timeout, now)
    }

    /// Does what time brings: gives out audio that has waited, forgets listeners who are gone and audio that is old, tells
    /// the number of listeners.
    pub fn tick(&mut self, now: UnixMillis, effects: &mut Effects) {
        if self.ended.is_some() {
            return;
        }
        self.audio.tick(now, effects);
        // The document keeps audio in Redis as long.
        self.audio.forget_before(now - AUDIO_LIFE);
        self.listeners.sweep(now);
        self.chat.sweep(now);
        // Before the transcoder is looked at: audio of other nodes may have begun an epoch.
        self.tick_replica(now, effects);
        let polled = self.listeners.has_polled(now);
        self.audio.update_transcoder(polled, effects);
        let count = self.listener_count(now);
        self.listeners.sample(count, now);
        if self.listeners.is_count_due(count, now) {
            effects.notify(SessionEvent::ListenerCount(count));
        }
    }

    /// Ends the session at this node; one that has ended already stays as it is. Returns its summary where this node has
    /// answered for it.
    pub fn close(&mut self, reason: EndReason, now: UnixMillis, effects: &mut Effects) -> Option<ClosedSession> {
        if self.ended.is_some() {
            return None;
        }
        let count = self.listener_count(now);
        self.listeners.sample(count, now);
        // Listeners are told the end after the last of the audio, and the queues are emptied after both.
        self.audio.finish(effects);
        effects.notify(SessionEvent::Ended(reason));
        self.ended = Some(SessionEnd { reason, at: now });
        // Its cover may have megabytes, and nobody is shown it any more.
        self.metadata = None;
        self.audio.clear(effects);
        let closed = ClosedSession { peak_listeners: self.listeners.peak(), received_bytes: self.received_bytes };
        // Copies end with it, but a session is counted once.
        self.replica.is_home().then_some(closed)
    }

    /// Returns the number of listeners at all nodes.
    pub fn listener_count(&self, now: UnixMillis) -> usize {
        self.local_listener_count(now) + self.replica.remote_listeners()
    }

    fn local_listener_count(&self, now: UnixMillis) -> usize {
        self.listeners.count(self.audio.listeners(), now)
    }

    /// Returns the bytes of audio that the host has sent to any node.
    pub fn total_bytes(&self) -> u64 {
        self.received_bytes + self.replica.remote_bytes()
    }

    /// Returns the metadata while it is fresh.
    pub fn fresh_metadata(&self, now: UnixMillis) -> Option<Arc<SongMetadata>> {
        self.metadata.clone().filter(|metadata| metadata.fresh_until > now)
    }

    /// Returns the metadata that the host has sent last, however long ago.
    pub fn latest_metadata(&self) -> Option<Arc<SongMetadata>> {
        self.metadata.clone()
    }

    /// Returns whether the host is there, as far as that can be said.
    pub fn has_host(&self) -> bool {
        !self.host.is_away()
    }

    fn set_away(&mut self, away: bool, effects: &mut Effects) {
        if self.host.set_away(away) {
            effects.notify(SessionEvent::HostPresence(!away));
        }
    }
}

/// Chat.
impl SessionState {
    /// Takes what somebody at this node writes, and tells everybody.
    pub fn post_chat(
        &mut self,
        post: &ChatPost,
        sender: ChatSender<'_>,
        from_host: bool,
        now: UnixMillis,
        effects: &mut Effects,
    ) -> Result<ChatLine, Refusal> {
        self.check_live()?;
        let line = self.chat.compose(post, sender, from_host, now)?;
        self.insert_line(&line, effects);
        effects.announce(ControlMessage::ChatLine { line: line.clone() });
        Ok(line)
    }

    /// Takes a line that was checked at this node or another, and tells everybody where it is news.
    fn insert_line(&mut self, line: &ChatLine, effects: &mut Effects) {
        match self.chat.insert(line) {
            LinePlacement::Last(text) => effects.notify(SessionEvent::ChatMessage(text)),
            LinePlacement::Late => effects.notify(SessionEvent::ChatReset),
            LinePlacement::Known => {}
        }
    }

    /// Switches the chat on or off, and tells everybody.
    pub fn switch_chat(&mut self, on: bool, now: UnixMillis, effects: &mut Effects) -> Result<(), Refusal> {
        self.check_live()?;
        self.limits.take_switch(now)?;
        let (id, text) = self.chat.switch(on, now);
        effects.notify(SessionEvent::ChatMessage(text));
        effects.announce(ControlMessage::ChatSwitched { on, id });
        Ok(())
    }

    fn apply_chat_switch(&mut self, on: bool, id: i64, effects: &mut Effects) {
        if let Some(text) = self.chat.apply_switch(on, id) {
            effects.notify(SessionEvent::ChatMessage(text));
        }
    }

    fn merge_chat(&mut self, history: &ChatHistory, now: UnixMillis, effects: &mut Effects) {
        if self.chat.merge(history, now) {
            effects.notify(SessionEvent::ChatReset);
        }
    }

    /// Sends the chat's history to a node, or to all, where there is one.
    fn send_chat(&self, to: NodeId, effects: &mut Effects) {
        if let Some(history) = self.chat.history() {
            effects.reply(to, ControlMessage::ChatHistory(history));
        }
    }

    /// Exchanges histories with all nodes: each may have missed lines of the others.
    pub fn exchange_chat(&self, effects: &mut Effects) {
        effects.announce(ControlMessage::RequestChat);
        self.send_chat(NodeId::ALL, effects);
    }

    /// Returns the chat as it is.
    pub fn chat_snapshot(&self) -> ChatSnapshot {
        self.chat.snapshot()
    }
}

/// Recording.
impl SessionState {
    /// Begins a recording into the object of this key, with a listener of Opus for it. Fails where the recording before is
    /// being stored, or no transcoder is to be had: see [`Self::require`].
    pub fn begin_recording(&mut self, key: String, now: UnixMillis, effects: &mut Effects) -> Result<(), Refusal> {
        self.recording.check_free()?;
        // Only of beginnings: to end a recording is never refused.
        self.limits.take_switch(now)?;
        // It cannot fail but for Opus, so that nothing has begun where it does.
        self.connect_recorder()?;
        self.recording.begin(key, now);
        effects.notify(SessionEvent::RecordingChanged(true));
        effects.announce(ControlMessage::Recorded { on: true });
        Ok(())
    }

    /// Ends the recording, whichever node makes it.
    pub fn end_recording(&mut self, effects: &mut Effects) {
        // Only the node that makes it can end it.
        if self.recording.is_elsewhere() {
            effects.announce(ControlMessage::EndRecording);
        }
        self.stop_recorder(effects);
    }

    fn stop_recorder(&mut self, effects: &mut Effects) {
        effects.push(Effect::StopRecorder);
        self.finish_recording(effects);
    }

    /// Notes that nothing is recorded at this node from now on.
    pub fn finish_recording(&mut self, effects: &mut Effects) {
        if self.recording.finish() {
            effects.notify(SessionEvent::RecordingChanged(false));
            effects.announce(ControlMessage::Recorded { on: false });
        }
    }

    fn set_recorded_elsewhere(&mut self, on: bool, effects: &mut Effects) {
        if self.recording.set_elsewhere(on) {
            effects.notify(SessionEvent::RecordingChanged(self.recording.is_on()));
        }
    }

    /// Fails where the recording before is being stored.
    pub fn check_recording_free(&self) -> Result<(), Refusal> {
        self.recording.check_free()
    }

    /// Sets how long the recording is by now.
    pub fn set_recorded_bytes(&mut self, bytes: u64) {
        self.recording.set_bytes(bytes);
    }

    /// Sets what became of the recording.
    pub fn set_recording_outcome(&mut self, outcome: Result<(), RecordingFailure>) {
        self.recording.set_outcome(outcome);
    }

    /// Returns how the session is recorded.
    pub fn recording_status(&self) -> RecordingStatus {
        self.recording.status()
    }

    /// Returns whether the session is recorded; `None` where it cannot be.
    pub fn is_recorded(&self) -> Option<bool> {
        self.recording.announced(self.config.can_record)
    }
}
