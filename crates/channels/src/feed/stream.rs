//! One stream of a queue's events, toward one listener: the queue at first, and after each change. Who takes nothing for a while is
//! told the newest only.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderName, header};
use prometheus::IntGauge;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::QueueItems;
use crate::Error;
use crate::bodies::QueueItemView;
use crate::channel::ChannelId;
use crate::service::ChannelService;
use primitives::unix_time::UnixMillis;
use server_kit::api::event_stream::{event_frame, event_json};
use server_kit::api::user::User;
use server_kit::auth::token_right::{TokenEnd, TokenRight};
use server_kit::limit::stream_limits::StreamPermit;

/// Items of a queue that an event has.
const MAX_SHOWN: usize = 100;
/// Interval of comments: proxies between end connections that are silent for a minute.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// Beginning of a stream: when a browser connects again.
const BEGINNING: &[u8] = b"retry: 1000\n\n";
/// A comment.
const COMMENT: &[u8] = b":\n\n";
/// Tells nginx to keep nothing back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Data of an event.
#[derive(Serialize)]
struct QueueEvent<'a> {
    channel: &'a str,
    items: Vec<QueueItemView>,
    /// Number of all items.
    total: usize,
}

/// Returns the answer with the events of a channel's queue, for as long as the token of `user` is good.
pub async fn respond(
    service: ChannelService,
    channel: ChannelId,
    user: User,
    token_until: UnixMillis,
) -> Result<Response, Error> {
    let feeds = service.feeds();
    let permit = feeds.admit(user.id())?;
    // Before it is read: what changes after that is told.
    let latest = feeds.subscribe(&channel).ok_or(Error::NoSuchChannel)?;
    let right = service.begin_right(user.id(), token_until).await?;
    let items = service.list(&channel).await?;
    let gauge = service.event_streams().clone();
    gauge.inc();
    let end = {
        let service = service.clone();
        Box::pin(async move { service.wait_for_end(&right).await })
    };
    let mut stream = EventStream { channel, user, latest, end, first: None, gauge, _permit: permit };
    let first = [BEGINNING, &stream.frame(&QueueItems::new(items))[..]].concat();
    stream.first = Some(first.into());
    let body = Body::from_stream(stream::unfold(Some(stream), async |state| {
        let mut state = state?;
        let (frame, goes_on) = state.next().await;
        Some((Ok::<_, Infallible>(frame), goes_on.then_some(state)))
    }));
    let head =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store"), (X_ACCEL_BUFFERING, "no")];
    Ok((head, body).into_response())
}

struct EventStream {
    channel: ChannelId,
    user: User,
    latest: watch::Receiver<QueueItems>,
    end: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    first: Option<Bytes>,
    gauge: IntGauge,
    _permit: StreamPermit,
}

impl EventStream {
    /// Returns the next bytes, and true if more can come.
    async fn next(&mut self) -> (Bytes, bool) {
        if let Some(first) = self.first.take() {
            return (first, true);
        }
        let has_changed = tokio::select! {
            biased;
            reason = &mut self.end => return end_frame(reason),
            changed = self.latest.changed() => changed.is_ok(),
            () = sleep(COMMENT_INTERVAL) => return (Bytes::from_static(COMMENT), true),
        };
        if !has_changed {
            return end_frame(SHUTDOWN);
        }
        let items = self.latest.borrow_and_update().clone();
        (self.frame(&items), true)
    }

    fn frame(&self, items: &QueueItems) -> Bytes {
        let shown = items.iter().take(MAX_SHOWN).cloned().map(|item| QueueItemView::new(item, &self.user));
        let event = QueueEvent { channel: self.channel.as_str(), items: shown.collect(), total: items.len() };
        event_frame("queue", &event_json(&event))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Reason of an end: the node stops.
const SHUTDOWN: &str = "shutdown";

fn end_frame(reason: &str) -> (Bytes, bool) {
    (event_frame("end", &json!({ "reason": reason }).to_string()), false)
}

impl ChannelService {
    /// Resolves with the reason when a stream must end.
    async fn wait_for_end(&self, right: &TokenRight) -> &'static str {
        tokio::select! {
            () = self.closing() => SHUTDOWN,
            end = right.ended(self.revocations(), self.clock()) => match end {
                TokenEnd::Expired => "token_expired",
                TokenEnd::LoggedOut => "logged_out",
            },
        }
    }
}
