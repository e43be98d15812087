//! Plan of a response: from a client's request to the requests to the store, and to the status and headers of the
//! response. RFC 9110 §13 and §14 are decided here, because stores do not follow them: MinIO ignores `If-Range` and
//! lists of entity tags, and its 416 does not say the size.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};

use super::fetch::{StoreReply, StoreRequest, query_store};
use super::object_metadata::{ObjectMetadata, content_length};
use super::traced;
use super::{AttemptStats, ObjectBody, ObjectError, ObjectOrigin, ObjectResponse, ResumableDownload};
use http_semantics::conditional::{IfRange, PreconditionOutcome, Preconditions};
use http_semantics::etag::ETag;
use http_semantics::range::{self, ByteRange, ContentRange, RangeSpec};
use upstream::connection::{self, UpstreamResponse};
use upstream::destination::InFlightRequest;

/// Most versions of an object that may follow each other while one request is answered.
const MAX_CHANGES: u32 = 3;
/// Further attempts after the store sent another part than the one that was requested.
const MAX_WRONG_PARTS: u32 = 1;
/// Last byte position that a store is asked for. Many stores read positions as signed 64-bit numbers and ignore a range
/// with a larger one: they would send the whole object.
pub(super) const MAX_POSITION: u64 = i64::MAX as u64;

/// Answers `plan` from the store. Fails with `Changed` or `InvalidResponse` once no attempt is left.
pub(super) async fn serve_from_store(
    origin: &Arc<ObjectOrigin>,
    plan: &RequestPlan,
    key: &str,
    tally: &mut AttemptStats,
) -> Result<ObjectResponse, ObjectError> {
    let (mut changes, mut wrong_parts) = (0, 0);
    loop {
        match attempt(origin, key, plan, tally).await? {
            AttemptOutcome::Response(answer) => return Ok(traced::with_traced_body(*answer, &tally.trace)),
            AttemptOutcome::Changed => {
                changes += 1;
                if changes == MAX_CHANGES {
                    return Err(ObjectError::Changed);
                }
            }
            AttemptOutcome::WrongPart => {
                wrong_parts += 1;
                if wrong_parts > MAX_WRONG_PARTS {
                    return Err(ObjectError::InvalidResponse("206 with another range than the one asked for"));
                }
            }
        }
        // Within this loop only: `query_store` counts its own retries.
        tally.retries += 1;
    }
}

/// Request of a client, as far as it decides the response.
#[derive(Clone, Debug)]
pub struct RequestPlan {
    pub(super) head: bool,
    pub(super) conditions: Preconditions,
    pub(super) range: Option<RangeSpec>,
    /// Bytes that the client takes at once.
    room: usize,
}

/// Response that a plan leads to for a known object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseDecision {
    /// Responds with 304.
    NotModified,
    /// Responds with 200, and with the body unless the request is a HEAD.
    Whole,
    /// Responds with 206 and these bytes.
    Part(ByteRange),
}

impl RequestPlan {
    /// Reads the plan from a GET or HEAD. HEAD ignores `Range` (RFC 9110 §14.2). `room` is the number of bytes that the
    /// client takes at once.
    pub fn from_request(method: &Method, headers: &HeaderMap, room: usize) -> Self {
        let head = method == Method::HEAD;
        let range = if head { None } else { range::from_headers(headers) };
        Self { head, conditions: Preconditions::from_headers(headers), range, room }
    }

    /// Decides the response for the object `facts`, preconditions first and in the order of RFC 9110 §13.2.2. Fails
    /// with `PreconditionFailed` or `RangeNotSatisfiable`.
    pub(super) fn decide(&self, facts: &ObjectMetadata) -> Result<ResponseDecision, ObjectError> {
        match facts.evaluate(&self.conditions) {
            PreconditionOutcome::Proceed => {}
            PreconditionOutcome::NotModified => return Ok(ResponseDecision::NotModified),
            PreconditionOutcome::PreconditionFailed => return Err(ObjectError::PreconditionFailed),
        }
        // Without a size no range can be resolved: the whole object is always a valid answer (RFC 9110 §14.2).
        match (self.range, facts.size) {
            (Some(spec), Some(size)) if facts.range_applies(&self.conditions) => {
                spec.resolve(size).map(ResponseDecision::Part).map_err(|_| ObjectError::RangeNotSatisfiable { size })
            }
            _ => Ok(ResponseDecision::Whole),
        }
    }
}

