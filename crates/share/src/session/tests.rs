//! Two nodes with one session, over the messages that they send each other.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::audio::chunk::{AudioChunk, ChunkHeader};
use crate::audio::frame::{self, FrameHeader};
use crate::replication::message::{ControlMessage, NodeId, ReplicaMessage};
use crate::replication::outbox::OutboxReceivers;
use crate::session::statistics::ListenerTransport;
use primitives::lifecycle::BackgroundTasks;
use primitives::secret::Secret;
use primitives::unix_time::UnixMicros;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const START: UnixMillis = UnixMillis::new(1_000_000);

fn millis(count: i64) -> Duration {
    Duration::from_millis(count.unsigned_abs())
}

/// A session at one of two nodes.
struct Side {
    node: NodeId,
    session: Arc<Session>,
    receivers: OutboxReceivers,
}

impl Side {
    fn new(home: bool) -> Self {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).expect("metrics"));
        let (outbox, receivers) = crate::replication::replication_outbox(false, &metrics);
        let node = outbox.node();
        let listener_limit = Arc::new(ListenerLimit::new(10, Some(Duration::from_millis(100))));
        let transcoders = TranscoderPool::new(0, BackgroundTasks::default(), Arc::clone(&metrics));
        let services = Arc::new(SessionServices {
            buffer: Duration::from_secs(5),
            listener_limit,
            transcoders,
            recorder: None,
            metrics,
            outbox: Some(outbox),
            tickets: Arc::new(TicketIssuer::new(&Secret::new("Token"))),
        });
        let id = SessionId::from_number(1);
        let start = SessionStart { incarnation: Incarnation::from_number(7), at: START };
        let session = if home {
            Session::new(id, start.incarnation, services, START)
        } else {
            Session::copy(id, services, start, START, START)
        };
        Self { node, session, receivers }
    }

    fn join(&self, codec: Codec, now: UnixMillis) -> ConnectedListener {
        let services = &self.session.services;
        let permit =
            services.listener_limit.acquire(services.metrics.listeners.with_label_values(&["test"])).expect("a place");
        self.session.connect_listener(codec, ListenerTransport::WebSocket, permit, now).expect("it is live")
    }

    /// Passes what it says on to the other; returns how much audio that was.
    fn tell(&mut self, other: &Self, now: UnixMillis) -> usize {
        let mut audio = 0;
        while let Ok(sent) = self.receivers.items.try_recv() {
            let OutboxPayload::Message(to, message) = sent.payload else { continue };
            audio += usize::from(!matches!(message, ReplicaMessage::Control(_)));
            if to == NodeId::ALL || to == other.node {
                other.session.receive_message(self.node, message, now);
            }
        }
        audio
    }

    fn chunk(&self, sequence: i64, now: UnixMillis) {
        let label = ChunkHeader { sequence, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::new(sequence) };
        let samples = Bytes::from(vec![u8::try_from(sequence).expect("small"); 4096 * 8]);
        let chunk = AudioChunk::from_samples(label, samples, now.to_micros()).expect("a good chunk");
        assert_eq!(self.session.receive_chunk(HostChunk { chunk, body_bytes: 0 }, now), Ok(true));
    }

    fn frame(&self, first: u32, now: UnixMillis) {
        let packets: Vec<Bytes> = (first..first + 5).map(packet).collect();
        let head = FrameHeader {
            codec: Codec::Opus,
            discontinuity: first == 0,
            ends_epoch: false,
            sequence: first,
            server_time: UnixMicros::EPOCH,
            sample_time: 0,
        };
        self.session.receive_frame(frame::encode(&head, packets.iter()), now).expect("it is taken");
    }
}

fn packet(number: u32) -> Bytes {
    [&[0xfc][..], &number.to_be_bytes()].concat().into()
}

fn needs(backlog: bool) -> ReplicaMessage {
    ReplicaMessage::Control(ControlMessage::NeedsAudio { backlog })
}

/// Number of the newest chunk in the ring of `session`.
fn newest(session: &Session) -> Option<i64> {
    session.inner.lock().state.audio_mut().newest_chunk()
}

fn numbers(session: &Session, now: UnixMillis) -> Vec<i64> {
    let polled = session.poll_chunks(HERE, 0, now).expect("it is live");
    polled.iter().map(|chunk| chunk.header.sequence).collect()
}

