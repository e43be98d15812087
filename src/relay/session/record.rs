//! Recording of a session: whether, since when, and what became of it. Everybody is told that they are recorded.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Session, State};
use crate::relay::event::Event;
use crate::relay::frame::Codec;
use crate::relay::recording::{Failure, Recorder, Status, Take, Tape};
use crate::relay::refused::Refused;

/// The recording of a session, or its last one.
#[derive(Default)]
pub(super) struct Recording {
    status: Status,
    /// Ends it; there until it is stored.
    stop: Option<CancellationToken>,
}

impl Recording {
    /// Whether there is one.
    pub(super) fn is_on(&self) -> bool {
        self.status.on
    }
}

impl Session {
    /// Begins or ends recording; to do so again changes nothing.
    pub fn record(self: &Arc<Self>, on: bool, now: i64) -> Result<Status, Refused> {
        let recorder = self.shared.recorder.as_ref().ok_or(Refused::NoRecorder)?;
        let mut state = self.live()?;
        if !on {
            state.recording.stop.iter().for_each(CancellationToken::cancel);
            self.end_recording(&mut state);
            return Ok(state.recording.status.clone());
        }
        if state.recording.is_on() {
            return Ok(state.recording.status.clone());
        }
        let take = self.begin_recording(recorder, &mut state, now)?;
        let status = state.recording.status.clone();
        drop(state);
        recorder.start(take);
        Ok(status)
    }

    /// How it is recorded.
    pub fn recording(&self) -> Status {
        self.state.lock().recording.status.clone()
    }

    /// Whether it is recorded; `None` where it cannot be.
    pub fn is_recorded(&self) -> Option<bool> {
        self.shared.recorder.as_ref().map(|_| self.state.lock().recording.is_on())
    }

    /// It is so long by now.
    pub fn recording_grew(&self, bytes: u64) {
        self.state.lock().recording.status.bytes = bytes;
    }

    /// Nothing is recorded from now on.
    pub fn recording_ends(&self) {
        self.end_recording(&mut self.state.lock());
    }

    /// What became of it.
    pub fn recording_stored(&self, outcome: Result<(), Failure>) {
        let recording = &mut self.state.lock().recording;
        recording.stop = None;
        recording.status.stored = matches!(outcome, Ok(()) | Err(Failure::Songs));
        if !recording.status.stored {
            recording.status.object = None;
        }
        recording.status.error = outcome.err().map(|failure| failure.to_string());
    }

    fn begin_recording(self: &Arc<Self>, recorder: &Recorder, state: &mut State, now: i64) -> Result<Take, Refused> {
        if state.recording.stop.is_some() {
            return Err(Refused::StillStoring);
        }
        let joined = self.seat(state, Codec::Opus, None, now)?;
        let (key, stop) = (recorder.key(self.id, now), CancellationToken::new());
        let mut tape = Tape::new(self.id, self.started, now);
        state.fresh_metadata(now).iter().for_each(|song| tape.song(song));
        let status = Status { on: true, since: Some(now), object: Some(key.clone()), ..Status::default() };
        state.recording = Recording { status, stop: Some(stop.clone()) };
        self.tell(Event::Recording(true));
        Ok(Take { joined, key, tape, stop })
    }

    fn end_recording(&self, state: &mut State) {
        if std::mem::take(&mut state.recording.status.on) {
            self.tell(Event::Recording(false));
        }
    }
}
