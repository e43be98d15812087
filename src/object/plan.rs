//! From a player's request to the question for the store and the answer's status and headers. RFC 9110 §13 and §14 are
//! decided here, because stores do not keep to them: MinIO ignores If-Range and lists of entity tags, and its 416 names
//! no size.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::fetch::{Question, Reply, ask};
use super::{Answer, Download, Failure, Origin, Tally};
use crate::http::conditional::{Conditions, IfRange, Validators, Verdict};
use crate::http::etag::ETag;
use crate::http::headers::store_response_allowed;
use crate::http::media_type;
use crate::http::range::{self, ContentRange, RangeSpec, Span};
use crate::upstream::connection::Response;
use crate::upstream::destination::InFlight;

/// Versions of an object that may follow each other while one request is answered before we give up.
const MAX_CHANGES: u32 = 3;
/// Further tries after the store sent another part than the one asked for.
const MAX_WRONG_PARTS: u32 = 1;

/// Answers `plan` for the object `key`.
pub async fn answer(origin: &Arc<Origin>, plan: &Plan, key: &str, tally: &mut Tally) -> Result<Answer, Failure> {
    let (mut changes, mut wrong_parts) = (0, 0);
    loop {
        match attempt(origin, key, plan, tally).await? {
            Outcome::Answer(answer) => return Ok(*answer),
            Outcome::Changed => {
                changes += 1;
                if changes == MAX_CHANGES {
                    return Err(Failure::Changed);
                }
            }
            Outcome::WrongPart => {
                wrong_parts += 1;
                if wrong_parts > MAX_WRONG_PARTS {
                    return Err(Failure::Nonsense("206 with another range than the one asked for"));
                }
            }
        }
        tally.retries += 1;
    }
}

/// What the player asks for.
pub struct Plan {
    head: bool,
    conditions: Conditions,
    range: Option<RangeSpec>,
}

impl Plan {
    /// Reads a GET or HEAD; HEAD ignores Range (§14.2).
    pub fn read(method: &Method, headers: &HeaderMap) -> Self {
        let head = method == Method::HEAD;
        let range = if head { None } else { range::from_headers(headers) };
        Self { head, conditions: Conditions::from_headers(headers), range }
    }
}

enum Outcome {
    Answer(Box<Answer>),
    /// The object was overwritten between two questions: begin anew.
    Changed,
    /// The store sent another part than the one asked for: ask once more, on another connection.
    WrongPart,
}

fn done(answer: Answer) -> Outcome {
    Outcome::Answer(Box::new(answer))
}

async fn attempt(origin: &Arc<Origin>, key: &str, plan: &Plan, tally: &mut Tally) -> Result<Outcome, Failure> {
    if plan.head {
        let (response, _) = stat(origin, key, tally).await?;
        return match plan.conditions.evaluate(&validators(&response)) {
            Verdict::Proceed => {
                let mut headers = object_headers(origin, key, &response);
                if let Some(length) = content_length(&response.headers) {
                    headers.insert(header::CONTENT_LENGTH, length.into());
                }
                Ok(done(Answer { status: StatusCode::OK, headers, body: None }))
            }
            Verdict::NotModified => Ok(done(not_modified(&response))),
            Verdict::PreconditionFailed => Err(Failure::PreconditionFailed),
        };
    }
    let mut known = None;
    if !plan.conditions.is_empty() {
        let (response, _) = stat(origin, key, tally).await?;
        match plan.conditions.evaluate(&validators(&response)) {
            Verdict::Proceed => known = etag(&response),
            Verdict::NotModified => return Ok(done(not_modified(&response))),
            Verdict::PreconditionFailed => return Err(Failure::PreconditionFailed),
        }
    }
    get(origin, key, plan, known, tally).await
}

/// The object's headers, by HEAD.
async fn stat(origin: &Origin, key: &str, tally: &mut Tally) -> Result<(Response, InFlight), Failure> {
    match ask(origin, &Question { head: true, key, range: None, if_match: None }, tally).await? {
        Reply::Object(response, in_flight) => Ok((*response, in_flight)),
        Reply::PreconditionFailed | Reply::RangeNotSatisfiable(_) => {
            Err(Failure::Nonsense("a refusal of a condition that was not sent"))
        }
    }
}

