//! One session: what its host sends, kept for a few seconds, and everybody who listens. It knows neither HTTP nor who may
//! do what; times come in as milliseconds since the Unix epoch.

mod across;
mod flow;
mod host;
mod listen;
mod record;
mod spread;
mod talk;

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::mpsc;

pub use host::Hosting;
pub use listen::{Hello, Joined};

use self::host::Limits;
use self::record::Recording;
use self::spread::Spread;
use super::chat::Chat;
use super::event::{self, Event, Reason};
use super::frame::Codec;
use super::id::SessionId;
use super::incarnation::Incarnation;
use super::intake::Intake;
use super::lane::Lane;
use super::metadata::Metadata;
use super::metrics::Metrics;
use super::nodes::book::Start;
use super::nodes::link::Link;
use super::pollers::Pollers;
use super::recent::RecentAddresses;
use super::recording::Recorder;
use super::ring::Ring;
use super::seats::Seats;
use super::statistics::{Report, Statistics};
use super::tickets::Tickets;
use super::transcode::{Input, Transcoders};

/// How long floats are made from Opus after the last poll, in milliseconds.
const POLL_DEMAND: i64 = 10_000;
/// How long audio is given out after it came, in milliseconds: who comes to a host that has said nothing since hears
/// nothing. The document keeps it in Redis as long.
const SILENCE: i64 = 10_000;
/// How long an address is known that was let in, in milliseconds.
const GUEST: i64 = 15 * 60_000;
/// Such addresses of a session at most.
const GUESTS: usize = 1_024;
/// How often listeners are told their number although it is the same, in milliseconds.
const COUNT_AGAIN: i64 = 15_000;

/// What all sessions of the node share.
pub struct Shared {
    /// How much audio is kept.
    pub buffer: Duration,
    /// The places of listeners.
    pub seats: Arc<Seats>,
    /// Makers of other formats.
    pub transcoders: Transcoders,
    /// Records, where there is a store for it.
    pub recorder: Option<Recorder>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The way to other nodes; `None` where there are none.
    pub link: Option<Link>,
    /// Signs what listeners are told of covers.
    pub tickets: Arc<Tickets>,
}

/// A session.
pub struct Session {
    id: SessionId,
    start: Start,
    me: Weak<Self>,
    shared: Arc<Shared>,
    events: broadcast::Sender<Event>,
    state: Mutex<State>,
}

/// What changes.
struct State {
    ended: Option<Ended>,
    /// When the host was last heard of.
    heard: i64,
    limits: Limits,
    metadata: Option<Arc<Metadata>>,
    /// What the host sends.
    source: Codec,
    epoch: u32,
    intake: Intake,
    ring: Ring,
    opus: Lane,
    floats: Lane,
    /// Makes the codec that is not the source's.
    transcode: Option<mpsc::Sender<Input>>,
    /// Whether it was said that it cannot follow.
    overflowed: bool,
    /// The number of the next chunk that is made here.
    made: i64,
    /// The next number of a host that sends frames.
    expected: Option<u32>,
    /// The number of the socket that is the host's, at this node or another; a higher one takes its place.
    hosting: u64,
    polled: i64,
    pollers: Pollers,
    /// Who knows its id.
    guests: RecentAddresses,
    /// Connected listeners by codec.
    seated: [usize; 2],
    /// Those of them that nobody counts: whoever records.
    silent: usize,
    statistics: Statistics,
    chat: Chat,
    recording: Recording,
    told: (usize, i64),
    bytes: u64,
    spread: Spread,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: i64,
}

/// What is told of a session.
#[derive(Clone, Debug)]
pub struct Status {
    /// When it began.
    pub started: i64,
    /// `None` while it is live.
    pub ended: Option<Ended>,
    /// Who listens now.
    pub listeners: usize,
    /// What it plays, where that is known and fresh.
    pub metadata: Option<Arc<Metadata>>,
    /// Bytes of audio that the host has sent.
    pub bytes: u64,
}

impl Session {
    /// A session that begins now.
    pub fn new(id: SessionId, incarnation: Incarnation, shared: Arc<Shared>, now: i64) -> Arc<Self> {
        shared.metrics.started.inc();
        shared.metrics.sessions.inc();
        Self::make(id, shared, Start { incarnation, at: now }, Spread::new(true, now), now)
    }

    /// A copy of a session that other nodes have, and whose host was last heard at `heard`.
    pub fn copy(id: SessionId, shared: Arc<Shared>, start: Start, heard: i64, now: i64) -> Arc<Self> {
        let session = Self::make(id, shared, start, Spread::new(false, now), now);
        session.state.lock().heard = heard;
        session
    }