enum AttemptOutcome {
    Response(Box<ObjectResponse>),
    /// The object was overwritten between two requests to the store: begin anew.
    Changed,
    /// The store sent another part than the one that was requested: ask once more.
    WrongPart,
}

fn finished(answer: ObjectResponse) -> AttemptOutcome {
    AttemptOutcome::Response(Box::new(answer))
}

async fn attempt(
    origin: &Arc<ObjectOrigin>,
    key: &str,
    plan: &RequestPlan,
    tally: &mut AttemptStats,
) -> Result<AttemptOutcome, ObjectError> {
    if plan.head {
        let (response, _) = head_object(origin, key, tally).await?;
        let facts = metadata_of_head(response);
        let decision = plan.decide(&facts)?;
        return Ok(finished(facts.into_response(origin, key, decision, None)));
    }
    let mut known = None;
    // Stores evaluate conditions in their own ways. So we decide on the headers of a HEAD, then GET exactly that
    // version.
    if !plan.conditions.is_empty() {
        let (response, _) = head_object(origin, key, tally).await?;
        let facts = ObjectMetadata::from_headers(response.headers, None);
        match facts.evaluate(&plan.conditions) {
            PreconditionOutcome::Proceed => known = facts.etag,
            PreconditionOutcome::NotModified => {
                return Ok(finished(facts.into_response(origin, key, ResponseDecision::NotModified, None)));
            }
            PreconditionOutcome::PreconditionFailed => return Err(ObjectError::PreconditionFailed),
        }
    }
    get_object(origin, key, plan, known, tally).await
}

/// Returns the metadata in the response to a HEAD, with its `Content-Length` as the size.
pub(super) fn metadata_of_head(response: UpstreamResponse) -> ObjectMetadata {
    let size = content_length(&response.headers);
    ObjectMetadata::from_headers(response.headers, size)
}

/// Requests the object's headers by HEAD. Fails as `query_store` does.
pub(super) async fn head_object(
    origin: &ObjectOrigin,
    key: &str,
    tally: &mut AttemptStats,
) -> Result<(UpstreamResponse, InFlightRequest), ObjectError> {
    match query_store(origin, &StoreRequest { head: true, key, range: None, if_match: None, room: 0 }, tally).await? {
        StoreReply::Object(response, in_flight) => Ok((*response, in_flight)),
        StoreReply::PreconditionFailed | StoreReply::RangeNotSatisfiable(_) => {
            Err(ObjectError::InvalidResponse("a refusal of a condition that was not sent"))
        }
    }
}