/// GET, of the version `known` where the conditions were decided on it.
async fn get(
    origin: &Arc<Origin>,
    key: &str,
    plan: &Plan,
    known: Option<ETag>,
    tally: &mut Tally,
) -> Result<Outcome, Failure> {
    let known = known.filter(ETag::is_strong);
    // If-Range with a strong tag goes to the store as If-Match: 412 then means "send it all" (§13.1.5).
    let (range, only) = match plan.conditions.if_range() {
        None => (plan.range, None),
        Some(IfRange::Tag(tag)) if tag.is_strong() => (plan.range, plan.range.and(Some(tag))),
        Some(IfRange::Date(_)) => (plan.range, None),
        Some(IfRange::Tag(_) | IfRange::Invalid) => (None, None),
    };
    let Some(spec) = range else { return whole(origin, key, known.as_ref(), tally).await };
    let value = spec.to_header();
    let question = Question { head: false, key, range: Some(&value), if_match: only.or(known.as_ref()) };
    let (response, in_flight) = match ask(origin, &question, tally).await? {
        Reply::Object(response, in_flight) => (*response, in_flight),
        Reply::PreconditionFailed if only.is_some() => return whole(origin, key, known.as_ref(), tally).await,
        Reply::PreconditionFailed => return Ok(Outcome::Changed),
        Reply::RangeNotSatisfiable(size) => return refuse_range(origin, key, spec, size, tally).await,
    };
    let validators = validators(&response);
    if !plan.conditions.if_range_holds(&validators, date(&response.headers)) {
        return whole(origin, key, known.as_ref(), tally).await;
    }
    if known.as_ref().is_some_and(|known| !same_version(known, &validators)) {
        return Ok(Outcome::Changed);
    }
    ranged(origin, key, spec, response, in_flight, tally).await
}

/// The whole object as 200.
async fn whole(
    origin: &Arc<Origin>,
    key: &str,
    known: Option<&ETag>,
    tally: &mut Tally,
) -> Result<Outcome, Failure> {
    let question = Question { head: false, key, range: None, if_match: known };
    let (response, in_flight) = match ask(origin, &question, tally).await? {
        Reply::Object(response, in_flight) => (*response, in_flight),
        Reply::PreconditionFailed => return Ok(Outcome::Changed),
        Reply::RangeNotSatisfiable(_) => return Err(Failure::Nonsense("416 to a request without a range")),
    };
    if known.is_some_and(|known| !same_version(known, &validators(&response))) {
        return Ok(Outcome::Changed);
    }
    let size = response.body.announced();
    let mut headers = object_headers(origin, key, &response);
    if let Some(size) = size {
        headers.insert(header::CONTENT_LENGTH, size.into());
    }
    let span = size.filter(|size| *size > 0).map(|size| Span { first: 0, last: size - 1 });
    let etag = etag(&response);
    let body = Download::new(Arc::clone(origin), key, etag, response.body, in_flight).of(span, 0);
    Ok(done(Answer { status: StatusCode::OK, headers, body: Some(body) }))
}

