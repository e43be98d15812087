//! Recording of a session: whether there is one, here or at another node, and what became of the last.

use crate::recording::{RecordingFailure, RecordingStatus};
use crate::refusal::Refusal;
use primitives::unix_time::UnixMillis;

/// Recording of a session, or its last one.
#[derive(Default)]
pub struct RecordingState {
    status: RecordingStatus,
    /// True from the beginning of a recording until it is stored, or is not.
    storing: bool,
    /// True while another node records the session.
    elsewhere: bool,
}

impl RecordingState {
    /// Returns whether the session is recorded, here or at another node.
    pub fn is_on(&self) -> bool {
        self.status.on || self.elsewhere
    }

    /// Returns whether this node records the session.
    pub fn is_here(&self) -> bool {
        self.status.on
    }

    /// Returns whether another node records the session.
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// Returns what listeners are told: `None` where there is no recording and this node `can` make none.
    pub fn announced(&self, can: bool) -> Option<bool> {
        (can || self.is_on()).then(|| self.is_on())
    }

    /// Returns the status with recordings of other nodes in it.
    pub fn status(&self) -> RecordingStatus {
        RecordingStatus { on: self.is_on(), ..self.status.clone() }
    }

    /// Fails while the recording before is being stored.
    pub fn check_free(&self) -> Result<(), Refusal> {
        if self.storing { Err(Refusal::StillStoring) } else { Ok(()) }
    }

    /// Begins a recording into the object of this key.
    pub fn begin(&mut self, key: String, now: UnixMillis) {
        let status = RecordingStatus { on: true, since: Some(now), object: Some(key), ..RecordingStatus::default() };
        *self = Self { status, storing: true, elsewhere: false };
    }

    /// Sets the length of the object so far.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.status.bytes = bytes;
    }

    /// Ends the recording at this node; returns false where there was none.
    pub fn finish(&mut self) -> bool {
        std::mem::take(&mut self.status.on)
    }

    /// Sets what became of the object.
    pub fn set_outcome(&mut self, outcome: Result<(), RecordingFailure>) {
        self.storing = false;
        // The list of songs is beside the object, which is there without it.
        self.status.stored = matches!(outcome, Ok(()) | Err(RecordingFailure::IndexNotStored));
        if !self.status.stored {
            self.status.object = None;
        }
        self.status.error = outcome.err().map(|failure| failure.to_string());
    }

    /// Sets whether another node records the session; returns true where that is news.
    pub fn set_elsewhere(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.elsewhere, on) != on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_on_then_being_stored_and_then_free_for_the_next() {
        let mut recording = RecordingState::default();
        assert_eq!([true, false].map(|can| recording.announced(can)), [Some(false), None]);
        recording.begin("key".to_owned(), UnixMillis::new(7));
        recording.set_bytes(100);
        assert_eq!((recording.is_on(), recording.check_free()), (true, Err(Refusal::StillStoring)));
        assert!(recording.finish() && !recording.finish(), "it ends once");
        assert_eq!((recording.is_on(), recording.check_free()), (false, Err(Refusal::StillStoring)));
        recording.set_outcome(Ok(()));
        let expected = RecordingStatus {
            on: false,
            since: Some(UnixMillis::new(7)),
            bytes: 100,
            object: Some("key".to_owned()),
            stored: true,
            error: None,
        };
        assert_eq!((recording.status(), recording.check_free()), (expected, Ok(())));
    }

    #[test]
    fn an_outcome_says_whether_the_object_is_there() {
        for (outcome, stored) in [
            (Ok(()), true),
            (Err(RecordingFailure::IndexNotStored), true),
            (Err(RecordingFailure::Slow), false),
            (Err(RecordingFailure::Unreachable), false),
        ] {
            let mut recording = RecordingState::default();
            recording.begin("key".to_owned(), UnixMillis::EPOCH);
            recording.set_outcome(outcome);
            let status = recording.status();
            assert_eq!((status.stored, status.object.is_some()), (stored, stored), "{outcome:?}");
            assert_eq!(status.error, outcome.err().map(|failure| failure.to_string()));
        }
    }

    #[test]
    fn one_of_another_node_is_shown_too() {
        let mut recording = RecordingState::default();
        assert_eq!([true, true, false].map(|on| recording.set_elsewhere(on)), [true, false, true]);
        recording.set_elsewhere(true);
        assert_eq!((recording.announced(false), recording.status().on, recording.is_here()), (Some(true), true, false));
    }
}
