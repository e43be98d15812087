//! One stream of events: what holds at first, then each change, a comment now and then, and the reason for its end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderName, header};
use serde_json::json;

use super::event_hub::{EventListener, NextEvent};
use super::metrics::StreamEnd;
use super::service::PlayerService;
use primitives::unix_time::UnixMillis;
use server_kit::api::event_stream::event_frame;
use server_kit::auth::token_right::MAX_RIGHT_TIME;

/// Interval of comments: proxies between end connections that are silent for a minute.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// Tries to read everything anew before a stream ends: some ten seconds, in which a client of Redis tries to connect several
/// times, be it that one try takes its whole timeout.
const SNAPSHOT_ATTEMPTS: usize = 35;
/// Time between two of them.
const SNAPSHOT_RETRY: Duration = Duration::from_millis(300);
/// Beginning of a stream: when a browser connects again.
const BEGINNING: &[u8] = b"retry: 1000\n\n";
/// A comment.
const COMMENT: &[u8] = b":\n\n";
/// Tells nginx to keep nothing back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type PendingEnd = Pin<Box<dyn Future<Output = StreamEnd> + Send>>;
type PendingSnapshot = Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>;

/// Returns the answer with the events of `listener`, from `snapshot` on; it ends at `token_until` at the latest.
pub async fn respond(
    service: PlayerService,
    listener: EventListener,
    snapshot: Vec<Bytes>,
    token_until: UnixMillis,
) -> Response {
    let user = listener.user().as_str().to_owned();
    // Before the client hears anything: a logout after that ends the stream.
    let generation = match &service.0.revocations {
        Some(revocations) => revocations.current(&user).await,
        None => None,
    };
    let end = Box::pin(wait_for_end(service.clone(), user, generation, token_until));
    let waiting = std::iter::once(Bytes::from_static(BEGINNING)).chain(snapshot).collect();
    let state = EventStream { service, listener, waiting, reading: None, end };
    let body = Body::from_stream(stream::unfold(Some(state), async |state| {
        let mut state = state?;
        let (frame, goes_on) = state.next().await?;
        Some((Ok::<_, Infallible>(frame), goes_on.then_some(state)))
    }));
    let head =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store"), (X_ACCEL_BUFFERING, "no")];
    (head, body).into_response()
}

struct EventStream {
    service: PlayerService,
    listener: EventListener,
    waiting: VecDeque<Bytes>,
    /// Reading of everything anew, while that is under way.
    reading: Option<PendingSnapshot>,
    end: PendingEnd,
}

impl EventStream {
    /// Returns the next bytes, and true if more can come; `None` ends the stream without a word. Nothing is waited for without
    /// the end of the stream beside it.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some((frame, true));
            }
            tokio::select! {
                biased;
                reason = &mut self.end => return Some(self.finish(reason)),
                frames = poll_reading(&mut self.reading) => match frames {
                    Some(frames) => self.waiting = frames.into(),
                    None => return Some(self.finish(StreamEnd::Unavailable)),
                },
                // What is read comes first: events that come meanwhile are newer.
                next = self.listener.next(), if self.reading.is_none() => match next {
                    NextEvent::Frame(frame) => return Some((frame, true)),
                    NextEvent::Snapshot => self.reading = Some(self.read_snapshot()),
                    NextEvent::Slow => return None,
                },
                () = tokio::time::sleep(COMMENT_INTERVAL) => return Some((Bytes::from_static(COMMENT), true)),
            }
        }
    }

    /// Begins to read everything anew; `None` if the stores do not answer for long.
    fn read_snapshot(&self) -> PendingSnapshot {
        let (service, user) = (self.service.clone(), self.listener.user().clone());
        let channel = self.listener.channel().cloned();
        Box::pin(async move {
            for _ in 0..SNAPSHOT_ATTEMPTS {
                if let Ok(frames) = service.snapshot(&user, channel.as_ref()).await {
                    return Some(frames);
                }
                // One connection to Redis may be back before another.
                tokio::time::sleep(SNAPSHOT_RETRY).await;
            }
            None
        })
    }

    fn finish(&mut self, reason: StreamEnd) -> (Bytes, bool) {
        self.listener.end(reason);
        (event_frame("end", &json!({ "reason": reason.name() }).to_string()), false)
    }
}

/// Resolves when what is read is there, which is none of `reading` any more then. Can be dropped and called again.
async fn poll_reading(reading: &mut Option<PendingSnapshot>) -> Option<Vec<Bytes>> {
    let Some(pending) = reading else { return std::future::pending().await };
    let frames = pending.await;
    *reading = None;
    frames
}

/// Resolves when a stream must end that began in this generation of its user's tokens.
async fn wait_for_end(
    service: PlayerService,
    user: String,
    generation: Option<u32>,
    token_until: UnixMillis,
) -> StreamEnd {
    let revoked = async {
        match &service.0.revocations {
            Some(revocations) => revocations.wait_until_revoked(&user, generation).await,
            None => std::future::pending().await,
        }
    };
    let life = (token_until - service.0.clock.unix_millis()).min(MAX_RIGHT_TIME);
    tokio::select! {
        () = service.0.streams.closing() => StreamEnd::Shutdown,
        () = tokio::time::sleep(life) => StreamEnd::TokenExpired,
        () = revoked => StreamEnd::LoggedOut,
    }
}