#[test]
fn who_needs_audio_gets_the_past_and_what_follows_and_nothing_twice() {
    let (mut one, mut other) = (Side::new(true), Side::new(false));
    for sequence in 0..20 {
        one.chunk(sequence, START + millis(sequence * 93));
    }
    let now = START + millis(20 * 93);
    assert_eq!(one.tell(&other, now), 0, "nobody else needs it");
    let mut joined = other.join(Codec::F32, now);
    assert_eq!(other.receivers.heartbeats.try_recv(), Ok(other.session.id()), "it asks at once");
    // On its way already, for a third node.
    let early = ChunkHeader { sequence: 19, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::new(19) };
    other.session.receive_message(one.node, ReplicaMessage::Chunk(early, vec![19; 4096 * 8].into()), now);
    one.session.receive_message(other.node, needs(true), now);
    one.session.receive_message(other.node, needs(true), now);
    one.chunk(20, now);
    assert_eq!(one.tell(&other, now), 3, "two pasts and a chunk");
    assert_eq!(numbers(&other.session, now), (10..=19).collect::<Vec<_>>());
    let mut heard = Vec::new();
    let mut epochs = Vec::new();
    loop {
        match joined.events.try_recv() {
            Ok(SessionEvent::Frame(frame)) => {
                epochs.push(frame.epoch);
                heard
                    .extend(frame::decode(frame.bytes.clone()).expect("a frame").1.into_iter().map(|packet| packet[0]));
            }
            Ok(_) => {}
            Err(TryRecvError::Empty) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(heard, (10..=20).collect::<Vec<u8>>());
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let _ = joined.restart_at_live_edge(now);
    other.tell(&one, now);
}

#[test]
fn packets_go_on_where_the_past_ends() {
    let (mut one, other) = (Side::new(true), Side::new(false));
    let _hosting = one.session.connect_host(START).expect("it is live");
    for first in (0..100).step_by(5) {
        one.frame(first, START + millis(i64::from(first) * 20));
    }
    let now = START + millis(2_000);
    one.tell(&other, now);
    let _joined = other.join(Codec::Opus, now);
    // The first frame of all comes late, and says that it begins something.
    let first = frame::encode(
        &FrameHeader {
            codec: Codec::Opus,
            discontinuity: true,
            ends_epoch: false,
            sequence: 95,
            server_time: UnixMicros::EPOCH,
            sample_time: 0,
        },
        (95..100).map(packet).collect::<Vec<_>>().iter(),
    );
    other.session.receive_message(one.node, ReplicaMessage::Frame(first), now);
    one.session.receive_message(other.node, needs(true), now);
    one.frame(100, now);
    one.tell(&other, now);
    let (epoch, next, held) = other.session.inner.lock().state.audio_mut().queued_opus();
    assert_eq!(held, (50..105).map(packet).collect::<Vec<_>>());
    assert_eq!((epoch, next), (1, Some(105)));
}

#[test]
fn the_past_is_not_waited_for_too_long() {
    let (one, other) = (Side::new(true), Side::new(false));
    let _joined = other.join(Codec::F32, START);
    let label = ChunkHeader { sequence: 7, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::new(7) };
    other.session.receive_message(one.node, ReplicaMessage::Chunk(label, vec![0; 800].into()), START + millis(10));
    assert!(newest(&other.session).is_none());
    other.session.tick(START + millis(500), Duration::MAX);
    assert_eq!(newest(&other.session), Some(7));
}

#[test]
fn who_comes_later_is_told_what_was_said_and_that_all_is_recorded() {
    let (mut one, other) = (Side::new(true), Side::new(false));
    one.chunk(0, START);
    let said = ChatPost::from_json(json!({ "name": "Ann", "text": "hi" })).expect("a line");
    one.session.post_chat(&said, ChatSender::Address(HERE), false, START).expect("it is taken");
    while one.receivers.items.try_recv().is_ok() {}
    for _ in 0..2 {
        for word in [ReplicaMessage::Control(ControlMessage::RequestChat), needs(true)] {
            one.session.receive_message(other.node, word, START + millis(1));
        }
        one.tell(&other, START + millis(1));
    }
    assert_eq!(other.session.chat_snapshot().to_json(), one.session.chat_snapshot().to_json());
    assert_eq!(other.session.is_recorded(), None);
    for on in [true, false] {
        other.session.receive_message(
            one.node,
            ReplicaMessage::Control(ControlMessage::Recorded { on }),
            START + millis(2),
        );
        assert_eq!(other.session.is_recorded(), on.then_some(true));
    }
}

#[test]
fn audio_is_passed_on_only_while_it_is_needed() {
    let (mut one, other) = (Side::new(true), Side::new(false));
    one.session.receive_message(other.node, needs(false), START);
    one.chunk(0, START);
    one.chunk(1, START + millis(2_999));
    assert_eq!(one.tell(&other, START), 2);
    assert_eq!(newest(&other.session), None, "it has changed its mind");
    one.chunk(2, START + millis(3_000));
    assert_eq!(one.tell(&other, START), 0);
}

#[test]
fn what_nobody_needs_any_more_is_forgotten() {
    let (one, other) = (Side::new(true), Side::new(false));
    let joined = other.join(Codec::F32, START);
    other.session.receive_message(one.node, ReplicaMessage::Backlog(Vec::new()), START);
    let label =
        |sequence| ChunkHeader { sequence, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::new(sequence) };
    other.session.receive_message(one.node, ReplicaMessage::Chunk(label(0), vec![0; 800].into()), START);
    other.session.tick(START, Duration::MAX);
    assert_eq!(newest(&other.session), Some(0));
    assert!(!other.session.is_unused_copy(START + millis(60_000)));
    drop(joined);
    other.session.tick(START + millis(100), Duration::MAX);
    assert_eq!(newest(&other.session), None);
    assert!(other.session.is_unused_copy(START + millis(60_000)));
    assert!(!one.session.is_unused_copy(START + millis(60_000)), "one node keeps it");
}

#[test]
fn a_host_that_moves_to_another_node_is_the_host_there() {
    let (mut one, mut other) = (Side::new(true), Side::new(false));
    let before = one.session.connect_host(START).expect("it is live");
    one.tell(&other, START);
    let after = other.session.connect_host(START).expect("it is live");
    other.tell(&one, START);
    assert!(!one.session.is_host(&before) && other.session.is_host(&after));
    drop(before);
    assert!(one.session.has_host(), "its socket is elsewhere");
    drop(after);
    other.tell(&one, START);
    assert!(!one.session.has_host() && !other.session.has_host());
}
