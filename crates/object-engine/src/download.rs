//! Download of a body that survives a broken connection: the same body goes on from another connection, with a new
//! signature, from the next byte on, and of the same version only. A body that cannot be continued ends as an error,
//! never as a clean end.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use http::{StatusCode, header};
use tokio::net::TcpStream;

use super::fetch::{StoreReply, StoreRequest, query_rest};
use super::traced;
use super::{AttemptStats, ObjectError, ObjectOrigin, ResumeCause};
use http_semantics::etag::ETag;
use http_semantics::range::{ByteRange, ContentRange, RangeSpec};
use primitives::clock::monotonic_now;
use request_traces::RequestTrace;
use upstream::connection::{ExchangeError, ResponseBody, UpstreamResponse};
use upstream::destination::InFlightRequest;

/// Most continuations in a row that bring no byte.
const MAX_IDLE_RESUMES: u32 = 3;

/// Body of an object, or of a part of it, from the store to one client.
pub struct ResumableDownload {
    origin: Arc<ObjectOrigin>,
    key: Box<str>,
    etag: Option<ETag>,
    body: ResponseBody,
    in_flight: InFlightRequest,
    /// Byte positions in the object that the client has not been sent yet; `None`: all up to the end of the store's
    /// body.
    remaining: Option<Range<u64>>,
    /// Bytes to drop before the client's first byte, where the store sent more than was requested.
    skip: u64,
    /// Range of the body's available bytes that belongs to the client.
    window: Range<usize>,
    idle_resumes: u32,
    attempt_stats: AttemptStats,
}

impl ResumableDownload {
    /// Creates the download of a response body whose length is not known. Only a strong `etag` allows to continue it.
    pub(super) fn new(
        origin: Arc<ObjectOrigin>,
        key: &str,
        etag: Option<ETag>,
        body: ResponseBody,
        in_flight: InFlightRequest,
    ) -> Self {
        // Only a strong tag promises the same bytes, without which nothing may be joined (RFC 9110 §8.8.1).
        let etag = etag.filter(ETag::is_strong);
        Self {
            origin,
            key: key.into(),
            etag,
            body,
            in_flight,
            remaining: None,
            skip: 0,
            window: 0..0,
            idle_resumes: 0,
            attempt_stats: AttemptStats::default(),
        }
    }

    /// Limits the download to the bytes `span` of the object (`None`: it is empty), after the first `skip` bytes of the
    /// body.
    pub(super) fn with_range(self, span: Option<ByteRange>, skip: u64) -> Self {
        let owed = span.map_or(0..0, |span| span.first..span.last + 1);
        // Neither span nor length: then the end of the store's body is the end.
        let owed = if span.is_none() && self.body.content_length().is_none() { None } else { Some(owed) };
        Self { remaining: owed, skip, ..self }
    }

    /// Makes its continuations part of this trace.
    pub(super) fn trace(&mut self, trace: &RequestTrace) {
        self.attempt_stats.trace.clone_from(trace);
    }

    /// Requests the same bytes again, from another connection or destination, because this response is not what was
    /// requested. Fails as a continuation does.
    pub async fn retry_elsewhere(mut self) -> Result<Self, ObjectError> {
        Box::pin(self.resume(ResumeCause::Mismatch)).await?;
        Ok(self)
    }

    /// Makes the client's next bytes available, about `room` at most. Returns false at the clean end. Where `passing`
    /// is set it may return true with no bytes available: then [`ResumableDownload::splice_to`] must be called to move
    /// them. Fails with `BrokenBody`, `Changed`, or the failure of the last attempt to continue.
    pub async fn fill(&mut self, room: usize, passing: bool) -> Result<bool, ObjectError> {
        self.advance();
        loop {
            let idle = self.origin.timeouts.idle;
            // The client has all its bytes; the store may have sent more.
            if self.remaining.as_ref().is_some_and(Range::is_empty) {
                self.body.finish();
                return Ok(false);
            }
            // Bytes to be dropped must be read, and without a length nobody knows how many may be moved.
            let passing = passing && self.skip == 0 && self.remaining.is_some();
            match self.body.fill(room, passing, idle).await {
                Ok(true) if passing && self.body.available().is_empty() => return Ok(true),
                Ok(true) => {
                    if self.open_window() {
                        self.idle_resumes = 0;
                        return Ok(true);
                    }
                }
                Ok(false) if self.remaining.is_none() => return Ok(false),
                // Boxed: a body that does not break holds no memory for the continuation.
                Ok(false) => Box::pin(self.resume(ResumeCause::Short)).await?,
                Err(error) => {
                    self.attempt_stats.record_body_failure(&self.origin.cluster, self.in_flight.destination(), &error);
                    Box::pin(self.resume(cause(&error))).await?;
                }
            }
        }
    }

