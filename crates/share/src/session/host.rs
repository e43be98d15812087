//! The host's side of a session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;

use super::{Session, State};
use crate::bucket::Bucket;
use crate::chunk::{Chunk, micros};
use crate::event::Event;
use crate::frame::{self, BadFrame, Codec, Head};
use crate::intake::{Intake, Verdict};
use crate::lane::{Format, Packet};
use crate::metadata::Metadata;
use crate::nodes::wire::Message;
use crate::refused::Refused;

/// Opus, whatever the packets hold.
const OPUS: Format = Format { rate: 48_000, channels: 2 };
/// Samples of the shortest frame of Opus, and bytes of any (RFC 6716 §2.1.4 and §3.2.1).
const SHORTEST: usize = 120;
const LONGEST: usize = 1275;
/// Packets that may be missing before it is a new epoch: a second.
const JUMP: u32 = 50;

/// How much a host may send. A real one sends 10.77 chunks a second, metadata twice a second.
pub(super) struct Limits {
    chunks: Bucket,
    bytes: Bucket,
    audio: Bucket,
    frames: Bucket,
    metadata: Bucket,
}

/// Bytes of audio that a host sends in `window` at most, as its limits are.
pub(super) fn most_bytes(window: Duration) -> usize {
    const MEBIBYTE: usize = 1 << 20;
    usize::try_from(window.as_secs()).unwrap_or(usize::MAX).saturating_add(5).saturating_mul(MEBIBYTE)
}

impl Limits {
    pub(super) fn new(now: i64) -> Self {
        const MEBIBYTE: f64 = 1_048_576.0;
        Self {
            chunks: Bucket::new(25.0, 50.0, now),
            bytes: Bucket::new(MEBIBYTE, 4.0 * MEBIBYTE, now),
            // Milliseconds of audio: 1.5 times as fast as it plays, for good; twice as fast for 15 seconds.
            audio: Bucket::new(1500.0, 7500.0, now),
            frames: Bucket::new(100.0, 200.0, now),
            metadata: Bucket::new(2.0, 4.0, now),
        }
    }

    fn chunk(&mut self, bytes: usize, micros: i64, now: i64) -> Result<(), Refused> {
        take(&mut self.chunks, 1.0, now, "a host may send 25 chunks a second")?;
        self.audio(bytes, micros, now)
    }

    fn frame(&mut self, bytes: usize, micros: i64, now: i64) -> Result<(), Refused> {
        take(&mut self.frames, 1.0, now, "a host may send 100 frames a second")?;
        self.audio(bytes, micros, now)
    }

    #[expect(clippy::cast_precision_loss, reason = "a body's length and the time that it plays are small numbers")]
    fn audio(&mut self, bytes: usize, micros: i64, now: i64) -> Result<(), Refused> {
        take(&mut self.bytes, bytes as f64, now, "a host may send 1 MiB a second")?;
        take(&mut self.audio, micros as f64 / 1000.0, now, "a host may send audio 1.5 times as fast as it plays")
    }
}

fn take(bucket: &mut Bucket, amount: f64, now: i64, what: &'static str) -> Result<(), Refused> {
    bucket.take(amount, now).map_err(|wait| Refused::TooFast { what, wait: wait.max(Duration::from_millis(1)) })
}

/// A host that is connected, until this is dropped.
pub struct Hosting {
    session: Arc<Session>,
    number: u64,
    /// What happens in the session.
    pub events: broadcast::Receiver<Event>,
}

impl Session {
    /// A chunk, in a body of so many bytes; false when it came too late to be of use.
    pub fn audio(&self, chunk: Chunk, body: usize, now: i64) -> Result<bool, Refused> {
        let mut state = self.live()?;
        state.limits.chunk(body, chunk.micros(), now)?;
        self.host_heard(&mut state, false, now);
        let (chunk, metrics) = (Arc::new(chunk), &self.shared.metrics);
        let verdict = self.offer(&mut state, Arc::clone(&chunk), now);
        let (result, buffered) = match verdict {
            Verdict::Taken => ("buffered", true),
            Verdict::Duplicate => ("duplicate", true),
            Verdict::Late => ("late", false),
        };
        metrics.chunks.with_label_values(&[result]).inc();
        if verdict == Verdict::Taken {
            state.bytes += chunk.len() as u64;
            metrics.bytes.with_label_values(&["in"]).inc_by(chunk.len() as u64);
            self.pass_on(&state, now, || Message::Chunk(chunk.label, chunk.samples().clone()));
            self.keep(&chunk);
        }
        Ok(buffered)
    }

    /// Takes a chunk, wherever it was sent to.
    pub(super) fn offer(&self, state: &mut State, chunk: Arc<Chunk>, now: i64) -> Verdict {
        state.change_source(Codec::F32);
        let mut ready = Vec::new();
        let verdict = state.intake.offer(chunk, now, &mut ready);
        self.accept(state, ready);
        verdict
    }

    /// Makes the caller the host that sends frames, in place of one before.
    pub fn host(self: &Arc<Self>, now: i64) -> Result<Hosting, Refused> {
        let mut state = self.live()?;
        state.hosting += 1;
        self.host_came(&mut state, now);
        self.tell(Event::HostReplaced);
        Ok(Hosting { session: Arc::clone(self), number: state.hosting, events: self.events.subscribe() })
    }

