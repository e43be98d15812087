//! A session on several nodes: what this one says of it, and what it knows of the others. Each is the other's equal; only
//! the counting of sessions needs one that answers for it.

use std::net::IpAddr;

use super::across::Joining;
use super::{POLL_DEMAND, Session, State};
use crate::event::{Event, Reason};
use crate::intake::Intake;
use crate::nodes::book::{HostSocket, LEASE, Report, Standing};
use crate::nodes::link::What;
use crate::nodes::wire::{Message, NodeId, Word};

/// So long after it was heard here the host is taken to send its audio here, in milliseconds.
const HEARS: i64 = 5_000;
/// Turns for which a node without a host waits before it gives way.
const PATIENCE: u8 = 3;
/// How long a copy is kept that nobody asks for, in milliseconds.
const UNUSED: i64 = 10_000;

/// What is known of a session beyond this node.
pub(super) struct Spread {
    /// Whether this node answers for the session: of all that have it, one does.
    home: bool,
    /// Whether Redis knows the end.
    settled: bool,
    /// When somebody asked for it last.
    asked: i64,
    /// When the host was heard here.
    heard_here: Option<i64>,
    /// Whether the host was last heard over a socket.
    socket: bool,
    /// When its socket was opened here, if that is the one.
    connected: Option<i64>,
    /// Whether a host that sends over a socket has none.
    away: bool,
    /// How often in a row Redis knew another session of this id.
    rivals: u8,
    /// How often in a row the host's socket was found at no node.
    missed: u8,
    /// Nodes that need audio, and until when.
    pub(super) needy: Vec<(NodeId, i64)>,
    /// Who listens at other nodes.
    listeners: usize,
    /// Bytes of audio that the host has sent to other nodes.
    bytes: u64,
    /// Whether audio is needed here.
    needs: bool,
    /// What waits for the past.
    pub(super) joining: Option<Joining>,
    /// When a cover was written last.
    pub(super) covered: i64,
}

impl Spread {
    /// Of a session that begins here, or (`home` is false) of a copy.
    pub(super) fn new(home: bool, now: i64) -> Self {
        Self {
            home,
            settled: false,
            asked: now,
            heard_here: None,
            socket: false,
            connected: None,
            away: false,
            rivals: 0,
            // A copy believes the first that it hears.
            missed: u8::from(!home),
            needy: Vec::new(),
            listeners: 0,
            bytes: 0,
            needs: false,
            joining: None,
            covered: i64::MIN,
        }
    }
}

impl Session {
    /// Notes that somebody asks for it.
    pub fn visit(&self, now: i64) {
        self.state.lock().spread.asked = now;
    }

    /// Notes that somebody from `address` knows its id, and may.
    pub fn let_in(&self, address: IpAddr, now: i64) {
        self.state.lock().guests.note(address, now);
    }

    /// Whether somebody from `address` was let in before.
    pub fn knows(&self, address: IpAddr, now: i64) -> bool {
        self.state.lock().guests.knows(&address, now)
    }

    /// Whether this node answers for it, and it is live.
    pub fn is_home(&self) -> bool {
        let state = self.state.lock();
        state.spread.home && state.ended.is_none()
    }

    /// Whether it is a copy that nobody here has asked for in a while. What the host has sent here is remembered.
    pub fn is_unused(&self, now: i64) -> bool {
        let state = self.state.lock();
        let idle = self.shared.link.is_some() && !state.spread.home && state.bytes == 0;
        let alone = self.events.receiver_count() == 0 && state.listeners_here(now) == 0 && !state.hears(now);
        idle && alone && now - state.spread.asked >= UNUSED
    }

    /// What Redis is told.
    pub fn report(&self, now: i64) -> Report {
        let state = self.state.lock();
        let spread = &state.spread;
        Report {
            id: self.id,
            start: self.start,
            needs: state.needs_audio(now),
            backlog: spread.joining.is_some(),
            hears: state.hears(now),
            hosting: spread.connected.map(|opened| HostSocket { number: state.hosting, opened }),
            socket: spread.socket,
            age: spread.heard_here.map(|heard| (now - heard).max(0)),
            silent: (now - state.heard).max(0),
            listeners: state.listeners_here(now),
            bytes: state.bytes,
            ended: state.ended.filter(|_| !spread.settled).map(|ended| ended.reason),
        }
    }

    /// Whether there is nothing more to say of it.
    pub fn is_settled(&self) -> bool {
        self.state.lock().spread.settled
    }

    /// Redis knows the end.
    pub fn settle(&self) {
        self.state.lock().spread.settled = true;
    }

