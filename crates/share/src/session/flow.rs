//! How audio goes on from the host: into the ring, into the lanes that somebody listens to, and through the transcoder.

use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;

use super::{POLL_DEMAND, Session, State};
use crate::chunk::{Chunk, Label};
use crate::event::Event;
use crate::frame::{Codec, MAX_PACKET};
use crate::intake::Follows;
use crate::lane::{Format, Packet};
use crate::refused::Refused;
use crate::ring::POLL;
use crate::transcode::{Input, Output};

/// What the transcoder makes, either way.
const MADE: Format = Format { rate: 48_000, channels: 2 };

impl Session {
    /// Takes chunks of the host that are in order.
    pub(super) fn accept(&self, state: &mut State, chunks: Vec<(Follows, Arc<Chunk>)>) {
        for (follows, chunk) in chunks {
            let format = Format { rate: chunk.label.rate, channels: chunk.label.channels };
            let before = state.ring.iter().next_back().map(|last| (last.label.rate, last.label.channels));
            let changed = before.is_some_and(|before| before != (format.rate, format.channels));
            if follows == Follows::Anew || state.ring.newest() >= Some(chunk.label.sequence) {
                state.ring.clear();
            }
            if changed || matches!(follows, Follows::Ahead | Follows::Anew) {
                self.begin_epoch(state, format);
            }
            self.feed(state, || Input::Chunk(Arc::clone(&chunk)));
            self.push_floats(state, &chunk);
            state.ring.push(chunk);
        }
    }

    /// Takes packets of the host that are in order.
    pub(super) fn accept_packets(&self, state: &mut State, packets: Vec<Packet>) {
        self.feed(state, || Input::Packets(packets.clone()));
        self.push(state, Codec::Opus, packets);
    }

    /// Gives the transcoder its part, where there is one.
    fn feed(&self, state: &mut State, input: impl FnOnce() -> Input) {
        let Some(transcode) = &state.transcode else { return };
        let Err(TrySendError::Full(_)) = transcode.try_send(input()) else { return };
        self.shared.metrics.overflows.inc();
        if !std::mem::replace(&mut state.overflowed, true) {
            tracing::warn!(session = %self.id, "a transcoder cannot follow: audio is dropped before it");
        }
    }

    /// What is sent from here on does not follow what was sent before.
    pub(super) fn begin_epoch(&self, state: &mut State, format: Format) {
        state.epoch = state.epoch.wrapping_add(1);
        // Whoever needs it gets a new one, which knows nothing of the audio before.
        state.transcode = None;
        let (number, floats) = (state.epoch, if state.source == Codec::F32 { format } else { MADE });
        let last = [state.opus.begin(number, MADE), state.floats.begin(number, floats)];
        last.into_iter().flatten().for_each(|frame| self.tell(Event::Frame(frame)));
        if state.seated[state.other() as usize] > 0 {
            // Over the limit its listeners hear nothing until there is room: see `attend`.
            let _ = self.start_transcode(state);
        }
    }

    /// Starts and stops the transcoder by who is there.
    pub(super) fn attend(&self, state: &mut State, now: i64) {
        let other = state.other();
        let polled = other == Codec::F32 && now - state.polled < POLL_DEMAND;
        if state.seated[other as usize] == 0 && !polled {
            state.transcode = None;
        } else if state.transcode.as_ref().is_none_or(tokio::sync::mpsc::Sender::is_closed) && state.epoch > 0 {
            let _ = self.start_transcode(state);
        }
    }

    /// Starts making the codec that the host does not send, from the last of what it has sent.
    pub(super) fn start_transcode(&self, state: &mut State) -> Result<(), Refused> {
        let (into, epoch, me) = (state.other(), state.epoch, self.me.clone());
        let deliver = move |output| me.upgrade().is_some_and(|session| session.transcoded(epoch, output));
        let sender = self.shared.transcoders.start(into, deliver).ok_or(Refused::NoTranscode)?;
        // What was made before the last one stopped is old.
        state.lane(into).clear();
        match state.source {
            Codec::F32 => {
                let newest: Vec<_> = state.ring.iter().rev().take(POLL).cloned().collect();
                newest.into_iter().rev().for_each(|chunk| {
                    // The queue is longer than that.
                    let _ = sender.try_send(Input::Chunk(chunk));
                });
            }
            Codec::Opus => {
                state.ring.clear();
                let _ = sender.try_send(Input::Packets(state.opus.newest(POLL * 5)));
            }
        }
        (state.transcode, state.overflowed) = (Some(sender), false);
        Ok(())
    }

    /// Takes what the transcoder has made; false when nobody wants it any more.
    fn transcoded(&self, epoch: u32, output: Output) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() || state.epoch != epoch || state.transcode.is_none() {
            return false;
        }
        match output {
            Output::Packets(packets) => self.push(&mut state, Codec::Opus, packets),
            Output::Blocks(blocks) => {
                for (samples, arrived) in blocks {
                    let sequence = state.made;
                    state.made += 1;
                    let label = Label { sequence, rate: MADE.rate, channels: MADE.channels, timestamp: arrived / 1000 };
                    let chunk = Chunk::from_samples(label, samples, arrived).expect("a block is a good chunk");
                    let chunk = Arc::new(chunk);
                    if state.hears(arrived / 1000) {
                        self.keep(&chunk);
                    }
                    self.push_floats(&mut state, &chunk);
                    state.ring.push(chunk);
                }
            }
        }
        true
    }

    /// Floats become packets only where somebody listens to them.
    fn push_floats(&self, state: &mut State, chunk: &Chunk) {
        if state.seated[Codec::F32 as usize] > 0 {
            self.push(state, Codec::F32, packets_of(chunk));
        }
    }

    fn push(&self, state: &mut State, codec: Codec, packets: Vec<Packet>) {
        let cadence = self.shared.seats.cadence();
        for packet in packets {
            if let Some(frame) = state.lane(codec).push(packet, cadence) {
                self.tell(Event::Frame(frame));
            }
        }
    }
}

/// The samples of a chunk as packets.
pub(super) fn packets_of(chunk: &Chunk) -> Vec<Packet> {
    let (samples, frame) = (chunk.samples(), 4 * usize::from(chunk.label.channels));
    let most = MAX_PACKET / frame * frame;
    let parts = samples.chunks(most).enumerate().map(|(number, part)| Packet {
        bytes: samples.slice_ref(part),
        frames: u32::try_from(part.len() / frame).unwrap_or(u32::MAX),
        time: chunk.arrived + crate::chunk::micros(number * most / frame, chunk.label.rate),
    });
    parts.collect()
}

impl State {
    /// The codec that the host does not send.
    pub(super) fn other(&self) -> Codec {
        match self.source {
            Codec::F32 => Codec::Opus,
            Codec::Opus => Codec::F32,
        }
    }
}