    fn make(id: SessionId, shared: Arc<Shared>, start: Start, spread: Spread, now: i64) -> Arc<Self> {
        let node = shared.link.as_ref().map_or(0, |link| link.node().number());
        let state = State {
            ended: None,
            heard: now,
            limits: Limits::new(now),
            metadata: None,
            source: Codec::F32,
            epoch: 0,
            intake: Intake::default(),
            ring: Ring::new(shared.buffer, host::most_bytes(shared.buffer)),
            opus: Lane::new(Codec::Opus, shared.buffer),
            floats: Lane::new(Codec::F32, shared.buffer),
            transcode: None,
            overflowed: false,
            made: 0,
            expected: None,
            hosting: 0,
            polled: now - POLL_DEMAND,
            pollers: Pollers::default(),
            guests: RecentAddresses::new(GUEST, GUESTS),
            seated: [0; 2],
            silent: 0,
            statistics: Statistics::new(now),
            chat: Chat::new(node, now),
            recording: Recording::default(),
            told: (0, now),
            bytes: 0,
            spread,
        };
        Arc::new_cyclic(|me| Self {
            id,
            start,
            me: Weak::clone(me),
            shared,
            events: broadcast::Sender::new(event::RING),
            state: Mutex::new(state),
        })
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// When it began.
    pub fn started(&self) -> i64 {
        self.start.at
    }

    /// Which session of its id it is.
    pub fn incarnation(&self) -> Incarnation {
        self.start.incarnation
    }

    /// How it is.
    pub fn status(&self, now: i64) -> Status {
        let state = self.state.lock();
        Status {
            started: self.start.at,
            ended: state.ended,
            listeners: state.listeners(now),
            metadata: state.fresh_metadata(now),
            bytes: state.bytes + state.spread.bytes(),
        }
    }

    /// How it is listened to, and was, once it has ended.
    pub fn statistics(&self, now: i64) -> Report {
        let state = self.state.lock();
        let listeners = if state.ended.is_some() { 0 } else { state.listeners(now) };
        state.statistics.report(self.start.at, listeners, state.pollers.joined())
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.state.lock().ended
    }

    /// Ends it, at all nodes; one that has ended already stays as it is.
    pub fn end(&self, reason: Reason, now: i64) {
        self.close(reason, now);
        self.hurry();
    }

    fn close(&self, reason: Reason, now: i64) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        let listeners = state.listeners(now);
        state.statistics.tick(listeners, now);
        let last = [state.opus.flush(true), state.floats.flush(true)];
        last.into_iter().flatten().for_each(|frame| self.tell(Event::Frame(frame)));
        self.tell(Event::Ended(reason));
        state.ended = Some(Ended { reason, at: now });
        (state.transcode, state.metadata, state.intake) = (None, None, Intake::default());
        state.ring.clear();
        state.opus.clear();
        state.floats.clear();
        if !state.spread.is_home() {
            return;
        }
        let (metrics, most) = (&self.shared.metrics, u32::try_from(state.statistics.most()).unwrap_or(u32::MAX));
        metrics.sessions.dec();
        metrics.ended.with_label_values(&[reason.name()]).inc();
        metrics.per_session.observe(most.into());
        let seconds = (now - self.start.at) / 1000;
        tracing::info!(session = %self.id, reason = reason.name(), seconds, bytes = state.bytes, "a sharing session ended");
    }

    /// Says that the node stops.
    pub fn stopping(&self) {
        self.tell(Event::Stopping);
    }

    /// What time brings: chunks that have waited, frames that are late, formats that nobody needs any more, the end.
    pub fn tick(&self, now: i64, timeout: i64) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        if now - state.heard >= timeout {
            drop(state);
            return self.end(Reason::Timeout, now);
        }
        let mut ready = Vec::new();
        state.intake.release(now, &mut ready);
        self.accept(&mut state, ready);
        let late = now * 1000 - 2 * i64::try_from(self.shared.seats.cadence().as_micros()).unwrap_or(i64::MAX);
        for lane in [Codec::Opus, Codec::F32] {
            let lane = state.lane(lane);
            if lane.waiting_since().is_some_and(|since| since < late) {
                lane.flush(false).into_iter().for_each(|frame| self.tell(Event::Frame(frame)));
            }
        }
        state.ring.forget_before((now - SILENCE) * 1000);
        state.pollers.sweep(now);
        state.chat.sweep(now);
        self.spread_tick(&mut state, now);
        self.attend(&mut state, now);
        let listeners = state.listeners(now);
        state.statistics.tick(listeners, now);
        if state.told.0 != listeners || now - state.told.1 >= COUNT_AGAIN {
            state.told = (listeners, now);
            self.tell(Event::Count(listeners));
        }
    }

    /// Tells everybody who is connected; nobody is no error.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl State {
    fn lane(&mut self, codec: Codec) -> &mut Lane {
        match codec {
            Codec::Opus => &mut self.opus,
            Codec::F32 => &mut self.floats,
        }
    }

    /// Who listens, at all nodes.
    fn listeners(&self, now: i64) -> usize {
        self.listeners_here(now) + self.spread.listeners()
    }

    fn listeners_here(&self, now: i64) -> usize {
        self.pollers.count(now) + self.seated.iter().sum::<usize>() - self.silent
    }

    fn fresh_metadata(&self, now: i64) -> Option<Arc<Metadata>> {
        self.metadata.clone().filter(|metadata| metadata.until > now)
    }
}