/// The answer to a range, from a 206 or from a 200 that the store sent instead.
async fn ranged(
    origin: &Arc<Origin>,
    key: &str,
    spec: RangeSpec,
    response: Response,
    in_flight: InFlight,
    tally: &mut Tally,
) -> Result<Outcome, Failure> {
    let (span, size, skip) = if response.status == StatusCode::PARTIAL_CONTENT {
        let sent = response.headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
        let Some(ContentRange { span, total: Some(size) }) = sent else {
            // MinIO answers a suffix of an empty object with "bytes 0--1/0".
            return refuse_range(origin, key, spec, None, tally).await;
        };
        let announced = response.body.announced();
        let as_asked = spec.resolve(size).is_ok_and(|asked| asked == span);
        if !as_asked || announced.is_some_and(|length| length != span.len()) {
            return Ok(Outcome::WrongPart);
        }
        (span, size, 0)
    } else {
        let Some(size) = response.body.announced() else {
            // Neither a range nor a size: all that can be said is the whole object.
            let headers = object_headers(origin, key, &response);
            let etag = etag(&response);
            let body = Download::new(Arc::clone(origin), key, etag, response.body, in_flight);
            return Ok(done(Answer { status: StatusCode::OK, headers, body: Some(body) }));
        };
        let span = spec.resolve(size).map_err(|_| Failure::RangeNotSatisfiable { size })?;
        (span, size, span.first)
    };
    let mut headers = object_headers(origin, key, &response);
    headers.insert(header::CONTENT_LENGTH, span.len().into());
    headers.insert(header::CONTENT_RANGE, ContentRange { span, total: Some(size) }.to_header());
    let etag = etag(&response);
    let body = Download::new(Arc::clone(origin), key, etag, response.body, in_flight).of(Some(span), skip);
    Ok(done(Answer { status: StatusCode::PARTIAL_CONTENT, headers, body: Some(body) }))
}

/// 416 with the object's size, which a HEAD tells where the store's refusal did not.
async fn refuse_range(
    origin: &Origin,
    key: &str,
    spec: RangeSpec,
    size: Option<u64>,
    tally: &mut Tally,
) -> Result<Outcome, Failure> {
    let size = match size {
        Some(size) => size,
        None => {
            let (response, _) = stat(origin, key, tally).await?;
            content_length(&response.headers).ok_or(Failure::Nonsense("HEAD without a length"))?
        }
    };
    match spec.resolve(size) {
        Err(_) => Err(Failure::RangeNotSatisfiable { size }),
        Ok(_) => Err(Failure::Nonsense("a range refused that the object has")),
    }
}

/// What of the store's headers the player sees, with ours.
fn object_headers(origin: &Origin, key: &str, response: &Response) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    for (name, value) in &response.headers {
        if store_response_allowed(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(value) = content_type(origin, key, &response.headers) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers
}

/// The route's type, else the store's, else by the key's ending; a store's "octet-stream" says that it does not know.
fn content_type(origin: &Origin, key: &str, headers: &HeaderMap) -> Option<HeaderValue> {
    if let Some(fixed) = &origin.content_type {
        return Some(fixed.clone());
    }
    let stored = headers.get(header::CONTENT_TYPE);
    let vague = |value: &&HeaderValue| matches!(value.as_bytes(), b"application/octet-stream" | b"binary/octet-stream");
    let ending = || media_type::by_ending(key).map(HeaderValue::from_static);
    match stored {
        Some(value) if !vague(&value) && !value.is_empty() => Some(value.clone()),
        Some(value) if !value.is_empty() => Some(ending().unwrap_or_else(|| value.clone())),
        _ => Some(ending().unwrap_or(HeaderValue::from_static("application/octet-stream"))),
    }
}

/// 304 with what a 200 would say of caching (§15.4.5).
fn not_modified(response: &Response) -> Answer {
    let mut headers = HeaderMap::new();
    let kept =
        [header::ETAG, header::CACHE_CONTROL, header::CONTENT_LOCATION, header::EXPIRES, header::VARY, header::LAST_MODIFIED];
    for name in kept.iter().filter(|name| store_response_allowed(name)) {
        if let Some(value) = response.headers.get(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
    Answer { status: StatusCode::NOT_MODIFIED, headers, body: None }
}

fn validators(response: &Response) -> Validators {
    let last_modified = response.headers.get(header::LAST_MODIFIED).and_then(http_date);
    Validators { etag: etag(response), last_modified }
}

fn etag(response: &Response) -> Option<ETag> {
    response.headers.get(header::ETAG).and_then(|value| ETag::parse(value.as_bytes()))
}

fn same_version(known: &ETag, now: &Validators) -> bool {
    now.etag.as_ref().is_some_and(|etag| etag.strong_eq(known))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    headers.get(header::DATE).and_then(http_date)
}

fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
