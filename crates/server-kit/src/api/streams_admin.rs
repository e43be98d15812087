//! Operator's paths of live streams: their list, and the end of one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use primitives::unix_time::UnixMillis;
use serde::Serialize;

use super::error::Error;
use super::extractors::{Path, Query};
use super::pagination::{Page, PageLimits, PageQuery, decode_cursor};
use super::router::RouterState;
use super::timestamps::to_rfc3339;
use crate::live_streams::LiveStream;
use http_semantics::range::ByteRange;

/// Page sizes of the list.
const LIMITS: PageLimits = PageLimits { default_limit: 100, max_limit: 500 };

/// Page of the list, with the number of all streams.
#[derive(Serialize)]
pub struct LiveStreamPage {
    /// Streams on all pages.
    total: usize,
    #[serde(flatten)]
    page: Page<LiveStreamView>,
}

/// A live stream as the operator sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveStreamView {
    id: String,
    began_at: String,
    age_ms: u64,
    protocol: &'static str,
    tls: bool,
    route: Arc<str>,
    client: Option<IpAddr>,
    user: Option<String>,
    bytes_sent: u64,
    resumes: u32,
    size: Option<u64>,
    range: Option<RangeView>,
}

/// Part of an object, both positions included.
#[derive(Serialize)]
struct RangeView {
    first: u64,
    last: u64,
}

impl LiveStreamView {
    fn of(stream: &LiveStream, now: UnixMillis) -> Self {
        let facts = stream.facts();
        Self {
            id: digits(facts.request_id),
            began_at: to_rfc3339(facts.began),
            // A clock that was set back has no age for it.
            age_ms: now.as_millis().saturating_sub(facts.began.as_millis()).try_into().unwrap_or(0),
            protocol: facts.protocol.name(),
            tls: facts.is_tls,
            route: Arc::clone(&facts.route),
            client: facts.client,
            user: facts.user.map(digits),
            bytes_sent: stream.bytes_sent(),
            resumes: stream.resumes(),
            size: facts.size,
            range: facts.range.map(|ByteRange { first, last }| RangeView { first, last }),
        }
    }
}

fn digits(number: u64) -> String {
    format!("{number:016x}")
}

/// `GET /streams`: a page of the answers that are being sent, the oldest first.
pub async fn list(
    State(shared): State<RouterState>,
    Query(query): Query<PageQuery>,
) -> Result<Json<LiveStreamPage>, Error> {
    let limit = LIMITS.limit(query.limit)?;
    let after = decode_cursor(query.cursor.as_deref(), |place| place.parse().ok())?;
    let found = shared.streams.list(after, usize::from(limit) + 1);
    let now = shared.clock.unix_millis();
    let page = Page::from_lookahead(found, limit, |stream| stream.sequence().to_string());
    let page = page.map(|stream| LiveStreamView::of(&stream, now));
    Ok(Json(LiveStreamPage { total: shared.streams.count(), page }))
}

/// `DELETE /streams/{id}`: ends one, so that its client sees a connection or an HTTP/2 stream that breaks.
pub async fn end(State(shared): State<RouterState>, Path(id): Path<String>) -> Result<StatusCode, Error> {
    // One spelling, that of the access log.
    let number = u64::from_str_radix(&id, 16).ok().filter(|number| digits(*number) == id);
    let Some(number) = number.filter(|number| shared.streams.end(*number)) else {
        return Err(Error::not_found("no answer to the request of this id is being sent"));
    };
    tracing::info!(request_id = digits(number), "the operator has ended a stream");
    Ok(StatusCode::NO_CONTENT)
}
