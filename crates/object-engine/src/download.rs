//! A body on its way to the player. When the way to the store breaks, the same body goes on from another connection:
//! re-signed, from the next byte on, of the same version only. What cannot be continued ends as an error, never as a
//! clean end.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use http::{StatusCode, header};
use tokio::net::TcpStream;

use super::fetch::{StoreReply, StoreRequest, query_rest};
use super::{AttemptStats, ObjectError, ObjectOrigin, ResumeCause};
use http_semantics::etag::ETag;
use http_semantics::range::{ByteRange, ContentRange, RangeSpec};
use upstream::connection::{ExchangeError, ResponseBody, UpstreamResponse};
use upstream::destination::InFlightRequest;

/// Continuations in a row that may bring no byte.
const MAX_IDLE_RESUMES: u32 = 3;

/// A body of an object, or of a part of it.
pub struct ResumableDownload {
    origin: Arc<ObjectOrigin>,
    key: Box<str>,
    etag: Option<ETag>,
    body: ResponseBody,
    in_flight: InFlightRequest,
    /// What the player is owed, by positions in the object; `None`: until the store ends it.
    remaining: Option<Range<u64>>,
    /// Bytes to pass over before the player's first: the store sent more than was asked for.
    skip: u64,
    /// Which of the body's available bytes are the player's.
    window: Range<usize>,
    idle_resumes: u32,
    attempt_stats: AttemptStats,
}

impl ResumableDownload {
    pub(super) fn new(
        origin: Arc<ObjectOrigin>,
        key: &str,
        etag: Option<ETag>,
        body: ResponseBody,
        in_flight: InFlightRequest,
    ) -> Self {
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

    /// Of the bytes `span` of the object (`None`: it is empty), the first `skip` bytes of the body being others.
    pub(super) fn with_range(self, span: Option<ByteRange>, skip: u64) -> Self {
        let owed = span.map_or(0..0, |span| span.first..span.last + 1);
        // An unknown length has no span either: then the store's end is the end.
        let owed = if span.is_none() && self.body.content_length().is_none() { None } else { Some(owed) };
        Self { remaining: owed, skip, ..self }
    }

    /// The same bytes from another connection or destination: what this one sent is not what was asked for.
    pub async fn retry_elsewhere(mut self) -> Result<Self, ObjectError> {
        Box::pin(self.resume(ResumeCause::Mismatch)).await?;
        Ok(self)
    }

    /// Makes the player's next bytes available, about `room` at most; false at the clean end. Where `passing` is set and
    /// none are available then, those that are there are to be had by [`ResumableDownload::splice_to`] only.
    pub async fn fill(&mut self, room: usize, passing: bool) -> Result<bool, ObjectError> {
        self.advance();
        loop {
            let idle = self.origin.timeouts.idle;
            if self.remaining.as_ref().is_some_and(Range::is_empty) {
                self.body.finish();
                return Ok(false);
            }
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
                // Boxed: a body that does not break keeps no room for it.
                Ok(false) => Box::pin(self.resume(ResumeCause::Short)).await?,
                Err(error) => {
                    self.attempt_stats.record_body_failure(&self.origin.cluster, self.in_flight.destination(), &error);
                    Box::pin(self.resume(cause(&error))).await?;
                }
            }
        }
    }

    /// Passes about `room` bytes to the player's socket `to`, and says how many; those that it does not take now are
    /// available then. An error is that of `to`.
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

    /// What the last [`ResumableDownload::fill`] made available.
    pub fn available(&self) -> &[u8] {
        &self.body.available()[self.window.clone()]
    }

    /// What continuing took.
    pub fn attempt_stats(&self) -> AttemptStats {
        self.attempt_stats.clone()
    }

    /// The bytes of the last window have been taken.
    fn advance(&mut self) {
        let taken = self.window.len() as u64;
        if let Some(owed) = &mut self.remaining {
            owed.start += taken;
        }
        self.window = 0..0;
    }

    /// Finds the player's bytes among those available; false when all of them are to be passed over.
    fn open_window(&mut self) -> bool {
        let there = self.body.available().len();
        let skipped = usize::try_from(self.skip).map_or(there, |skip| skip.min(there));
        self.skip -= skipped as u64;
        let left = self.remaining.as_ref().map_or(u64::MAX, |owed| owed.end - owed.start);
        let end = usize::try_from(left).map_or(there, |left| there.min(skipped.saturating_add(left)));
        self.window = skipped..end.max(skipped);
        !self.window.is_empty()
    }

    /// Asks for the rest of the same version and goes on from there. A destination that sends something else as the rest
    /// has broken off too.
    async fn resume(&mut self, mut cause: ResumeCause) -> Result<(), ObjectError> {
        self.in_flight.broke_off(Instant::now());
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
                    self.skip = 0;
                    return Ok(());
                }
                StoreReply::Object(_, in_flight) => {
                    self.in_flight = in_flight;
                    self.in_flight.broke_off(Instant::now());
                    cause = ResumeCause::Mismatch;
                }
                StoreReply::PreconditionFailed | StoreReply::RangeNotSatisfiable(_) => {
                    return Err(ObjectError::Changed);
                }
            }
        }
    }
}

/// Only exactly the bytes asked for, of exactly that version.
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
        ExchangeError::Reset(_) | ExchangeError::Closed { .. } | ExchangeError::FirstByteTimeout => ResumeCause::Reset,
    }
}
