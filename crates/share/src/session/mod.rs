//! One session at this node. All that it knows is in [`SessionState`], a pure machine; here is the shell around it, which
//! holds the lock, hands inputs in and performs their effects: events to those who are connected, messages to other nodes,
//! the transcoder, the recorder, metrics and the log. It knows neither HTTP nor who may do what.

pub mod chat;
pub mod event;
mod host;
pub mod id;
pub mod incarnation;
mod listener;
pub mod listener_limit;
pub mod local_sessions;
pub mod metadata;
pub mod pollers;
mod recorder;
mod replica;
mod state;
pub mod statistics;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::broadcast;
use tokio::sync::mpsc::{Sender, error::TrySendError};
use tokio_util::sync::CancellationToken;

pub use host::HostConnection;
pub use listener::ConnectedListener;
pub use state::{HostChunk, MAX_SMALL_TEXT, SessionEnd, StreamGreeting};

use self::chat::{ChatLine, ChatPost, ChatSender, ChatSnapshot};
use self::event::{EVENT_RING, EndReason, SessionEvent};
use self::id::SessionId;
use self::incarnation::{Incarnation, SessionStart};
use self::listener_limit::ListenerLimit;
use self::metadata::SongMetadata;
use self::state::{Effect, Effects, SessionConfig, SessionState};
use self::statistics::StatisticsReport;
use crate::audio::frame::Codec;
use crate::audio::transcode::{TranscodeInput, TranscoderPool};
use crate::metrics::Metrics;
use crate::recording::SessionRecorder;
use crate::refusal::Refusal;
use crate::replication::outbox::{OutboxPayload, ReplicationOutbox};
use crate::tickets::TicketIssuer;
use primitives::unix_time::UnixMillis;

/// Services that all sessions of a node share.
pub struct SessionServices {
    /// How much audio is kept.
    pub buffer: Duration,
    /// Limit of the node's connected listeners.
    pub listener_limit: Arc<ListenerLimit>,
    /// Transcoders of the node.
    pub transcoders: TranscoderPool,
    /// Recorder, where there is a store for it.
    pub recorder: Option<SessionRecorder>,
    /// Metrics of the relay.
    pub metrics: Arc<Metrics>,
    /// Queue of messages to other nodes; `None` where there are none.
    pub outbox: Option<ReplicationOutbox>,
    /// Signs what listeners show for covers.
    pub tickets: Arc<TicketIssuer>,
}

/// A session.
pub struct Session {
    id: SessionId,
    start: SessionStart,
    me: Weak<Self>,
    services: Arc<SessionServices>,
    events: broadcast::Sender<SessionEvent>,
    inner: Mutex<SessionInner>,
}

/// State of a session, and what its effects have started.
struct SessionInner {
    state: SessionState,
    transcoder: Option<RunningTranscoder>,
    /// Ends the recording that this node makes; there until it is stored.
    recorder_stop: Option<CancellationToken>,
}

/// Transcoder of a session, until this is dropped.
struct RunningTranscoder {
    inputs: Sender<TranscodeInput>,
    /// True once the log says that it cannot follow.
    overflowed: bool,
}

/// Status of a session.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Time of its beginning.
    pub started: UnixMillis,
    /// Its end; `None` while it is live.
    pub ended: Option<SessionEnd>,
    /// Listeners at all nodes.
    pub listeners: usize,
    /// Metadata of the song, while it is fresh.
    pub metadata: Option<Arc<SongMetadata>>,
    /// Bytes of audio that the host has sent.
    pub bytes: u64,
}

/// Session whose state is locked.
struct LockedSession<'a> {
    session: &'a Session,
    inner: MutexGuard<'a, SessionInner>,
}

impl Session {
    /// Creates a session that begins now.
    pub fn new(id: SessionId, incarnation: Incarnation, services: Arc<SessionServices>, now: UnixMillis) -> Arc<Self> {
        services.metrics.sessions_started.inc();
        services.metrics.active_sessions.inc();
        let state = SessionState::new(config(&services), now);
        Self::make(id, services, SessionStart { incarnation, at: now }, state)
    }

    /// Creates a copy of a session of other nodes, whose host was last heard at `last_heard`.
    pub fn copy(
        id: SessionId,
        services: Arc<SessionServices>,
        start: SessionStart,
        last_heard: UnixMillis,
        now: UnixMillis,
    ) -> Arc<Self> {
        let state = SessionState::copy(config(&services), last_heard, now);
        Self::make(id, services, start, state)
    }

