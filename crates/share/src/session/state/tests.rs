//! Random inputs to a whole session: whoever listens hears nothing out of order and nothing twice, chat ids rise, and all
//! that is kept stays within its bounds.

mod replicas;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::audio::chunk::{AudioChunk, ChunkHeader};
use crate::audio::frame::{self, Codec, FrameHeader};
use crate::audio::packet_queue::AudioPacket;
use crate::audio::transcode::{TranscodeInput, TranscodeOutput};
use crate::replication::message::ReplicaMessage;
use crate::session::id::SessionId;
use crate::session::incarnation::{Incarnation, SessionStart};
use crate::session::statistics::ListenerTransport;
use crate::token_bucket::TokenBucket;
use primitives::unix_time::UnixMicros;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CONFIG: SessionConfig = SessionConfig {
    node: 1,
    buffer: Duration::from_secs(5),
    is_replicated: false,
    stores_audio: false,
    can_record: false,
};

/// Input of the host, a listener, the transcoder or the clock.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// Chunk that is so far from the next one.
    Chunk(i64),
    /// Host that begins anew with its numbers.
    RestartChunks,
    /// Packets from so far behind (or ahead) of the next one.
    Packets {
        offset: i32,
        count: u32,
    },
    /// Host that begins anew with its numbers, and says so.
    RestartPackets,
    /// Listener that comes, or goes if it is there.
    Toggle(Codec),
    /// Listener that falls behind and begins at the live edge.
    Behind(Codec),
    Poll(i64),
    /// Transcoder that makes what it has got.
    Transcode,
    /// Transcoders that are free from now on, or not.
    Transcoders(bool),
    Chat,
    SwitchChat(bool),
    Time(u64),
}

fn input() -> impl Strategy<Value = Input> {
    let codec = prop_oneof![Just(Codec::Opus), Just(Codec::F32)];
    prop_oneof![
        12 => prop_oneof![4 => Just(0), 1 => -4_i64..4].prop_map(Input::Chunk),
        1 => Just(Input::RestartChunks),
        12 => (prop_oneof![4 => Just(0), 1 => -60_i32..60], 1_u32..10)
            .prop_map(|(offset, count)| Input::Packets { offset, count }),
        1 => Just(Input::RestartPackets),
        3 => codec.clone().prop_map(Input::Toggle),
        2 => codec.prop_map(Input::Behind),
        4 => (-1_i64..200).prop_map(Input::Poll),
        6 => Just(Input::Transcode),
        1 => any::<bool>().prop_map(Input::Transcoders),
        2 => Just(Input::Chat),
        1 => any::<bool>().prop_map(Input::SwitchChat),
        8 => (1_u64..400).prop_map(Input::Time),
    ]
}

/// Listener of one codec, as it follows what it is told.
#[derive(Default)]
struct Listener {
    connected: bool,
    /// Run and number of the last audio that it has heard.
    last: Option<(u32, u32)>,
    /// Number of its next packet.
    next: u32,
}

impl Listener {
    fn hear(&mut self, frame: &crate::audio::packet_queue::AudioFrame) {
        assert!(frame.first_sequence >= self.next, "packet {} after {}", frame.first_sequence, self.next);
        assert!(frame.end_sequence > frame.first_sequence);
        self.next = frame.end_sequence;
        for packet in frame::decode(frame.bytes.clone()).expect("a frame").1 {
            let mark = mark(&packet);
            assert!(self.last < Some(mark), "{mark:?} after {:?}", self.last);
            self.last = Some(mark);
        }
    }
}

/// Session with the shell that a test is: two listeners, a transcoder, and a clock.
struct Simulation {
    state: SessionState,
    now: UnixMillis,
    /// Number of times that the host has begun anew, and the numbers that it goes on with.
    run: u32,
    next_chunk: i64,
    next_packet: u32,
    /// Number after the highest packet of this run.
    end_packet: u32,
    /// True while it sends chunks.
    sends_chunks: bool,
    opus: Listener,
    floats: Listener,
    transcoder: Option<(u64, VecDeque<TranscodeInput>)>,
    free: bool,
    chat_id: i64,
    /// Audio for other nodes.
    sent: VecDeque<ReplicaMessage>,
}

/// Bytes that tell which audio it is.
fn marked(run: u32, number: u32) -> Vec<u8> {
    [&run.to_be_bytes()[..], &number.to_be_bytes()].concat()
}

fn mark(packet: &Bytes) -> (u32, u32) {
    let number = |from: usize| u32::from_be_bytes(packet[from..from + 4].try_into().expect("four bytes"));
    // A packet of Opus has a byte before it that says how long it plays.
    let from = packet.len() % 4;
    (number(from), number(from + 4))
}