    /// Takes in what Redis says of it.
    pub fn learn(&self, standing: &Standing, me: NodeId, now: i64) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        self.set_home(&mut state, standing.home == Some(me));
        if standing.holder.is_some_and(|holder| holder != me) && state.spread.is_connected() {
            // One that was opened meanwhile has a higher number, and its turn comes.
            if standing.highest >= state.hosting {
                self.replace_host(&mut state, standing.highest);
            }
        } else if !state.spread.is_connected() {
            // So that the next one here has a higher number than any before.
            state.hosting = state.hosting.max(standing.highest);
        }
        state.heard = state.heard.max(now - standing.age);
        let spread = &mut state.spread;
        spread.rivals = 0;
        spread.listeners = standing.nodes.iter().map(|node| node.listeners).sum();
        spread.bytes = standing.bytes;
        standing.nodes.iter().filter(|node| node.needs).for_each(|node| spread.note(node.id, now));
        spread.needy.retain(|(_, until)| *until > now);
        let connected = spread.is_connected() || standing.nodes.iter().any(|node| node.connected);
        let lost = standing.socket && !connected;
        // Once may be a host on its way from one node to another.
        spread.missed = if lost { spread.missed.saturating_add(1) } else { 0 };
        if !lost || spread.missed >= 2 {
            self.set_away(&mut state, lost);
        }
    }

    /// Whether it gives way to another session of its id, which Redis has just told of. A host is told at once; nodes that
    /// have only listeners wait for their host's node to have its turn.
    pub fn yields(&self, now: i64) -> bool {
        let mut state = self.state.lock();
        state.spread.rivals = state.spread.rivals.saturating_add(1);
        state.hears(now) || state.spread.rivals >= PATIENCE
    }

    /// It has ended at another node.
    pub fn end_elsewhere(&self, reason: Reason, at: i64) {
        self.close(reason, at);
        self.settle();
    }

    /// What time brings to a session on several nodes.
    pub(super) fn spread_tick(&self, state: &mut State, now: i64) {
        let Some(link) = &self.shared.link else { return };
        if link.keeps() && state.hears(now) {
            // Somebody may read the stream.
            state.polled = now;
        }
        if state.spread.joining.as_ref().is_some_and(|joining| joining.is_late(now)) {
            self.join_in(state, now);
        }
        let needs = state.needs_audio(now);
        if !needs && std::mem::replace(&mut state.spread.needs, needs) {
            // What comes goes by from here on.
            (state.transcode, state.intake, state.expected) = (None, Intake::default(), None);
            state.ring.clear();
            state.opus.clear();
            state.floats.clear();
        }
        state.spread.needs = needs;
    }

    /// Somebody here is about to need audio.
    pub(super) fn need(&self, state: &mut State, now: i64) {
        if self.shared.link.is_some() && !state.needs_audio(now) {
            state.spread.joining = Some(Joining::new(now));
            self.hurry();
        }
    }

    /// The host was heard here, over its socket or without one.
    pub(super) fn host_heard(&self, state: &mut State, socket: bool, now: i64) {
        let heard_before = state.hears(now);
        state.heard = now;
        (state.spread.heard_here, state.spread.socket) = (Some(now), socket);
        self.set_away(state, false);
        if !heard_before {
            self.hurry();
        }
    }

    /// The host has opened its socket here.
    pub(super) fn host_came(&self, state: &mut State, now: i64) {
        (state.spread.connected, state.spread.socket) = (Some(now), true);
        self.set_away(state, false);
        self.announce(Word::Host { here: true, number: state.hosting });
        self.hurry();
    }

    /// The host has a socket of this number at another node: if it had one here, that is closed.
    pub(super) fn replace_host(&self, state: &mut State, number: u64) {
        state.hosting = number.max(state.hosting + 1);
        state.spread.connected = None;
        self.set_away(state, false);
        self.tell(Event::HostReplaced);
        self.hurry();
    }

    /// The host's socket, which was opened as this one, is gone.
    pub(super) fn host_left(&self, number: u64) {
        let mut state = self.state.lock();
        if state.hosting != number || state.ended.is_some() {
            return;
        }
        state.spread.connected = None;
        self.set_away(&mut state, true);
        self.announce(Word::Host { here: false, number });
        self.hurry();
    }

    /// Tells all nodes.
    pub fn announce(&self, word: Word) {
        self.send(What::Message(NodeId::ALL, Message::Word(word)));
    }

    /// Has its turn with Redis at once.
    pub(super) fn hurry(&self) {
        if let Some(link) = &self.shared.link {
            link.hurry(self.id);
        }
    }

    pub(super) fn send(&self, what: What) {
        if let Some(link) = &self.shared.link {
            link.send(self.id, self.start.incarnation, what);
        }
    }

    fn set_home(&self, state: &mut State, home: bool) {
        if state.spread.home != home {
            state.spread.home = home;
            if home { self.shared.metrics.sessions.inc() } else { self.shared.metrics.sessions.dec() }
        }
    }

    pub(super) fn set_away(&self, state: &mut State, away: bool) {
        if state.spread.away != away {
            state.spread.away = away;
            self.tell(Event::Host(!away));
        }
    }
}

impl Spread {
    /// A node needs audio.
    pub(super) fn note(&mut self, node: NodeId, now: i64) {
        match self.needy.iter_mut().find(|(known, _)| *known == node) {
            Some((_, until)) => *until = now + LEASE,
            None => self.needy.push((node, now + LEASE)),
        }
    }

    /// Whether this node answers for the session.
    pub(super) fn is_home(&self) -> bool {
        self.home
    }

    /// Bytes of audio that the host has sent to other nodes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Who listens at other nodes.
    pub(super) fn listeners(&self) -> usize {
        self.listeners
    }

    /// Whether a host that sends over a socket has none at the moment.
    pub(super) fn is_away(&self) -> bool {
        self.away
    }

    /// Whether the host's socket is at this node.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.is_some()
    }
}

impl State {
    /// Whether the host sends to this node.
    pub(super) fn hears(&self, now: i64) -> bool {
        self.spread.is_connected() || self.spread.heard_here.is_some_and(|heard| now - heard < HEARS)
    }

    /// Whether somebody here needs audio; who sends it needs what is sent elsewhere too.
    pub(super) fn needs_audio(&self, now: i64) -> bool {
        let polled = now - self.polled < POLL_DEMAND;
        self.seated.iter().any(|seated| *seated > 0) || polled || self.hears(now)
    }
}