    fn make(id: SessionId, services: Arc<SessionServices>, start: SessionStart, state: SessionState) -> Arc<Self> {
        let inner = SessionInner { state, transcoder: None, recorder_stop: None };
        Arc::new_cyclic(|me| Self {
            id,
            start,
            me: Weak::clone(me),
            services,
            events: broadcast::Sender::new(EVENT_RING),
            inner: Mutex::new(inner),
        })
    }

    /// Returns the session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the time of the session's beginning.
    pub fn started(&self) -> UnixMillis {
        self.start.at
    }

    /// Returns which start of its id the session is.
    pub fn incarnation(&self) -> Incarnation {
        self.start.incarnation
    }

    /// Returns the session's status.
    pub fn status(&self, now: UnixMillis) -> SessionStatus {
        let locked = self.lock();
        let state = &locked.inner.state;
        SessionStatus {
            started: self.start.at,
            ended: state.ended(),
            listeners: state.listener_count(now),
            metadata: state.fresh_metadata(now),
            bytes: state.total_bytes(),
        }
    }

    /// Returns the statistics of the session's listeners, also once it has ended.
    pub fn statistics(&self, now: UnixMillis) -> StatisticsReport {
        self.read(|state| state.statistics(self.start.at, now))
    }

    /// Returns how the session ended, if it has.
    pub fn ended(&self) -> Option<SessionEnd> {
        self.read(SessionState::ended)
    }

    /// Ends the session, at all nodes; one that has ended already stays as it is.
    pub fn end(&self, reason: EndReason, now: UnixMillis) {
        self.close(reason, now);
        self.request_heartbeat();
    }

    fn close(&self, reason: EndReason, now: UnixMillis) {
        let closed = self.apply(|state, effects| state.close(reason, now, effects));
        let Some(closed) = closed else { return };
        let metrics = &self.services.metrics;
        metrics.active_sessions.dec();
        metrics.sessions_ended.with_label_values(&[reason.name()]).inc();
        metrics.session_listeners.observe(u32::try_from(closed.peak_listeners).unwrap_or(u32::MAX).into());
        let (seconds, bytes) = ((now - self.start.at).as_secs(), closed.received_bytes);
        tracing::info!(session = %self.id, reason = reason.name(), seconds, bytes, "a sharing session ended");
    }

    /// Tells everybody who is connected that this node stops.
    pub fn announce_stop(&self) {
        self.notify(SessionEvent::NodeStopping);
    }

    /// Does what time brings; a session whose host was not heard for `timeout` ends.
    pub fn tick(&self, now: UnixMillis, timeout: Duration) {
        let mut locked = self.lock();
        if locked.inner.state.is_timed_out(timeout, now) {
            drop(locked);
            return self.end(EndReason::Timeout, now);
        }
        // A transcoder that has broken down is started again while somebody needs it.
        if locked.inner.transcoder.as_ref().is_some_and(|transcoder| transcoder.inputs.is_closed()) {
            locked.inner.transcoder = None;
            locked.inner.state.audio_mut().set_transcoding(false);
        }
        locked.apply(|state, effects| state.tick(now, effects));
    }

    /// Takes what somebody at this node writes, and tells everybody; returns the line. Fails where it is none, over a rate
    /// limit, and while the chat is off.
    pub fn post_chat(
        &self,
        post: &ChatPost,
        sender: ChatSender<'_>,
        from_host: bool,
        now: UnixMillis,
    ) -> Result<ChatLine, Refusal> {
        let posted = self.apply(|state, effects| state.post_chat(post, sender, from_host, now, effects));
        let result = match posted {
            Ok(_) => "said",
            Err(Refusal::UnknownSession) => return posted,
            Err(_) => "refused",
        };
        self.services.metrics.chat_lines.with_label_values(&[result]).inc();
        posted
    }

    /// Switches the chat on or off, and tells everybody.
    pub fn switch_chat(&self, on: bool, now: UnixMillis) -> Result<(), Refusal> {
        self.apply(|state, effects| state.switch_chat(on, now, effects))
    }

    /// Returns the chat as it is.
    pub fn chat_snapshot(&self) -> ChatSnapshot {
        self.read(SessionState::chat_snapshot)
    }

    /// Returns the metadata while it is fresh.
    pub fn metadata(&self, now: UnixMillis) -> Option<Arc<SongMetadata>> {
        self.read(|state| state.fresh_metadata(now))
    }

