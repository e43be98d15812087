//! Titles and state of a station as server-sent events, toward one listener.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderName, header};
use prometheus::IntGauge;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use super::metrics::StreamEnd;
use super::relay::station_board::StationBoard;
use super::service::RadioService;
use super::tickets::Ticket;
use server_kit::api::event_stream::event_frame;
use server_kit::limit::stream_limits::StreamPermit;

/// Interval of comments: proxies between end connections that are silent for a minute.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// Beginning of a stream: when a browser connects again.
const BEGINNING: &[u8] = b"retry: 1000\n\n";
/// A comment.
const COMMENT: &[u8] = b":\n\n";
/// Tells nginx to keep nothing back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Returns the answer with the events of `board`, from what holds now on.
pub fn respond(service: RadioService, board: Arc<StationBoard>, permit: StreamPermit, ticket: Ticket) -> Response {
    let (events, snapshot) = board.subscribe();
    let gauge = service.0.metrics.title_listeners.clone();
    gauge.inc();
    let ended = service.clone();
    let end = Box::pin(async move { ended.wait_for_end(ticket).await });
    let waiting = std::iter::once(Bytes::from_static(BEGINNING)).chain(snapshot).collect();
    let state = NowStream { service, board, events, waiting, end, gauge, _permit: permit };
    let body = Body::from_stream(stream::unfold(Some(state), async |state| {
        let mut state = state?;
        let (frame, goes_on) = state.next().await;
        Some((Ok::<_, Infallible>(frame), goes_on.then_some(state)))
    }));
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (X_ACCEL_BUFFERING, "no"),
    ];
    (head, body).into_response()
}

struct NowStream {
    service: RadioService,
    board: Arc<StationBoard>,
    events: broadcast::Receiver<Bytes>,
    waiting: VecDeque<Bytes>,
    end: Pin<Box<dyn Future<Output = StreamEnd> + Send>>,
    gauge: IntGauge,
    _permit: StreamPermit,
}

impl NowStream {
    /// Returns the next bytes, and true if more can come.
    async fn next(&mut self) -> (Bytes, bool) {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return (frame, true);
            }
            let event = tokio::select! {
                biased;
                reason = &mut self.end => return end_frame(reason),
                event = self.events.recv() => event,
                () = sleep(COMMENT_INTERVAL) => {
                    // Where nobody hears it here, nobody else notices that another node has deleted it.
                    self.service.close_deleted_board(&self.board).await;
                    return (Bytes::from_static(COMMENT), true);
                }
            };
            match event {
                // Nothing: the station was deleted.
                Ok(frame) if frame.is_empty() => return end_frame(StreamEnd::Deleted),
                Ok(frame) => return (frame, true),
                // It took nothing for a while: what it missed is told anew.
                Err(RecvError::Lagged(_)) => self.waiting = self.board.snapshot().into(),
                Err(RecvError::Closed) => return end_frame(StreamEnd::Deleted),
            }
        }
    }
}

impl Drop for NowStream {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

fn end_frame(reason: StreamEnd) -> (Bytes, bool) {
    (event_frame("end", &json!({ "reason": reason.name() }).to_string()), false)
}