/// Requests the object by GET: the version `known` only, if the preconditions were decided on it.
async fn get_object(
    origin: &Arc<ObjectOrigin>,
    key: &str,
    plan: &RequestPlan,
    known: Option<ETag>,
    tally: &mut AttemptStats,
) -> Result<AttemptOutcome, ObjectError> {
    // `If-Match` compares strongly (RFC 9110 §13.1.1): a weak tag would never match.
    let known = known.filter(ETag::is_strong);
    // A strong tag of `If-Range` is sent as `If-Match`; 412 then means that the whole object is wanted (RFC 9110
    // §13.1.5).
    let (range, only) = match plan.conditions.if_range() {
        None => (plan.range, None),
        Some(IfRange::Tag(tag)) if tag.is_strong() => (plan.range, plan.range.and(Some(tag))),
        // A date is checked against the response below: the range may turn out not to apply.
        Some(IfRange::Date(_)) => (plan.range, None),
        // A weak tag never holds (RFC 9110 §13.1.5), so the range is ignored.
        Some(IfRange::Tag(_) | IfRange::Invalid) => (None, None),
    };
    let Some(spec) = range else { return get_whole_object(origin, key, known.as_ref(), plan.room, tally).await };
    let reply = match askable_range(spec) {
        // No object has such bytes, so the store need not be asked.
        None => StoreReply::RangeNotSatisfiable(None),
        Some(askable) => {
            let (value, if_match) = (askable.to_header(), only.or(known.as_ref()));
            let question = StoreRequest { head: false, key, range: Some(&value), if_match, room: plan.room };
            query_store(origin, &question, tally).await?
        }
    };
    let (response, in_flight) = match reply {
        StoreReply::Object(response, in_flight) => (*response, in_flight),
        StoreReply::PreconditionFailed if only.is_some() => {
            return get_whole_object(origin, key, known.as_ref(), plan.room, tally).await;
        }
        StoreReply::PreconditionFailed => return Ok(AttemptOutcome::Changed),
        StoreReply::RangeNotSatisfiable(size) => {
            // Past the end of this version. The client may mean an older, longer one: `If-Range` comes before `Range`
            // (RFC 9110 §13.2.2).
            if plan.conditions.if_range().is_some() {
                let (now, _) = head_object(origin, key, tally).await?;
                let now = ObjectMetadata::from_headers(now.headers, None);
                if !now.range_applies(&plan.conditions) {
                    return get_whole_object(origin, key, known.as_ref(), plan.room, tally).await;
                }
            }
            // Boxed, as `refuse_range` may call this function again.
            return Box::pin(refuse_range(origin, key, plan, size, tally)).await;
        }
    };
    let sent = response.headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
    let facts = ObjectMetadata::from_headers(response.headers, None);
    if !facts.range_applies(&plan.conditions) {
        return get_whole_object(origin, key, known.as_ref(), plan.room, tally).await;
    }
    // A store that ignores `If-Match` sends the new version.
    if known.as_ref().is_some_and(|known| !facts.is_version(known)) {
        return Ok(AttemptOutcome::Changed);
    }
    let sent = RangeReply {
        part: response.status == StatusCode::PARTIAL_CONTENT,
        range: sent,
        body: response.body,
        in_flight,
    };
    respond_with_range(origin, key, (plan, spec), facts, sent, tally).await
}

/// Returns the same range without positions that stores cannot read; `None` where no object has such bytes.
fn askable_range(spec: RangeSpec) -> Option<RangeSpec> {
    match spec {
        RangeSpec::From { first, last } => {
            (first <= MAX_POSITION).then(|| RangeSpec::From { first, last: last.filter(|last| *last <= MAX_POSITION) })
        }
        RangeSpec::Suffix { length } => Some(RangeSpec::Suffix { length: length.min(MAX_POSITION) }),
    }
}

/// Requests the whole object, of the version `known` where given, and answers with 200.
async fn get_whole_object(
    origin: &Arc<ObjectOrigin>,
    key: &str,
    known: Option<&ETag>,
    room: usize,
    tally: &mut AttemptStats,
) -> Result<AttemptOutcome, ObjectError> {
    let question = StoreRequest { head: false, key, range: None, if_match: known, room };
    let (response, in_flight) = match query_store(origin, &question, tally).await? {
        StoreReply::Object(response, in_flight) => (*response, in_flight),
        StoreReply::PreconditionFailed => return Ok(AttemptOutcome::Changed),
        StoreReply::RangeNotSatisfiable(_) => {
            return Err(ObjectError::InvalidResponse("416 to a request without a range"));
        }
    };
    let size = response.body.content_length();
    let facts = ObjectMetadata::from_headers(response.headers, size);
    if known.is_some_and(|known| !facts.is_version(known)) {
        return Ok(AttemptOutcome::Changed);
    }
    // An empty object has no last byte, so no range describes it.
    let span = size.filter(|size| *size > 0).map(|size| ByteRange { first: 0, last: size - 1 });
    let body = ResumableDownload::new(Arc::clone(origin), key, facts.etag.clone(), response.body, in_flight);
    Ok(finished(facts.into_response(
        origin,
        key,
        ResponseDecision::Whole,
        Some(ObjectBody::Direct(body.with_range(span, 0))),
    )))
}