    /// Returns the metadata that the host has sent last, however long ago.
    pub fn latest_metadata(&self) -> Option<Arc<SongMetadata>> {
        self.read(SessionState::latest_metadata)
    }

    fn lock(&self) -> LockedSession<'_> {
        LockedSession { session: self, inner: self.inner.lock() }
    }

    /// Applies an input to the state and performs its effects.
    fn apply<T>(&self, input: impl FnOnce(&mut SessionState, &mut Effects) -> T) -> T {
        self.lock().apply(input)
    }

    fn read<T>(&self, read: impl FnOnce(&SessionState) -> T) -> T {
        read(&self.inner.lock().state)
    }

    /// Tells everybody who is connected; nobody is no error.
    fn notify(&self, event: SessionEvent) {
        let _ = self.events.send(event);
    }

    fn send(&self, payload: OutboxPayload) {
        if let Some(outbox) = &self.services.outbox {
            outbox.send(self.id, self.start.incarnation, payload);
        }
    }

    fn request_heartbeat(&self) {
        if let Some(outbox) = &self.services.outbox {
            outbox.request_heartbeat(self.id);
        }
    }
}

impl LockedSession<'_> {
    fn apply<T>(&mut self, input: impl FnOnce(&mut SessionState, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        // It goes by the node's listeners, of which a session knows only its own.
        let cadence = self.session.services.listener_limit.frame_cadence();
        self.inner.state.audio_mut().set_cadence(cadence);
        let result = input(&mut self.inner.state, &mut effects);
        self.perform(effects);
        result
    }

    /// Performs effects. None of them waits, so the lock is held for a moment only.
    fn perform(&mut self, effects: Effects) {
        let session = self.session;
        for effect in effects {
            match effect {
                Effect::Notify(event) => session.notify(event),
                Effect::Replicate(to, message) => session.send(OutboxPayload::Message(to, message)),
                Effect::PublishMetadata { metadata, with_cover } => {
                    session.send(OutboxPayload::Metadata(metadata, with_cover));
                }
                Effect::StoreChunk { chunk, kept } => {
                    session.send(OutboxPayload::StoredChunk(chunk.header, chunk.samples().clone(), kept));
                }
                Effect::RequestHeartbeat => session.request_heartbeat(),
                Effect::StartTranscoder { transcoder, codec, backlog } => {
                    self.start_transcoder(transcoder, codec, backlog);
                }
                Effect::StopTranscoder => self.inner.transcoder = None,
                Effect::Transcode(input) => self.transcode(input),
                Effect::StopRecorder => self.inner.recorder_stop.iter().for_each(CancellationToken::cancel),
                Effect::HomeChanged(true) => session.services.metrics.active_sessions.inc(),
                Effect::HomeChanged(false) => session.services.metrics.active_sessions.dec(),
            }
        }
        // One that was asked for may have been refused.
        let runs = self.inner.transcoder.is_some();
        self.inner.state.audio_mut().set_transcoding(runs);
    }

    fn start_transcoder(&mut self, transcoder: u64, codec: Codec, backlog: Vec<TranscodeInput>) {
        let me = Weak::clone(&self.session.me);
        let deliver = move |output| {
            let Some(session) = me.upgrade() else { return false };
            session.apply(|state, effects| state.receive_transcoded(transcoder, output, effects))
        };
        let Some(inputs) = self.session.services.transcoders.start(codec, deliver) else { return };
        self.inner.state.audio_mut().transcoder_started();
        for input in backlog {
            // The queue is longer than that.
            let _ = inputs.try_send(input);
        }
        self.inner.transcoder = Some(RunningTranscoder { inputs, overflowed: false });
    }

    fn transcode(&mut self, input: TranscodeInput) {
        let Some(transcoder) = &mut self.inner.transcoder else { return };
        let Err(TrySendError::Full(_)) = transcoder.inputs.try_send(input) else { return };
        self.session.services.metrics.overflows.inc();
        // Once per transcoder: one that cannot follow drops audio many times a second.
        if !std::mem::replace(&mut transcoder.overflowed, true) {
            tracing::warn!(session = %self.session.id, "a transcoder cannot follow: audio is dropped before it");
        }
    }
}

fn config(services: &SessionServices) -> SessionConfig {
    let outbox = services.outbox.as_ref();
    SessionConfig {
        node: outbox.map_or(0, |outbox| outbox.node().number()),
        buffer: services.buffer,
        is_replicated: outbox.is_some(),
        stores_audio: outbox.is_some_and(ReplicationOutbox::keeps_audio),
        can_record: services.recorder.is_some(),
    }
}
