//! Recordings of sessions, at the host's wish: pushed Opus goes into an Ogg file in an object store, a part at a time,
//! and beside it an index of the songs. A recorder is a listener like any other, so it never keeps audio waiting; a
//! store that is slow or away ends the recording and nothing else.

mod buffer;
mod uploader;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

pub use buffer::RecordingBuffer;
pub use uploader::RecordingUploader;

use self::uploader::MultipartUpload;
use crate::audio::frame::Codec;
use crate::metrics::Metrics;
use crate::session::ConnectedListener;
use crate::session::event::SessionEvent;
use crate::session::id::SessionId;
use crate::settings::RecordingSettings;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;

/// Time for storing the rest when the process stops.
const STOP_TIME: Duration = Duration::from_secs(10);
/// Time for the store to drop an upload.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// Reason for which a recording is not stored, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingFailure {
    /// The store cannot be reached, or fails.
    #[error("the store did not answer")]
    Unreachable,
    /// The store does not take it.
    #[error("the store refused the recording")]
    Refused,
    /// A part is due while the one before is still being stored.
    #[error("the store takes the recording more slowly than it grows")]
    Slow,
    /// No audio came.
    #[error("there was nothing to be heard")]
    Silent,
    /// The process stops.
    #[error("the server stopped before the recording was stored")]
    Stopped,
    /// The recording is stored, its index is not.
    #[error("the recording is stored, the list of its songs is not")]
    IndexNotStored,
}

/// Status of a session's recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ShareRecording, example = json!({"on": true, "since": 1_234_567_890_123_i64, "bytes": 1_200_000,
    "object": "shared/123456-20261121T101500Z-123-9f3a6c21.ogg", "stored": false, "error": null}))]
pub struct RecordingStatus {
    /// True while it is being recorded.
    pub on: bool,
    /// Beginning, in milliseconds since the Unix epoch; of the last one, where there is none.
    #[schema(value_type = Option<i64>)]
    pub since: Option<UnixMillis>,
    /// Bytes of the object.
    pub bytes: u64,
    /// Key of the object.
    pub object: Option<String>,
    /// True where the object is there.
    pub stored: bool,
    /// Reason for which it is not.
    pub error: Option<String>,
}

/// Recorder of the node's sessions.
pub struct SessionRecorder {
    uploader: Arc<RecordingUploader>,
    tasks: BackgroundTasks,
    metrics: Arc<Metrics>,
}

/// Recording that begins.
pub struct RecordingJob {
    /// Listener whose audio is recorded.
    pub listener: ConnectedListener,
    /// Key of the object.
    pub key: String,
    /// Buffer for the recording.
    pub buffer: RecordingBuffer,
    /// Token that ends the recording.
    pub stop: CancellationToken,
}

/// Part on its way, and its place in the queue, which is one long.
type QueuedPart = (Bytes, OwnedSemaphorePermit);

impl SessionRecorder {
    /// Creates a recorder that stores by `uploader`, until `tasks` stop.
    pub fn new(uploader: RecordingUploader, tasks: BackgroundTasks, metrics: Arc<Metrics>) -> Self {
        Self { uploader: Arc::new(uploader), tasks, metrics }
    }

    /// Returns the key of a recording that begins now.
    pub fn key(&self, session: SessionId, now: UnixMillis) -> String {
        recording_key(&self.uploader.settings.prefix, session, now, rand::rng().random())
    }

    /// Records in a task of its own.
    pub fn start(&self, job: RecordingJob) {
        let (uploader, tasks, metrics) = (Arc::clone(&self.uploader), self.tasks.clone(), Arc::clone(&self.metrics));
        self.tasks.spawn(async move {
            let session = Arc::clone(job.listener.session());
            metrics.active_recordings.inc();
            let (buffer, outcome) = record(job, &uploader, &tasks).await;
            metrics.active_recordings.dec();
            session.set_recording_outcome(outcome);
            let (id, seconds, bytes) = (session.id(), buffer.played().as_secs(), buffer.bytes());
            let result = match outcome {
                Ok(()) => {
                    tracing::info!(session = %id, seconds, bytes, "a recording was stored");
                    "stored"
                }
                Err(failure) => {
                    tracing::warn!(session = %id, seconds, bytes, error = %failure, "a recording failed");
                    "failed"
                }
            };
            metrics.ended_recordings.with_label_values(&[result]).inc();
            metrics.recorded_bytes.inc_by(bytes);
        });
    }
}

