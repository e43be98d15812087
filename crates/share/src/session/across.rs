//! What crosses from node to node: what a host sends here goes on to the nodes where somebody needs it, and what a host sends
//! there is taken as if it had come here, without limits.

use std::sync::Arc;

use super::host::opus;
use super::{Session, State};
use crate::chunk::{self, Chunk};
use crate::frame::{self, Codec, Head};
use crate::metadata::Metadata;
use crate::nodes::link::What;
use crate::nodes::wire::{Message, NodeId, Word};
use crate::ring::POLL;

/// How long what comes waits for the last of what came before, in milliseconds, ...
const PATIENCE: i64 = 500;
/// ... and how much of it.
const WAITING: usize = 64;
/// How often a cover is written that has not changed, in milliseconds: before the copy in Redis expires.
const COVER_AGAIN: i64 = 10_000;
/// Bytes of what a node is told of the past at most.
const BACKLOG: usize = 2 << 20;

/// What waits until the past has come.
pub(super) struct Joining {
    until: i64,
    waiting: Vec<Message>,
}

impl Joining {
    pub(super) fn new(now: i64) -> Self {
        Self { until: now + PATIENCE, waiting: Vec::new() }
    }

    /// Whether nobody has told the past in time.
    pub(super) fn is_late(&self, now: i64) -> bool {
        self.until <= now
    }
}

impl Session {
    /// Takes in what another node says.
    pub fn receive(&self, from: NodeId, message: Message, now: i64) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        match message {
            Message::Word(word) => self.word(&mut state, from, &word, now),
            audio if state.needs_audio(now) => self.audio_of_node(&mut state, audio, now),
            Message::Chunk(..) | Message::Frame(_) | Message::Backlog(_) => {}
        }
    }

    fn word(&self, state: &mut State, from: NodeId, word: &Word, now: i64) {
        match word {
            Word::Needs { backlog } => {
                state.spread.note(from, now);
                if *backlog && state.hears(now) {
                    self.send(What::Message(from, self.backlog(state)));
                }
                if state.recording.is_here() {
                    self.send(What::Message(from, Message::Word(Word::Recorded { on: true })));
                }
            }
            // Where both have the same number, Redis says whose it is.
            Word::Host { here: true, number } if *number > state.hosting => self.replace_host(state, *number),
            Word::Host { here: false, .. } if !state.spread.is_connected() => self.set_away(state, true),
            Word::Line { line } => self.hear(state, line),
            Word::Chat { on, id } => self.hear_switch(state, *on, *id),
            Word::Recall => self.recall(state, from),
            Word::Said { on, switched, lines } => self.catch_up(state, *on, *switched, lines),
            Word::Recorded { on } => self.recorded_elsewhere(state, *on),
            Word::EndRecording => self.stop_recording(state),
            // The others are taken in before they come here.
            Word::Host { .. } | Word::Song { .. } | Word::Ended { .. } => {}
        }
    }

    fn audio_of_node(&self, state: &mut State, message: Message, now: i64) {
        state.heard = now;
        let Some(joining) = &mut state.spread.joining else {
            // A second backlog tells nothing new.
            if !matches!(message, Message::Backlog(_)) {
                self.take_in(state, message, now * 1000, now);
            }
            return;
        };
        match message {
            Message::Backlog(parts) => {
                let mut back: i64 = parts.iter().map(length).sum();
                for part in parts {
                    let own = length(&part);
                    self.take_in(state, part, now * 1000 - back, now);
                    back -= own;
                }
                self.join_in(state, now);
            }
            message => {
                joining.waiting.push(message);
                if joining.waiting.len() >= WAITING {
                    self.join_in(state, now);
                }
            }
        }
    }

    /// What has waited for the past is taken.
    pub(super) fn join_in(&self, state: &mut State, now: i64) {
        let waiting = state.spread.joining.take().map(|joining| joining.waiting);
        for message in waiting.into_iter().flatten() {
            // What the past holds already is known by its numbers, if it does not insist on being new.
            self.take_in(state, without_discontinuity(message), now * 1000, now);
        }
    }

    /// Takes audio that another node has heard; it came at `at`, in microseconds.
    fn take_in(&self, state: &mut State, message: Message, at: i64, now: i64) {
        match message {
            Message::Chunk(label, samples) => {
                if let Ok(chunk) = Chunk::from_samples(label, samples, at) {
                    self.offer(state, Arc::new(chunk), now);
                }
            }
            Message::Frame(bytes) => {
                if let Ok((head, mut packets)) = opus(bytes, at) {
                    self.take_packets(state, &head, &mut packets);
                }
            }
            Message::Backlog(_) | Message::Word(_) => {}
        }
    }

    /// The last of what the host has sent.
    fn backlog(&self, state: &State) -> Message {
        let mut parts = Vec::new();
        match state.source {
            Codec::F32 => {
                let newest = state.ring.iter().rev().take(POLL);
                let mut size = 0;
                parts.extend(newest.map_while(|chunk| {
                    size += chunk.len();
                    (size <= BACKLOG).then(|| Message::Chunk(chunk.label, chunk.samples().clone()))
                }));
                parts.reverse();
            }
            Codec::Opus => {
                let packets = state.opus.newest(POLL * 5);
                let count = u32::try_from(packets.len()).unwrap_or(0);
                if let Some(expected) = state.expected.filter(|_| count > 0) {
                    let sequence = expected.wrapping_sub(count);
                    let head =
                        Head { codec: Codec::Opus, discontinuity: true, last: false, sequence, time: 0, sample: 0 };
                    parts.push(Message::Frame(frame::write(&head, packets.iter().map(|packet| &packet.bytes))));
                }
            }
        }
        Message::Backlog(parts)
    }

    /// Passes on what the host has sent here to the nodes that need it, if there are any.
    pub(super) fn pass_on(&self, state: &State, now: i64, message: impl FnOnce() -> Message) {
        if state.spread.needy.iter().any(|(_, until)| *until > now) {
            self.send(What::Message(NodeId::ALL, message()));
        }
    }

    /// Keeps a chunk for programs that know only the document, where the operator wants that.
    pub(super) fn keep(&self, chunk: &Chunk) {
        if self.shared.link.as_ref().is_some_and(|link| link.keeps()) {
            let buffer = i64::try_from(self.shared.buffer.as_micros()).unwrap_or(i64::MAX);
            let most = usize::try_from(buffer / chunk.micros().max(1)).unwrap_or(0) + 1;
            self.send(What::Kept(chunk.label, chunk.samples().clone(), most));
        }
    }

    /// Says what the host plays.
    pub(super) fn publish(&self, state: &mut State, song: &Arc<Metadata>, before: Option<&Metadata>, now: i64) {
        let tag = |song: &Metadata| song.picture.as_ref().map(|picture| picture.tag.clone());
        let changed = before.is_none_or(|before| tag(before) != tag(song));
        let whole = changed || now.saturating_sub(state.spread.covered) >= COVER_AGAIN;
        if whole {
            state.spread.covered = now;
        }
        self.send(What::Song(Arc::clone(song), whole));
    }
}