impl Simulation {
    fn new(is_replicated: bool) -> Self {
        Self::of(SessionState::new(SessionConfig { is_replicated, ..CONFIG }, UnixMillis::EPOCH))
    }

    /// Copy of a session of another node.
    fn copy() -> Self {
        Self::of(SessionState::copy(
            SessionConfig { is_replicated: true, ..CONFIG },
            UnixMillis::EPOCH,
            UnixMillis::EPOCH,
        ))
    }

    fn of(state: SessionState) -> Self {
        Self {
            state,
            now: UnixMillis::EPOCH,
            run: 0,
            next_chunk: 0,
            next_packet: 0,
            end_packet: 0,
            sends_chunks: true,
            opus: Listener::default(),
            floats: Listener::default(),
            transcoder: None,
            free: true,
            chat_id: 0,
            sent: VecDeque::new(),
        }
    }

    fn listener(&mut self, codec: Codec) -> &mut Listener {
        match codec {
            Codec::Opus => &mut self.opus,
            Codec::F32 => &mut self.floats,
        }
    }

    fn apply<T>(&mut self, input: impl FnOnce(&mut SessionState, UnixMillis, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        self.state.audio_mut().set_cadence(Duration::from_millis(100));
        let result = input(&mut self.state, self.now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Notify(SessionEvent::Frame(frame)) => {
                    let listener = self.listener(frame.codec);
                    if listener.connected {
                        listener.hear(&frame);
                    }
                }
                Effect::Notify(SessionEvent::ChatMessage(text)) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if let Some(id) = message["id"].as_i64() {
                        assert!(id > self.chat_id, "{id} after {}", self.chat_id);
                        self.chat_id = id;
                    }
                }
                Effect::StartTranscoder { transcoder, backlog, .. } => {
                    assert!(self.transcoder.is_none(), "one runs already");
                    if self.free {
                        self.state.audio_mut().transcoder_started();
                        self.transcoder = Some((transcoder, backlog.into()));
                    }
                }
                Effect::Replicate(_, ReplicaMessage::Control(_)) => {}
                Effect::Replicate(_, audio) => self.sent.push_back(audio),
                Effect::StopTranscoder => self.transcoder = None,
                Effect::Transcode(input) => {
                    if let Some((_, inputs)) = &mut self.transcoder {
                        inputs.push_back(input);
                    }
                }
                _ => {}
            }
        }
        let runs = self.transcoder.is_some();
        self.state.audio_mut().set_transcoding(runs);
        result
    }

    fn send_chunk(&mut self, sequence: i64) {
        let number = u32::try_from(sequence).expect("not below zero");
        let samples = marked(self.run, number).repeat(4096);
        let timestamp = UnixMillis::new(i64::from(self.run) * 1_000_000 + sequence);
        let header = ChunkHeader { sequence, sample_rate: 44_100, channels: 2, timestamp };
        let chunk = AudioChunk::from_samples(header, samples.into(), self.now.to_micros()).expect("a good chunk");
        // Over its limit the host is refused, and nothing is heard of it.
        let _ = self.apply(|state, now, effects| state.receive_chunk(HostChunk { chunk, body_bytes: 0 }, now, effects));
    }

    fn send_packets(&mut self, first: u32, count: u32, discontinuity: bool) {
        let packet = |number| Bytes::from([&[0xfc][..], &marked(self.run, number)].concat());
        let packets: Vec<Bytes> = (first..first + count).map(packet).collect();
        let header = FrameHeader {
            codec: Codec::Opus,
            discontinuity,
            ends_epoch: false,
            sequence: first,
            server_time: UnixMicros::EPOCH,
            sample_time: 0,
        };
        let frame = HostFrame::decode(frame::encode(&header, packets.iter()), self.now).expect("a frame");
        let _ = self.apply(|state, now, effects| state.receive_frame(frame, now, effects));
    }

    fn transcode(&mut self) {
        let Some((transcoder, inputs)) = &mut self.transcoder else { return };
        let Some(input) = inputs.pop_front() else { return };
        let transcoder = *transcoder;
        let output = match input {
            TranscodeInput::Chunk(chunk) => {
                let bytes = Bytes::from([&[0xfc][..], &chunk.samples()[..8]].concat());
                TranscodeOutput::Packets(vec![AudioPacket { bytes, frames: 960, server_time: chunk.arrived_at }])
            }
            TranscodeInput::Packets(packets) => {
                let block = |packet: &AudioPacket| (packet.bytes.slice(1..), packet.server_time);
                TranscodeOutput::Blocks(packets.iter().map(block).collect())
            }
        };
        self.apply(|state, _, effects| state.receive_transcoded(transcoder, output, effects));
    }

    fn toggle(&mut self, codec: Codec) {
        if std::mem::take(&mut self.listener(codec).connected) {
            self.apply(|state, _, _| state.disconnect_listener(codec, true));
            return;
        }
        let joined = self
            .apply(|state, now, effects| state.require(codec, now, effects))
            .and_then(|()| self.apply(|state, _, _| state.connect_listener(codec, ListenerTransport::WebSocket)));
        if joined.is_ok() {
            *self.listener(codec) = Listener { connected: true, ..Listener::default() };
            self.greet(codec);
        }
    }

    fn greet(&mut self, codec: Codec) {
        if !self.listener(codec).connected {
            return;
        }
        let (greeting, snapshot) = self.apply(|state, now, _| state.greet(codec, now));
        // It begins here, so it may hear the last of what it has heard already.
        *self.listener(codec) = Listener { connected: true, last: None, next: greeting.sequence };
        if let Some(frame) = snapshot {
            self.listener(codec).hear(&frame);
        }
    }

    fn poll(&mut self, since: i64) {
        let polled = self
            .apply(|state, now, effects| state.prepare_poll(now, effects))
            .and_then(|()| self.apply(|state, now, _| state.poll_chunks(HERE, since, now)));
        let numbers: Vec<i64> = polled.iter().flatten().map(|chunk| chunk.header.sequence).collect();
        assert!(numbers.len() <= 10 && numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }

    /// A host that sends the other codec from now on has begun anew.
    fn change_source(&mut self, chunks: bool) {
        if std::mem::replace(&mut self.sends_chunks, chunks) != chunks {
            self.run += 1;
            self.end_packet = 0;
        }
    }

    fn run(&mut self, input: Input) {
        match input {
            Input::Chunk(offset) => {
                self.change_source(true);
                let sequence = (self.next_chunk + offset).max(0);
                self.send_chunk(sequence);
                self.next_chunk = self.next_chunk.max(sequence + 1);
            }
            Input::RestartChunks => {
                self.change_source(true);
                (self.run, self.next_chunk) = (self.run + 1, 1);
                self.send_chunk(0);
            }
            Input::Packets { offset, count } => {
                self.change_source(false);
                let first = self.next_packet.saturating_add_signed(offset);
                // Numbers from long before are those of a host that has begun anew.
                if self.end_packet.saturating_sub(first) > 50 {
                    (self.run, self.end_packet) = (self.run + 1, 0);
                }
                self.send_packets(first, count, false);
                self.next_packet = first + count;
                self.end_packet = self.end_packet.max(self.next_packet);
            }
            Input::RestartPackets => {
                self.change_source(false);
                (self.run, self.next_packet, self.end_packet) = (self.run + 1, 5, 5);
                self.send_packets(0, 5, true);
            }
            Input::Toggle(codec) => self.toggle(codec),
            Input::Behind(codec) => self.greet(codec),
            Input::Poll(since) => self.poll(since),
            Input::Transcode => self.transcode(),
            Input::Transcoders(free) => self.free = free,
            Input::Chat => {
                let post = ChatPost::from_json(json!({ "name": "Ann", "text": "hi" })).expect("a line");
                let mut own = TokenBucket::new(1.0, 5.0, self.now);
                let sender = ChatSender::Socket(&mut own);
                let _ = self.apply(|state, now, effects| state.post_chat(&post, sender, false, now, effects));
            }
            Input::SwitchChat(on) => {
                let _ = self.apply(|state, now, effects| state.switch_chat(on, now, effects));
            }
            Input::Time(passed) => {
                self.now = self.now + Duration::from_millis(passed);
                self.apply(|state, now, effects| state.tick(now, effects));
            }
        }
        self.check_bounds();
    }

    fn check_bounds(&mut self) {
        let audio = self.state.audio_mut();
        let (count, bytes, time) = audio.newest_chunks().fold((0, 0, Duration::ZERO), |(count, bytes, time), chunk| {
            (count + 1, bytes + chunk.len(), time + chunk.duration())
        });
        let fits = count <= 256 && bytes <= 10 << 20 && time <= Duration::from_secs(5);
        assert!(fits, "{count} chunks, {bytes} bytes, {time:?}");
        let (_, _, packets) = audio.queued_opus();
        assert!(packets.len() <= 250, "{} packets of 20 ms", packets.len());
        let chat = self.state.chat_snapshot().to_json();
        assert!(chat["last"].as_array().expect("lines").len() <= 50);
        let expected = usize::from(self.opus.connected) + usize::from(self.floats.connected);
        assert!(self.state.listener_count(self.now) >= expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn listeners_hear_nothing_out_of_order_and_nothing_twice(inputs in prop::collection::vec(input(), 1..150)) {
        let mut simulation = Simulation::new(false);
        for input in inputs {
            simulation.run(input);
        }
    }
}