    /// Moves up to `room` bytes that are there to the client's socket `to`, without waiting, and returns how many.
    /// Bytes that `to` does not accept are made available instead. An error is one of `to`.
    pub fn splice_to(&mut self, to: &TcpStream, room: usize) -> io::Result<usize> {
        let Some(owed) = &mut self.remaining else { return Ok(0) };
        let room = usize::try_from(owed.end - owed.start).map_or(room, |owed| room.min(owed));
        let passed = self.body.splice_to(to, room)?;
        owed.start += passed as u64;
        let more = self.open_window();
        if passed > 0 || more {
            self.idle_resumes = 0;
        }
        Ok(passed)
    }

    /// Returns the bytes that the last [`ResumableDownload::fill`] made available.
    pub fn available(&self) -> &[u8] {
        &self.body.available()[self.window.clone()]
    }

    /// Returns the number of continuations.
    pub fn resumes(&self) -> u32 {
        self.attempt_stats.resumes.total()
    }

    /// Returns the effort of the continuations.
    pub fn attempt_stats(&self) -> AttemptStats {
        self.attempt_stats.clone()
    }

    /// Records that the bytes of the last window have been taken.
    fn advance(&mut self) {
        let taken = self.window.len() as u64;
        if let Some(owed) = &mut self.remaining {
            owed.start += taken;
        }
        self.window = 0..0;
    }

    /// Finds the client's bytes among those available; returns false when all of them must be dropped.
    fn open_window(&mut self) -> bool {
        let there = self.body.available().len();
        let skipped = usize::try_from(self.skip).map_or(there, |skip| skip.min(there));
        self.skip -= skipped as u64;
        let left = self.remaining.as_ref().map_or(u64::MAX, |owed| owed.end - owed.start);
        let end = usize::try_from(left).map_or(there, |left| there.min(skipped.saturating_add(left)));
        self.window = skipped..end.max(skipped);
        !self.window.is_empty()
    }

    /// Requests the rest of the same version and continues from there.
    async fn resume(&mut self, cause: ResumeCause) -> Result<(), ObjectError> {
        let trace = self.attempt_stats.trace.clone();
        let (timer, byte) = (trace.start(), self.remaining.as_ref().map_or(0, |owed| owed.start));
        let resumed = self.request_rest(cause).await;
        traced::resume(&trace, timer, (cause, byte), resumed.err());
        resumed
    }

    /// Requests the rest of the same version. A destination that sends something else counts as broken off too.
    async fn request_rest(&mut self, mut cause: ResumeCause) -> Result<(), ObjectError> {
        self.in_flight.broke_off(monotonic_now());
        // Without the length or a strong tag nobody can tell which bytes are missing, or of which version.
        let (Some(owed), Some(etag)) = (self.remaining.clone(), self.etag.clone()) else {
            return Err(ObjectError::BrokenBody);
        };
        let wanted = ByteRange { first: owed.start, last: owed.end - 1 };
        let range = RangeSpec::From { first: wanted.first, last: Some(wanted.last) }.to_header();
        let question =
            StoreRequest { head: false, key: &self.key, range: Some(&range), if_match: Some(&etag), room: 0 };
        loop {
            self.idle_resumes += 1;
            if self.idle_resumes > MAX_IDLE_RESUMES {
                return Err(if cause == ResumeCause::Mismatch {
                    ObjectError::Changed
                } else {
                    ObjectError::BrokenBody
                });
            }
            self.attempt_stats.resumes.count(cause);
            match query_rest(&self.origin, &question, &self.in_flight, &mut self.attempt_stats).await? {
                StoreReply::Object(response, in_flight) if is_continuation(&response, wanted, &etag) => {
                    self.body = response.body;
                    self.in_flight = in_flight;
                    // The rest begins at the next byte that the client is owed.
                    self.skip = 0;
                    return Ok(());
                }
                StoreReply::Object(_, in_flight) => {
                    self.in_flight = in_flight;
                    self.in_flight.broke_off(monotonic_now());
                    cause = ResumeCause::Mismatch;
                }
                // 416 too: these bytes existed in the version that we began to send.
                StoreReply::PreconditionFailed | StoreReply::RangeNotSatisfiable(_) => {
                    return Err(ObjectError::Changed);
                }
            }
        }
    }
}

/// Returns true if the response has exactly the bytes `wanted`, of exactly the version `etag`.
fn is_continuation(response: &UpstreamResponse, wanted: ByteRange, etag: &ETag) -> bool {
    let headers = &response.headers;
    let sent = headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
    let version = headers.get(header::ETAG).and_then(|value| ETag::parse(value.as_bytes()));
    response.status == StatusCode::PARTIAL_CONTENT
        && sent.is_some_and(|sent| sent.span == wanted)
        && version.is_some_and(|version| version.strong_eq(etag))
}

fn cause(error: &ExchangeError) -> ResumeCause {
    match error {
        ExchangeError::Truncated => ResumeCause::Cut,
        ExchangeError::Stalled => ResumeCause::Stalled,
        ExchangeError::Malformed(_) => ResumeCause::Malformed,
        // The last two cannot happen within a body; they count as a broken connection.
        ExchangeError::Reset(_) | ExchangeError::Closed { .. } | ExchangeError::FirstByteTimeout => ResumeCause::Reset,
    }
}