fn without_discontinuity(message: Message) -> Message {
    match message {
        Message::Frame(bytes) => match frame::read(bytes.clone()) {
            Ok((head, packets)) => Message::Frame(frame::write(&Head { discontinuity: false, ..head }, packets.iter())),
            Err(_) => Message::Frame(bytes),
        },
        other => other,
    }
}

/// How long a chunk or frame plays, in microseconds.
fn length(message: &Message) -> i64 {
    match message {
        Message::Chunk(label, samples) => {
            let frames = samples.len() / (4 * usize::from(label.channels.max(1)));
            chunk::micros(frames, label.rate)
        }
        Message::Frame(bytes) => opus(bytes.clone(), 0)
            .map_or(0, |(_, packets)| packets.iter().map(|packet| chunk::micros(packet.frames as usize, 48_000)).sum()),
        Message::Backlog(_) | Message::Word(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use bytes::Bytes;
    use serde_json::json;
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;
    use crate::chat::{Said, Sender};
    use crate::chunk::Label;
    use crate::event::Event;
    use crate::id::SessionId;
    use crate::incarnation::Incarnation;
    use crate::metrics::Metrics;
    use crate::nodes;
    use crate::nodes::book::Start;
    use crate::nodes::link::Ends;
    use crate::seats::Seats;
    use crate::session::{Joined, Shared};
    use crate::statistics::Transport;
    use crate::tickets::Tickets;
    use crate::transcode::Transcoders;
    use primitives::lifecycle::BackgroundTasks;
    use primitives::secret::Secret;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const START: i64 = 1_000_000;

    /// A session at one of two nodes.
    struct Side {
        node: NodeId,
        session: Arc<Session>,
        ends: Ends,
    }

    impl Side {
        fn new(home: bool) -> Self {
            let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).expect("metrics"));
            let (link, ends) = nodes::link(false, &metrics);
            let node = link.node();
            let seats = Arc::new(Seats::new(10, Some(Duration::from_millis(100))));
            let transcoders = Transcoders::new(0, BackgroundTasks::default(), Arc::clone(&metrics));
            let shared = Arc::new(Shared {
                buffer: Duration::from_secs(5),
                seats,
                transcoders,
                recorder: None,
                metrics,
                link: Some(link),
                tickets: Arc::new(Tickets::new(&Secret::new("Token"))),
            });
            let id = SessionId::from_number(1);
            let start = Start { incarnation: Incarnation::from_number(7), at: START };
            let session = if home {
                Session::new(id, start.incarnation, shared, START)
            } else {
                Session::copy(id, shared, start, START, START)
            };
            Self { node, session, ends }
        }

        fn join(&self, codec: Codec, now: i64) -> Joined {
            let shared = &self.session.shared;
            let seat = shared.seats.take(shared.metrics.listeners.with_label_values(&["test"])).expect("a place");
            self.session.join(codec, Transport::WebSocket, seat, now).expect("it is live")
        }

        /// What it says reaches the other; returns how much audio that was.
        fn tell(&mut self, other: &Self, now: i64) -> usize {
            let mut audio = 0;
            while let Ok(sent) = self.ends.out.try_recv() {
                let What::Message(to, message) = sent.what else { continue };
                audio += usize::from(!matches!(message, Message::Word(_)));
                if to == NodeId::ALL || to == other.node {
                    other.session.receive(self.node, message, now);
                }
            }
            audio
        }

        fn chunk(&self, sequence: i64, now: i64) {
            let label = Label { sequence, rate: 44_100, channels: 2, timestamp: sequence };
            let samples = Bytes::from(vec![u8::try_from(sequence).expect("small"); 4096 * 8]);
            let chunk = Chunk::from_samples(label, samples, now * 1000).expect("a good chunk");
            assert_eq!(self.session.audio(chunk, 0, now), Ok(true));
        }

        fn frame(&self, first: u32, now: i64) {
            let packets: Vec<Bytes> = (first..first + 5).map(packet).collect();
            let head = Head {
                codec: Codec::Opus,
                discontinuity: first == 0,
                last: false,
                sequence: first,
                time: 0,
                sample: 0,
            };
            self.session.frame(frame::write(&head, packets.iter()), now).expect("it is taken");
        }
    }

    fn packet(number: u32) -> Bytes {
        [&[0xfc][..], &number.to_be_bytes()].concat().into()
    }

    fn needs(backlog: bool) -> Message {
        Message::Word(Word::Needs { backlog })
    }

    fn numbers(session: &Session, now: i64) -> Vec<i64> {
        let polled = session.poll(HERE, 0, now).expect("it is live");
        polled.iter().map(|chunk| chunk.label.sequence).collect()
    }

    #[test]
    fn who_needs_audio_gets_the_past_and_what_follows_and_nothing_twice() {
        let (mut one, mut other) = (Side::new(true), Side::new(false));
        for sequence in 0..20 {
            one.chunk(sequence, START + sequence * 93);
        }
        let now = START + 20 * 93;
        assert_eq!(one.tell(&other, now), 0, "nobody else needs it");
        let mut joined = other.join(Codec::F32, now);
        assert_eq!(other.ends.turns.try_recv(), Ok(other.session.id()), "it asks at once");
        // On its way already, for a third node.
        let early = Label { sequence: 19, rate: 44_100, channels: 2, timestamp: 19 };
        other.session.receive(one.node, Message::Chunk(early, vec![19; 4096 * 8].into()), now);
        one.session.receive(other.node, needs(true), now);
        one.session.receive(other.node, needs(true), now);
        one.chunk(20, now);
        assert_eq!(one.tell(&other, now), 3, "two pasts and a chunk");
        assert_eq!(numbers(&other.session, now), (10..=19).collect::<Vec<_>>());
        let mut heard = Vec::new();
        let mut epochs = Vec::new();
        loop {
            match joined.events.try_recv() {
                Ok(Event::Frame(frame)) => {
                    epochs.push(frame.epoch);
                    heard.extend(
                        frame::read(frame.bytes.clone()).expect("a frame").1.into_iter().map(|packet| packet[0]),
                    );
                }
                Ok(_) => {}
                Err(TryRecvError::Empty) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(heard, (10..=20).collect::<Vec<u8>>());
        assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
        let _ = joined.begin(now);
        other.tell(&one, now);
    }

    #[test]
    fn packets_go_on_where_the_past_ends() {
        let (mut one, other) = (Side::new(true), Side::new(false));
        let _hosting = one.session.host(START).expect("it is live");
        for first in (0..100).step_by(5) {
            one.frame(first, START + i64::from(first) * 20);
        }
        let now = START + 2_000;
        one.tell(&other, now);
        let _joined = other.join(Codec::Opus, now);
        // The first frame of all comes late, and says that it begins something.
        let first = frame::write(
            &Head { codec: Codec::Opus, discontinuity: true, last: false, sequence: 95, time: 0, sample: 0 },
            (95..100).map(packet).collect::<Vec<_>>().iter(),
        );
        other.session.receive(one.node, Message::Frame(first), now);
        one.session.receive(other.node, needs(true), now);
        one.frame(100, now);
        one.tell(&other, now);
        let state = other.session.state.lock();
        let held: Vec<Bytes> = state.opus.newest(100).into_iter().map(|packet| packet.bytes).collect();
        assert_eq!(held, (50..105).map(packet).collect::<Vec<_>>());
        assert_eq!((state.epoch, state.expected), (1, Some(105)));
    }

    #[test]
    fn the_past_is_not_waited_for_too_long() {
        let (one, other) = (Side::new(true), Side::new(false));
        let _joined = other.join(Codec::F32, START);
        let label = Label { sequence: 7, rate: 44_100, channels: 2, timestamp: 7 };
        other.session.receive(one.node, Message::Chunk(label, vec![0; 800].into()), START + 10);
        assert!(other.session.state.lock().ring.newest().is_none());
        other.session.tick(START + PATIENCE, i64::MAX);
        assert_eq!(other.session.state.lock().ring.newest(), Some(7));
    }

    #[test]
    fn who_comes_later_is_told_what_was_said_and_that_all_is_recorded() {
        let (mut one, other) = (Side::new(true), Side::new(false));
        one.chunk(0, START);
        let said = Said::from_json(json!({ "name": "Ann", "text": "hi" })).expect("a line");
        one.session.say(&said, Sender::Address(HERE), false, START).expect("it is taken");
        while one.ends.out.try_recv().is_ok() {}
        for _ in 0..2 {
            for word in [Message::Word(Word::Recall), needs(true)] {
                one.session.receive(other.node, word, START + 1);
            }
            one.tell(&other, START + 1);
        }
        assert_eq!(other.session.chat().json(), one.session.chat().json());
        assert_eq!(other.session.is_recorded(), None);
        for on in [true, false] {
            other.session.receive(one.node, Message::Word(Word::Recorded { on }), START + 2);
            assert_eq!(other.session.is_recorded(), on.then_some(true));
        }
    }

    #[test]
    fn audio_is_passed_on_only_while_it_is_needed() {
        let (mut one, other) = (Side::new(true), Side::new(false));
        one.session.receive(other.node, needs(false), START);
        one.chunk(0, START);
        one.chunk(1, START + 2_999);
        assert_eq!(one.tell(&other, START), 2);
        assert_eq!(other.session.state.lock().ring.newest(), None, "it has changed its mind");
        one.chunk(2, START + 3_000);
        assert_eq!(one.tell(&other, START), 0);
    }

    #[test]
    fn what_nobody_needs_any_more_is_forgotten() {
        let (one, other) = (Side::new(true), Side::new(false));
        let joined = other.join(Codec::F32, START);
        other.session.receive(one.node, Message::Backlog(Vec::new()), START);
        let label = |sequence| Label { sequence, rate: 44_100, channels: 2, timestamp: sequence };
        other.session.receive(one.node, Message::Chunk(label(0), vec![0; 800].into()), START);
        other.session.tick(START, i64::MAX);
        assert_eq!(other.session.state.lock().ring.newest(), Some(0));
        assert!(!other.session.is_unused(START + 60_000));
        drop(joined);
        other.session.tick(START + 100, i64::MAX);
        assert_eq!(other.session.state.lock().ring.newest(), None);
        assert!(other.session.is_unused(START + 60_000));
        assert!(!one.session.is_unused(START + 60_000), "one node keeps it");
    }

    #[test]
    fn a_host_that_moves_to_another_node_is_the_host_there() {
        let (mut one, mut other) = (Side::new(true), Side::new(false));
        let before = one.session.host(START).expect("it is live");
        one.tell(&other, START);
        let after = other.session.host(START).expect("it is live");
        other.tell(&one, START);
        assert!(!one.session.is_host(&before) && other.session.is_host(&after));
        drop(before);
        assert!(one.session.has_host(), "its socket is elsewhere");
        drop(after);
        other.tell(&one, START);
        assert!(!one.session.has_host() && !other.session.has_host());
    }
}
