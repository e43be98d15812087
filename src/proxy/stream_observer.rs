//! Observer of streams: a user begins to fetch a track, and how that ended. The proxy knows nothing of what comes of it,
//! and never waits for it.

use std::sync::Arc;

use http::StatusCode;

use super::context::RequestContext;
use super::live_stream::AnsweredPart;
use object_engine::ObjectResponse;
use primitives::ids::MAX_ID_BYTES;

/// The captured path value that names a track.
const ID: &str = "id";

/// Observer of streams. Must not block: it is called where a body is served.
pub trait StreamObserver: Send + Sync {
    /// A stream begins.
    fn stream_started(&self, user: &str, track: &str);

    /// A stream ended, whole or not.
    fn stream_ended(&self, user: &str, track: &str, ending: StreamEnd);
}

/// End of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// Bytes that were sent.
    pub bytes_sent: u64,
    /// The object's size, where it is known.
    pub object_size: Option<u64>,
    /// True where the object's last byte was among them.
    pub reached_end: bool,
}

/// An observed stream: its start is reported when this is made, its end when this is dropped, however that comes.
pub struct StreamObserverGuard {
    observer: Arc<dyn StreamObserver>,
    user: String,
    track: String,
    size: Option<u64>,
    reaches_end: bool,
    bytes_sent: u64,
    is_complete: bool,
}

impl StreamObserverGuard {
    /// Reports the start of the stream of `answer`; `None` where there is no observer or no user.
    pub fn start(ctx: &RequestContext, key: &str, answer: &ObjectResponse) -> Option<Self> {
        let observer = Arc::clone(ctx.runtime.process.stream_observer.as_ref()?);
        let user = ctx.claims.as_ref()?.subject.as_str().to_owned();
        let track = match ctx.captures.decoded(ID) {
            Some(id) => id.ok()?,
            None => key.to_owned(),
        };
        if track.len() > MAX_ID_BYTES {
            return None;
        }
        let AnsweredPart { size, range } = AnsweredPart::of(answer.status, &answer.headers);
        let is_part = answer.status == StatusCode::PARTIAL_CONTENT;
        let reaches_end = !is_part || range.zip(size).is_some_and(|(range, size)| range.last + 1 == size);
        observer.stream_started(&user, &track);
        Some(Self { observer, user, track, size, reaches_end, bytes_sent: 0, is_complete: false })
    }

    /// Records the outcome for the report at the end; `whole`: all bytes of the response were sent.
    pub fn record_outcome(&mut self, sent: u64, whole: bool) {
        (self.bytes_sent, self.is_complete) = (sent, whole);
    }
}

impl Drop for StreamObserverGuard {
    fn drop(&mut self) {
        let ending = StreamEnd {
            bytes_sent: self.bytes_sent,
            object_size: self.size,
            reached_end: self.is_complete && self.reaches_end,
        };
        self.observer.stream_ended(&self.user, &self.track, ending);
    }
}
