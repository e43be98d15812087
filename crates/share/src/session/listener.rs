//! The listeners' side of a session.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;

use super::event::SessionEvent;
use super::listener_limit::ListenerPermit;
use super::state::{SessionState, StreamGreeting};
use super::statistics::ListenerTransport;
use super::{LockedSession, Session};
use crate::audio::chunk::AudioChunk;
use crate::audio::frame::Codec;
use crate::audio::packet_queue::AudioFrame;
use crate::refusal::Refusal;
use primitives::unix_time::UnixMillis;

/// A connected listener, or a recorder; its place is given back when this is dropped.
pub struct ConnectedListener {
    session: Arc<Session>,
    codec: Codec,
    /// Events of the session from here on.
    pub events: broadcast::Receiver<SessionEvent>,
    /// Place on the node; `None` for a recorder, which is not counted.
    permit: Option<ListenerPermit>,
}

impl Session {
    /// Returns the chunks after number `since`, ten at most. Fails once the session has ended, where floats cannot be made,
    /// and where the listener polls too often.
    pub fn poll_chunks(&self, address: IpAddr, since: i64, now: UnixMillis) -> Result<Vec<Arc<AudioChunk>>, Refusal> {
        let mut locked = self.lock();
        locked.apply(|state, effects| state.prepare_poll(now, effects))?;
        let chunks = locked.apply(|state, _| state.poll_chunks(address, since, now))?;
        drop(locked);
        self.count_sent(chunks.iter().map(|chunk| chunk.len()).sum());
        Ok(chunks)
    }

    /// Counts a request for metadata or status. Fails where there are too many.
    pub fn count_look(&self, address: IpAddr, now: UnixMillis) -> Result<(), Refusal> {
        self.apply(|state, _| state.count_look(address, now))
    }

    /// Subscribes to the session's events, without audio of any codec being made for it.
    pub fn subscribe_events(&self) -> Result<broadcast::Receiver<SessionEvent>, Refusal> {
        let mut locked = self.lock();
        locked.apply(|state, _| state.join_events())?;
        Ok(self.events.subscribe())
    }

    /// Connects a listener of `codec`. Fails once the session has ended, and where the codec cannot be made.
    pub fn connect_listener(
        self: &Arc<Self>,
        codec: Codec,
        transport: ListenerTransport,
        permit: ListenerPermit,
        now: UnixMillis,
    ) -> Result<ConnectedListener, Refusal> {
        let mut locked = self.lock();
        locked.apply(|state, effects| state.require(codec, now, effects))?;
        locked.apply(|state, _| state.connect_listener(codec, transport))?;
        Ok(self.listener(&locked, codec, Some(permit)))
    }

    /// Hands out a listener that the locked state has taken in, so that it misses no event from there on.
    pub(super) fn listener(
        self: &Arc<Self>,
        _locked: &LockedSession<'_>,
        codec: Codec,
        permit: Option<ListenerPermit>,
    ) -> ConnectedListener {
        ConnectedListener { session: Arc::clone(self), codec, events: self.events.subscribe(), permit }
    }

    /// Notes that somebody from `address` was let in.
    pub fn note_guest(&self, address: IpAddr, now: UnixMillis) {
        self.apply(|state, _| state.note_guest(address, now));
    }

    /// Returns whether somebody from `address` was let in before.
    pub fn is_guest(&self, address: IpAddr, now: UnixMillis) -> bool {
        self.apply(|state, _| state.is_guest(address, now))
    }

    /// Returns whether the session is recorded; `None` where it cannot be.
    pub fn is_recorded(&self) -> Option<bool> {
        self.read(SessionState::is_recorded)
    }

    /// Counts bytes of audio that went to listeners.
    fn count_sent(&self, bytes: usize) {
        self.services.metrics.audio_bytes.with_label_values(&["out"]).inc_by(bytes as u64);
    }
}

impl ConnectedListener {
    /// Returns the codec that is listened to.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Begins at the live edge: returns the greeting, and the last of the audio that was sent. Later events are in `events`,
    /// and earlier ones are forgotten there, so that nothing comes twice.
    pub fn restart_at_live_edge(&mut self, now: UnixMillis) -> (StreamGreeting, Option<Arc<AudioFrame>>) {
        let mut locked = self.session.lock();
        // Under the lock: what came before it is in the greeting and the snapshot.
        self.events = self.events.resubscribe();
        locked.apply(|state, _| state.greet(self.codec, now))
    }

    /// Returns the greeting before `frame`, the first of an epoch.
    pub fn greet_epoch(&self, frame: &AudioFrame, now: UnixMillis) -> StreamGreeting {
        self.session.apply(|state, _| state.greet_epoch(frame.epoch, frame.first_sequence, now))
    }

    /// Counts that this listener fell behind.
    pub fn count_gap(&self) {
        self.session.services.metrics.gaps.inc();
    }

    /// Counts a frame that was sent to this listener.
    pub fn count_sent(&self, frame: &Bytes) {
        self.session.count_sent(frame.len());
    }
}

impl Drop for ConnectedListener {
    fn drop(&mut self) {
        let counted = self.permit.is_some();
        self.session.apply(|state, _| state.disconnect_listener(self.codec, counted));
    }
}
