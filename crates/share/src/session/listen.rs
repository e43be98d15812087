//! The listeners' side of a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tokio::sync::broadcast;

use super::{SILENCE, Session, State};
use crate::chat;
use crate::chunk::Chunk;
use crate::event::Event;
use crate::frame::Codec;
use crate::lane::{Epoch, Format, Frame};
use crate::metadata::Metadata;
use crate::pollers::Answer;
use crate::refused::Refused;
use crate::seats::Seat;
use crate::statistics::Transport;

/// What a listener should keep ahead beyond one frame: for the network's jitter.
const AHEAD: Duration = Duration::from_millis(300);

/// What a poll gets.
pub type Poll = Vec<Arc<Chunk>>;

/// What a listener is told at its beginning, and whenever an epoch begins.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The epoch and its format.
    pub epoch: Epoch,
    /// The number of the next packet.
    pub sequence: u32,
    /// How much a listener should keep ahead.
    pub target: Duration,
    /// How much audio a frame holds.
    pub cadence: Duration,
    /// How many listen.
    pub listeners: usize,
    /// False while a host that sends over a socket has lost it.
    pub host: bool,
    /// The song.
    pub metadata: Option<Arc<Metadata>>,
    /// The chat.
    pub chat: chat::Snapshot,
    /// Whether it is recorded; `None` where it cannot be.
    pub recording: Option<bool>,
}

/// A connected listener; its place is given back when this is dropped.
pub struct Joined {
    session: Arc<Session>,
    codec: Codec,
    /// What happens from now on.
    pub events: broadcast::Receiver<Event>,
    /// `None`: it is not counted.
    seat: Option<Seat>,
}

impl Session {
    /// The chunks after `since`.
    pub fn poll(&self, address: IpAddr, since: i64, now: i64) -> Result<Poll, Refused> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Err(Refused::UnknownSession);
        }
        self.need(&mut state, now);
        state.polled = now;
        if state.source == Codec::Opus && state.transcode.is_none() && state.epoch > 0 {
            self.start_transcode(&mut state)?;
        }
        let State { pollers, ring, .. } = &mut *state;
        ring.forget_before((now - SILENCE) * 1000);
        let polled = pollers.poll(address, since, now, || {
            let chunks: Poll = ring.since(since).cloned().collect();
            let newest = chunks.last().map_or(since, |chunk| chunk.label.sequence);
            Answer { newest, edge: ring.newest() == Some(newest), value: chunks }
        })?;
        let sent: usize = polled.iter().map(|chunk| chunk.len()).sum();
        self.sent(sent);
        Ok(polled)
    }

    /// A look at metadata or status.
    pub fn look(&self, address: IpAddr, now: i64) -> Result<(), Refused> {
        self.state.lock().pollers.look(address, now)
    }

    /// The metadata, while it is fresh.
    pub fn metadata(&self, now: i64) -> Option<Arc<Metadata>> {
        self.state.lock().fresh_metadata(now)
    }

    /// What the host has said last, however long ago.
    pub fn latest_metadata(&self) -> Option<Arc<Metadata>> {
        self.state.lock().metadata.clone()
    }

    /// The same, as it is pushed.
    pub fn song(&self) -> Option<Utf8Bytes> {
        self.latest_metadata().map(|song| song.pushed.clone())
    }

    /// Whether its host is there, as far as that can be said.
    pub fn has_host(&self) -> bool {
        !self.state.lock().spread.is_away()
    }

    /// What happens from now on, without audio of any codec being made for it.
    pub fn watch(&self) -> Result<broadcast::Receiver<Event>, Refused> {
        let mut state = self.live()?;
        state.statistics.joined(Transport::Events);
        Ok(self.events.subscribe())
    }

    /// Joins as a listener of `codec` by `transport`; `seat` is its place on the node.
    pub fn join(self: &Arc<Self>, codec: Codec, transport: Transport, seat: Seat, now: i64) -> Result<Joined, Refused> {
        let mut state = self.live()?;
        let joined = self.seat(&mut state, codec, Some(seat), now)?;
        state.statistics.joined(transport);
        Ok(joined)
    }

    /// A listener of `codec`, for which it is made from now on.
    pub(super) fn seat(
        self: &Arc<Self>,
        state: &mut State,
        codec: Codec,
        seat: Option<Seat>,
        now: i64,
    ) -> Result<Joined, Refused> {
        self.need(state, now);
        if codec != state.source && state.transcode.is_none() && state.epoch > 0 {
            self.start_transcode(state)?;
        }
        if codec == Codec::F32 && state.seated[codec as usize] == 0 {
            self.refill(state);
        }
        state.seated[codec as usize] += 1;
        state.silent += usize::from(seat.is_none());
        Ok(Joined { session: Arc::clone(self), codec, events: self.events.subscribe(), seat })
    }

    /// Nobody has listened to floats for a while: their lane begins with the last of what came.
    fn refill(&self, state: &mut State) {
        let newest: Vec<_> = state.ring.iter().rev().take(10).cloned().collect();
        let Some(first) = newest.last() else { return };
        let format = Format { rate: first.label.rate, channels: first.label.channels };
        let epoch = state.epoch;
        // Nobody was there to miss what was left in it.
        let _ = state.floats.begin(epoch, format);
        for packet in newest.iter().rev().flat_map(|chunk| super::flow::packets_of(chunk)) {
            let _ = state.floats.push(packet, Duration::MAX);
        }
        let _ = state.floats.flush(false);
    }

    /// Counts audio that went to listeners.
    pub fn sent(&self, bytes: usize) {
        self.shared.metrics.bytes.with_label_values(&["out"]).inc_by(bytes as u64);
    }
}

impl Joined {
    /// What it listens to.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What there is to say now, and the last of what was sent before it. What happens after this is in `events`; what
    /// happened before is forgotten there, so that nothing comes twice.
    pub fn begin(&mut self, now: i64) -> (Hello, Option<Arc<Frame>>) {
        let mut state = self.session.state.lock();
        self.events = self.events.resubscribe();
        let target = self.session.shared.seats.cadence() + AHEAD;
        let lane = state.lane(self.codec);
        let snapshot = lane.snapshot(target);
        let (sequence, epoch) = (snapshot.as_ref().map_or(lane.next(), |frame| frame.first), lane.epoch());
        (self.hello(&state, epoch, sequence, now), snapshot)
    }

    /// What there is to say before `frame`, the first of an epoch.
    pub fn greet(&self, frame: &Frame, now: i64) -> Hello {
        self.hello(&self.session.state.lock(), frame.epoch, frame.first, now)
    }

    fn hello(&self, state: &State, epoch: Epoch, sequence: u32, now: i64) -> Hello {
        let cadence = self.session.shared.seats.cadence();
        let (target, listeners, metadata) = (cadence + AHEAD, state.listeners(now), state.fresh_metadata(now));
        let recording = state.recording.told(self.session.shared.recorder.is_some());
        let (host, chat) = (!state.spread.is_away(), state.chat.snapshot());
        Hello { epoch, sequence, target, cadence, listeners, host, metadata, chat, recording }
    }

    /// Says that this listener fell behind.
    pub fn fell_behind(&self) {
        self.session.shared.metrics.gaps.inc();
    }

    /// Counts a frame that was sent.
    pub fn sent(&self, frame: &Bytes) {
        self.session.sent(frame.len());
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut state = self.session.state.lock();
        state.seated[self.codec as usize] -= 1;
        state.silent -= usize::from(self.seat.is_none());
    }
}
