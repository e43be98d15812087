//! Recording of a session: its beginning and its end, and the recorder's reports.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Session;
use super::state::SessionState;
use crate::audio::frame::Codec;
use crate::recording::{RecordingBuffer, RecordingFailure, RecordingJob, RecordingStatus, SessionRecorder};
use crate::refusal::Refusal;
use primitives::unix_time::UnixMillis;

impl Session {
    /// Begins or ends recording; to do so again changes nothing. Fails where this node cannot record, while the recording
    /// before is being stored, where Opus cannot be made, and once the session has ended.
    pub fn switch_recording(self: &Arc<Self>, on: bool, now: UnixMillis) -> Result<RecordingStatus, Refusal> {
        let recorder = self.services.recorder.as_ref().ok_or(Refusal::NoRecorder)?;
        if on {
            return self.begin_recording(recorder, now);
        }
        self.apply(|state, effects| {
            state.check_live()?;
            state.end_recording(effects);
            Ok(state.recording_status())
        })
    }

    fn begin_recording(
        self: &Arc<Self>,
        recorder: &SessionRecorder,
        now: UnixMillis,
    ) -> Result<RecordingStatus, Refusal> {
        let mut locked = self.lock();
        locked.inner.state.check_live()?;
        let status = locked.inner.state.recording_status();
        if status.on {
            return Ok(status);
        }
        locked.inner.state.check_recording_free()?;
        let key = recorder.key(self.id, now);
        locked.apply(|state, effects| state.require(Codec::Opus, now, effects))?;
        locked.apply(|state, effects| state.begin_recording(key.clone(), now, effects))?;
        let (listener, stop) = (self.listener(&locked, Codec::Opus, None), CancellationToken::new());
        locked.inner.recorder_stop = Some(stop.clone());
        let mut buffer = RecordingBuffer::new(self.id, self.start.at, now);
        locked.inner.state.fresh_metadata(now).iter().for_each(|song| buffer.note_song(song));
        let status = locked.inner.state.recording_status();
        drop(locked);
        recorder.start(RecordingJob { listener, key, buffer, stop });
        Ok(status)
    }

    /// Returns how the session is recorded.
    pub fn recording_status(&self) -> RecordingStatus {
        self.read(SessionState::recording_status)
    }

    /// Sets how long the recording is by now.
    pub fn set_recorded_bytes(&self, bytes: u64) {
        self.apply(|state, _| state.set_recorded_bytes(bytes));
    }

    /// Notes that nothing is recorded from now on.
    pub fn finish_recording(&self) {
        self.apply(|state, effects| state.finish_recording(effects));
    }

    /// Sets what became of the recording; the next one may begin.
    pub fn set_recording_outcome(&self, outcome: Result<(), RecordingFailure>) {
        let mut locked = self.lock();
        locked.inner.recorder_stop = None;
        locked.inner.state.set_recording_outcome(outcome);
    }
}