    /// Whether this one is still the host.
    pub fn is_host(&self, hosting: &Hosting) -> bool {
        self.state.lock().hosting == hosting.number
    }

    /// A frame of Opus packets.
    pub fn frame(&self, frame: Bytes, now: i64) -> Result<(), Refused> {
        let (head, mut packets) = opus(frame.clone(), now * 1000)?;
        let played = packets.iter().map(|packet| micros(packet.frames as usize, OPUS.rate)).sum();
        let mut state = self.live()?;
        state.limits.frame(frame.len(), played, now)?;
        self.host_heard(&mut state, true, now);
        let length = self.take_packets(&mut state, &head, &mut packets);
        let metrics = &self.shared.metrics;
        metrics.chunks.with_label_values(&[if length == 0 { "duplicate" } else { "buffered" }]).inc();
        metrics.bytes.with_label_values(&["in"]).inc_by(length);
        state.bytes += length;
        self.pass_on(&state, now, || Message::Frame(frame));
        Ok(())
    }

    /// Takes the packets of a frame, wherever it was sent to; returns the bytes of those that were new.
    pub(super) fn take_packets(&self, state: &mut State, head: &Head, packets: &mut Vec<Packet>) -> u64 {
        state.change_source(Codec::Opus);
        self.align(state, head, packets);
        let length = packets.iter().map(|packet| packet.bytes.len() as u64).sum();
        self.accept_packets(state, std::mem::take(packets));
        length
    }

    /// Compares the frame's number with the expected one: what comes again goes, a small hole is left open, and all else
    /// begins an epoch.
    fn align(&self, state: &mut State, head: &Head, packets: &mut Vec<Packet>) {
        let count = u32::try_from(packets.len()).unwrap_or(u32::MAX);
        let ahead = state.expected.map(|expected| head.sequence.wrapping_sub(expected));
        match ahead {
            Some(0) if !head.discontinuity => {}
            Some(ahead @ 1..=JUMP) if !head.discontinuity => {
                let frames = packets.first().map_or(960, |packet| packet.frames);
                state.opus.skip(ahead, frames);
            }
            Some(behind) if !head.discontinuity && behind.wrapping_neg() <= JUMP => {
                let known = behind.wrapping_neg().min(count);
                packets.drain(..known as usize);
                if packets.is_empty() {
                    return;
                }
            }
            _ => self.begin_epoch(state, OPUS),
        }
        state.expected = Some(head.sequence.wrapping_add(count));
    }

    /// What the host says of the song; returns how many were told.
    pub fn set_metadata(&self, body: &[u8], now: i64) -> Result<usize, Refused> {
        let before = {
            let mut state = self.live()?;
            take(&mut state.limits.metadata, 1.0, now, "a host may send metadata twice a second")?;
            state.metadata.clone()
        };
        // A cover of megabytes is read without keeping the audio waiting.
        let metadata = Arc::new(Metadata::from_json(body, before.as_deref(), now, &|tag| self.cover(tag))?);
        let mut state = self.live()?;
        let connected = state.spread.is_connected();
        self.host_heard(&mut state, connected, now);
        self.publish(&mut state, &metadata, before.as_deref(), now);
        state.metadata = Some(metadata);
        self.tell(Event::Metadata);
        Ok(state.listeners(now))
    }

    /// What listeners are told of the cover of this tag: they show it, and nothing else, to see the cover.
    pub fn cover(&self, tag: &str) -> String {
        self.shared.tickets.show_cover(self.id, tag)
    }

    /// What the host has told another node of the song.
    pub fn sing(&self, metadata: Metadata) {
        let Ok(mut state) = self.live() else { return };
        state.metadata = Some(Arc::new(metadata));
        self.tell(Event::Metadata);
    }

    pub(super) fn live(&self) -> Result<parking_lot::MutexGuard<'_, State>, Refused> {
        let state = self.state.lock();
        if state.ended.is_some() { Err(Refused::UnknownSession) } else { Ok(state) }
    }
}

impl Drop for Hosting {
    fn drop(&mut self) {
        self.session.host_left(self.number);
    }
}

/// Reads a frame of Opus that came at `time`, in microseconds.
pub(super) fn opus(frame: Bytes, mut time: i64) -> Result<(Head, Vec<Packet>), BadFrame> {
    let (head, packets) = frame::read(frame)?;
    if head.codec != Codec::Opus {
        return Err(BadFrame::Packet);
    }
    let mut read = Vec::with_capacity(packets.len());
    for bytes in packets {
        let frames = opusic_c::utils::get_nb_samples(&bytes, opusic_c::SampleRate::Hz48000);
        let frames = frames.ok().filter(|frames| (120..=5760).contains(frames)).ok_or(BadFrame::Packet)?;
        // What is kept is bounded by how long it plays: a packet that is padded would have it grow beyond.
        if bytes.len() > frames / SHORTEST * LONGEST + 2 * (frames / SHORTEST) {
            return Err(BadFrame::Packet);
        }
        read.push(Packet { bytes, frames: u32::try_from(frames).unwrap_or(0), time });
        time += micros(frames, OPUS.rate);
    }
    Ok((head, read))
}

impl State {
    /// What a host sends may change while it is live; what was on its way in the other form is no longer.
    fn change_source(&mut self, codec: Codec) {
        if self.source != codec {
            (self.source, self.transcode, self.expected, self.intake) = (codec, None, None, Intake::default());
        }
    }
}
