//! Recordings of sessions, on the host's wish: what is pushed as Opus goes into an Ogg file in an object store, a part at a
//! time, and beside it a list of the songs. One that records is a listener like any other, so it never keeps audio
//! waiting; a store that is slow or away ends the recording and nothing else.

mod depot;
mod tape;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

pub use depot::Depot;
pub use tape::Tape;

use self::depot::Upload;
use super::event::Event;
use super::frame::Codec;
use super::id::SessionId;
use super::metrics::Metrics;
use super::session::Joined;
use super::settings::Recording;
use primitives::lifecycle::BackgroundTasks;

/// When the process stops, what is recorded has so long to be stored.
const STOP_TIME: Duration = Duration::from_secs(10);
/// For the store to drop what it was given.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// Why a recording is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The store cannot be reached, or fails.
    #[error("the store did not answer")]
    Away,
    /// The store does not take it.
    #[error("the store refused the recording")]
    Refused,
    /// Two parts are waiting.
    #[error("the store takes the recording more slowly than it grows")]
    Slow,
    /// No audio came.
    #[error("there was nothing to be heard")]
    Silent,
    /// The process stops.
    #[error("the server stopped before the recording was stored")]
    Stopped,
    /// The recording is stored.
    #[error("the recording is stored, the list of its songs is not")]
    Songs,
}

/// What is told of a session's recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ShareRecording, example = json!({"on": true, "since": 1_234_567_890_123_i64, "bytes": 1_200_000,
    "object": "shared/123456-20261121T101500Z.ogg", "stored": false, "error": null}))]
pub struct Status {
    /// Whether it is being recorded.
    pub on: bool,
    /// Since when, in milliseconds since the Unix epoch; of the last one, where it is not.
    pub since: Option<i64>,
    /// How long the object is.
    pub bytes: u64,
    /// The object's key.
    pub object: Option<String>,
    /// Whether the object is there.
    pub stored: bool,
    /// What went wrong.
    pub error: Option<String>,
}

/// Records.
pub struct Recorder {
    depot: Arc<Depot>,
    tasks: BackgroundTasks,
    metrics: Arc<Metrics>,
}

/// A recording that begins.
pub struct Take {
    /// The listener that records.
    pub joined: Joined,
    /// The object's key.
    pub key: String,
    /// What is recorded goes here.
    pub tape: Tape,
    /// Ends it.
    pub stop: CancellationToken,
}

/// A part on its way, and its place: there is one.
type Part = (Bytes, OwnedSemaphorePermit);

impl Recorder {
    /// Records into `depot`, until `tasks` stop.
    pub fn new(depot: Depot, tasks: BackgroundTasks, metrics: Arc<Metrics>) -> Self {
        Self { depot: Arc::new(depot), tasks, metrics }
    }

    /// The key of a recording that begins now.
    pub fn key(&self, session: SessionId, now: i64) -> String {
        let time = jiff::Timestamp::from_millisecond(now).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ");
        format!("{}{session}-{time}.ogg", self.depot.settings.prefix)
    }

    /// Records, beside the caller.
    pub fn start(&self, take: Take) {
        let (depot, tasks, metrics) = (Arc::clone(&self.depot), self.tasks.clone(), Arc::clone(&self.metrics));
        self.tasks.spawn(async move {
            let session = Arc::clone(take.joined.session());
            metrics.recordings.inc();
            let (tape, outcome) = record(take, &depot, &tasks).await;
            metrics.recordings.dec();
            session.recording_stored(outcome);
            let (id, seconds, bytes) = (session.id(), tape.millis() / 1000, tape.bytes());
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
            metrics.recorded.with_label_values(&[result]).inc();
            metrics.recorded_bytes.inc_by(bytes);
        });
    }
}

/// Listens and stores until both are done; what could not be stored is dropped.
async fn record(take: Take, depot: &Arc<Depot>, tasks: &BackgroundTasks) -> (Tape, Result<(), Failure>) {
    let Take { joined, key, mut tape, stop } = take;
    let mut upload = Upload::new(Arc::clone(depot), key);
    let (parts, queue) = mpsc::channel(1);
    let session = Arc::clone(joined.session());
    let storing = async {
        let listening = async {
            let outcome = listen(joined, &mut tape, &depot.settings, parts, &stop, tasks).await;
            session.recording_ends();
            outcome
        };
        let (listened, stored) = tokio::join!(listening, store(&mut upload, queue));
        stored.and(listened)?;
        finish(&mut upload, &mut tape).await
    };
    let outcome = tokio::select! {
        outcome = storing => outcome,
        () = async { tasks.stopping().await; sleep(STOP_TIME).await } => Err(Failure::Stopped),
    };
    // The session may have gone on without it.
    session.recording_ends();
    if outcome.is_err() {
        // What does not end in time would keep the process from stopping.
        let _ = timeout(ABORT_TIME, upload.abort()).await;
    }
    (tape, outcome)
}

/// Writes down what is pushed, and hands on each part that is whole.
async fn listen(
    mut joined: Joined,
    tape: &mut Tape,
    limits: &Recording,
    parts: Sender<Part>,
    stop: &CancellationToken,
    tasks: &BackgroundTasks,
) -> Result<(), Failure> {
    let places = Arc::new(Semaphore::new(1));
    let longest = u64::try_from(limits.max_duration.as_millis()).unwrap_or(u64::MAX);
    while tape.bytes() < limits.max_size && tape.millis() < longest {
        tokio::select! {
            event = joined.events.recv() => match event {
                Ok(Event::Frame(frame)) if frame.codec == Codec::Opus => tape.audio(&frame.bytes),
                Ok(Event::Metadata) => joined.session().latest_metadata().iter().for_each(|song| tape.song(song)),
                Ok(Event::Ended(_)) | Err(RecvError::Closed) => break,
                Ok(_) => continue,
                // Some seconds are missing; those that follow are not.
                Err(RecvError::Lagged(_)) => joined.fell_behind(),
            },
            () = stop.cancelled() => break,
            () = tasks.stopping() => break,
            // Storing has failed, and says why.
            () = parts.closed() => return Ok(()),
        }
        joined.session().recording_grew(tape.bytes());
        if let Some(part) = tape.part() {
            let place = Arc::clone(&places).try_acquire_owned().map_err(|_| Failure::Slow)?;
            // Where nobody takes it any more the next round sees that.
            let _ = parts.try_send((part, place));
        }
    }
    tape.end();
    joined.session().recording_grew(tape.bytes());
    Ok(())
}

/// Stores the parts that come.
async fn store(upload: &mut Upload, mut parts: Receiver<Part>) -> Result<(), Failure> {
    upload.begin().await?;
    while let Some((part, _place)) = parts.recv().await {
        upload.part(part).await?;
    }
    Ok(())
}

/// Stores what is left, and makes an object of it all.
async fn finish(upload: &mut Upload, tape: &mut Tape) -> Result<(), Failure> {
    if tape.bytes() == 0 {
        return Err(Failure::Silent);
    }
    upload.part(tape.rest()).await?;
    upload.complete().await?;
    upload.beside(tape.journal()).await.map_err(|_| Failure::Songs)
}
