//! Recording of a session: whether, since when, and what became of it. Everybody is told that they are recorded.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Session, State};
use crate::event::Event;
use crate::frame::Codec;
use crate::nodes::wire::Word;
use crate::recording::{Failure, Recorder, Status, Take, Tape};
use crate::refused::Refused;

/// The recording of a session, or its last one.
#[derive(Default)]
pub(super) struct Recording {
    status: Status,
    /// Ends it; there until it is stored.
    stop: Option<CancellationToken>,
    /// Whether another node records the session.
    elsewhere: bool,
}

impl Recording {
    /// Whether there is one, here or at another node.
    pub(super) fn is_on(&self) -> bool {
        self.status.on || self.elsewhere
    }

    /// Whether this node makes it.
    pub(super) fn is_here(&self) -> bool {
        self.status.on
    }

    /// Whether there is one; `None` where there is none and nobody `can` make one.
    pub(super) fn told(&self, can: bool) -> Option<bool> {
        (can || self.is_on()).then(|| self.is_on())
    }

    fn shown(&self) -> Status {
        Status { on: self.is_on(), ..self.status.clone() }
    }
}

impl Session {
    /// Begins or ends recording; to do so again changes nothing.
    pub fn record(self: &Arc<Self>, on: bool, now: i64) -> Result<Status, Refused> {
        let recorder = self.shared.recorder.as_ref().ok_or(Refused::NoRecorder)?;
        let mut state = self.live()?;
        if !on {
            if state.recording.elsewhere {
                self.announce(Word::EndRecording);
            }
            self.stop_recording(&mut state);
            return Ok(state.recording.shown());
        }
        if state.recording.is_on() {
            return Ok(state.recording.shown());
        }
        let take = self.begin_recording(recorder, &mut state, now)?;
        let status = state.recording.status.clone();
        drop(state);
        recorder.start(take);
        Ok(status)
    }

    /// How it is recorded.
    pub fn recording(&self) -> Status {
        self.state.lock().recording.shown()
    }

    /// Whether it is recorded; `None` where it cannot be.
    pub fn is_recorded(&self) -> Option<bool> {
        self.state.lock().recording.told(self.shared.recorder.is_some())
    }

    /// Ends it, if this node makes it.
    pub(super) fn stop_recording(&self, state: &mut State) {
        state.recording.stop.iter().for_each(CancellationToken::cancel);
        self.end_recording(state);
    }

    /// Another node records the session, or no longer.
    pub(super) fn recorded_elsewhere(&self, state: &mut State, on: bool) {
        if std::mem::replace(&mut state.recording.elsewhere, on) != on {
            self.tell(Event::Recording(state.recording.is_on()));
        }
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
        let mut tape = Tape::new(self.id, self.start.at, now);
        state.fresh_metadata(now).iter().for_each(|song| tape.song(song));
        let status = Status { on: true, since: Some(now), object: Some(key.clone()), ..Status::default() };
        state.recording = Recording { status, stop: Some(stop.clone()), elsewhere: false };
        self.tell(Event::Recording(true));
        self.announce(Word::Recorded { on: true });
        Ok(Take { joined, key, tape, stop })
    }

    fn end_recording(&self, state: &mut State) {
        if std::mem::take(&mut state.recording.status.on) {
            self.tell(Event::Recording(false));
            self.announce(Word::Recorded { on: false });
        }
    }
}