/// Returns the key of a recording that begins at `now`. `random` is there because the time alone is no name: a session can
/// be recorded anew within the same millisecond, or at two nodes, and an object must not be written over.
fn recording_key(prefix: &str, session: SessionId, now: UnixMillis, random: u32) -> String {
    let time = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ");
    format!("{prefix}{session}-{time}-{:03}-{random:08x}.ogg", now.as_millis().rem_euclid(1000))
}

/// Listens and stores until both are done; what could not be stored is dropped.
async fn record(
    job: RecordingJob,
    uploader: &Arc<RecordingUploader>,
    tasks: &BackgroundTasks,
) -> (RecordingBuffer, Result<(), RecordingFailure>) {
    let RecordingJob { listener, key, mut buffer, stop } = job;
    let mut upload = MultipartUpload::new(Arc::clone(uploader), key);
    let (parts, queue) = mpsc::channel(1);
    let session = Arc::clone(listener.session());
    let storing = async {
        let listening = async {
            let outcome = listen(listener, &mut buffer, &uploader.settings, parts, &stop, tasks).await;
            session.finish_recording();
            outcome
        };
        let (listened, stored) = tokio::join!(listening, store(&mut upload, queue));
        stored.and(listened)?;
        finish(&mut upload, &mut buffer).await
    };
    let outcome = tokio::select! {
        outcome = storing => outcome,
        () = async { tasks.stopping().await; sleep(STOP_TIME).await } => Err(RecordingFailure::Stopped),
    };
    // The session may have gone on without it.
    session.finish_recording();
    if outcome.is_err() {
        // What does not end in time would keep the process from stopping.
        let _ = timeout(ABORT_TIME, upload.abort()).await;
    }
    (buffer, outcome)
}

/// Writes pushed frames into the buffer, and hands on each part that is whole.
async fn listen(
    mut listener: ConnectedListener,
    buffer: &mut RecordingBuffer,
    limits: &RecordingSettings,
    parts: Sender<QueuedPart>,
    stop: &CancellationToken,
    tasks: &BackgroundTasks,
) -> Result<(), RecordingFailure> {
    let places = Arc::new(Semaphore::new(1));
    while buffer.bytes() < limits.max_size && buffer.played() < limits.max_duration {
        tokio::select! {
            event = listener.events.recv() => match event {
                Ok(SessionEvent::Frame(frame)) if frame.codec == Codec::Opus => buffer.append_frame(&frame.bytes),
                Ok(SessionEvent::MetadataChanged) => listener.session().latest_metadata().iter().for_each(|song| buffer.note_song(song)),
                Ok(SessionEvent::Ended(_)) | Err(RecvError::Closed) => break,
                Ok(_) => continue,
                // Some seconds are missing; those that follow are not.
                Err(RecvError::Lagged(_)) => listener.count_gap(),
            },
            () = stop.cancelled() => break,
            () = tasks.stopping() => break,
            // Storing has failed, and says why.
            () = parts.closed() => return Ok(()),
        }
        listener.session().set_recorded_bytes(buffer.bytes());
        if let Some(part) = buffer.take_part() {
            let place = Arc::clone(&places).try_acquire_owned().map_err(|_| RecordingFailure::Slow)?;
            // Where nobody takes it any more the next round sees that.
            let _ = parts.try_send((part, place));
        }
    }
    buffer.finish();
    listener.session().set_recorded_bytes(buffer.bytes());
    Ok(())
}

/// Stores the parts that come.
async fn store(upload: &mut MultipartUpload, mut parts: Receiver<QueuedPart>) -> Result<(), RecordingFailure> {
    upload.begin().await?;
    while let Some((part, _place)) = parts.recv().await {
        upload.store_part(part).await?;
    }
    Ok(())
}

/// Stores what is left, and makes an object of it all.
async fn finish(upload: &mut MultipartUpload, buffer: &mut RecordingBuffer) -> Result<(), RecordingFailure> {
    if buffer.bytes() == 0 {
        return Err(RecordingFailure::Silent);
    }
    upload.store_part(buffer.take_rest()).await?;
    upload.complete().await?;
    upload.store_index(buffer.index()).await.map_err(|_| RecordingFailure::IndexNotStored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_that_begin_together_have_keys_of_their_own() {
        let session: SessionId = "123456".parse().expect("six digits");
        // 2026-11-21T10:15:00.123Z
        let key = |now, random| recording_key("shared/", session, UnixMillis::new(now), random);
        let begun = 1_795_256_100_123;
        assert_eq!(key(begun, 0x9f3a_6c21), "shared/123456-20261121T101500Z-123-9f3a6c21.ogg");
        assert_eq!(key(begun + 1, 7), "shared/123456-20261121T101500Z-124-00000007.ogg");
        assert_ne!(key(begun, 1), key(begun, 2), "at the same time");
    }
}