/// Response of the store to a range request.
struct RangeReply {
    /// True if the status is 206.
    part: bool,
    /// Value of `Content-Range`.
    range: Option<ContentRange>,
    body: connection::ResponseBody,
    in_flight: InFlightRequest,
}

/// Answers a range request from a 206, or from a 200 that the store sent instead.
async fn respond_with_range(
    origin: &Arc<ObjectOrigin>,
    key: &str,
    (plan, spec): (&RequestPlan, RangeSpec),
    mut facts: ObjectMetadata,
    sent: RangeReply,
    tally: &mut AttemptStats,
) -> Result<AttemptOutcome, ObjectError> {
    let etag = facts.etag.clone();
    let announced = sent.body.content_length();
    let (span, size, skip) = if sent.part {
        let Some(ContentRange { span, total: Some(size) }) = sent.range else {
            // MinIO answers a suffix of an empty object with "bytes 0--1/0".
            return Box::pin(refuse_range(origin, key, plan, None, tally)).await;
        };
        // The client gets 206 only for exactly its bytes. Anything else could be written to the wrong place of a file.
        let as_asked = spec.resolve(size).is_ok_and(|asked| asked == span);
        if !as_asked || announced.is_some_and(|length| length != span.len()) {
            return Ok(AttemptOutcome::WrongPart);
        }
        (span, size, 0)
    } else {
        let Some(size) = announced else {
            // Neither a range nor a size: all that can be said is the whole object.
            let body = ResumableDownload::new(Arc::clone(origin), key, etag, sent.body, sent.in_flight);
            return Ok(finished(facts.into_response(
                origin,
                key,
                ResponseDecision::Whole,
                Some(ObjectBody::Direct(body)),
            )));
        };
        let span = spec.resolve(size).map_err(|_| ObjectError::RangeNotSatisfiable { size })?;
        // A 200 to a range request has the whole object: the bytes before the range are read and dropped.
        (span, size, span.first)
    };
    facts.size = Some(size);
    let body =
        ResumableDownload::new(Arc::clone(origin), key, etag, sent.body, sent.in_flight).with_range(Some(span), skip);
    Ok(finished(facts.into_response(origin, key, ResponseDecision::Part(span), Some(ObjectBody::Direct(body)))))
}

/// Answers with 416 and the object's size, from a HEAD where the refusal did not say it. rclone refuses a suffix longer
/// than the object, which by RFC 9110 §14.1.2 means all of it: such a suffix is requested by its positions.
async fn refuse_range(
    origin: &Arc<ObjectOrigin>,
    key: &str,
    plan: &RequestPlan,
    size: Option<u64>,
    tally: &mut AttemptStats,
) -> Result<AttemptOutcome, ObjectError> {
    let spec = plan.range.ok_or(ObjectError::InvalidResponse("416 to a request without a range"))?;
    let is_suffix = matches!(spec, RangeSpec::Suffix { .. });
    let (size, known) = match size.filter(|_| !is_suffix) {
        Some(size) => (size, None),
        None => {
            let (response, _) = head_object(origin, key, tally).await?;
            let size =
                content_length(&response.headers).ok_or(ObjectError::InvalidResponse("HEAD without a length"))?;
            (size, ObjectMetadata::from_headers(response.headers, None).etag)
        }
    };
    match spec.resolve(size) {
        Err(_) => Err(ObjectError::RangeNotSatisfiable { size }),
        Ok(ByteRange { first, last }) if is_suffix => {
            let range = Some(RangeSpec::From { first, last: Some(last) });
            get_object(origin, key, &RequestPlan { range, ..plan.clone() }, known, tally).await
        }
        Ok(_) => Err(ObjectError::InvalidResponse("a range refused that the object has")),
    }
}
