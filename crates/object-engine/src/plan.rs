//! From a player's request to the question for the store and the answer's status and headers. RFC 9110 §13 and §14 are
//! decided here, because stores do not keep to them: MinIO ignores If-Range and lists of entity tags, and its 416 names
//! no size.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};

use super::facts::{Facts, content_length};
use super::fetch::{Question, Reply, ask};
use super::{Answer, Body, Download, Failure, Origin, Tally, cache};
use http_semantics::conditional::{Conditions, IfRange, Verdict};
use http_semantics::etag::ETag;
use http_semantics::range::{self, ContentRange, RangeSpec, Span};
use upstream::connection::{self, Response};
use upstream::destination::InFlight;

/// Versions of an object that may follow each other while one request is answered before we give up.
const MAX_CHANGES: u32 = 3;
/// Further tries after the store sent another part than the one asked for.
const MAX_WRONG_PARTS: u32 = 1;

/// Answers `plan` for the object `key`, through the cache where the route has one.
pub async fn answer(origin: &Arc<Origin>, plan: &Plan, key: &str, tally: &mut Tally) -> Result<Answer, Failure> {
    match &origin.cache {
        Some(cached) => cache::answer(cached, origin, plan, key, tally).await,
        None => past_the_cache(origin, plan, key, tally).await,
    }
}

/// Answers from the store.
pub(super) async fn past_the_cache(
    origin: &Arc<Origin>,
    plan: &Plan,
    key: &str,
    tally: &mut Tally,
) -> Result<Answer, Failure> {
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
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) head: bool,
    pub(super) conditions: Conditions,
    pub(super) range: Option<RangeSpec>,
    room: usize,
}

/// What follows from a plan for an object that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// 304.
    NotModified,
    /// 200; the body where one is wanted.
    Whole,
    /// 206.
    Part(Span),
}

impl Plan {
    /// Reads a GET or HEAD; HEAD ignores Range (§14.2). `room`: bytes that the player takes at once.
    pub fn read(method: &Method, headers: &HeaderMap, room: usize) -> Self {
        let head = method == Method::HEAD;
        let range = if head { None } else { range::from_headers(headers) };
        Self { head, conditions: Conditions::from_headers(headers), range, room }
    }

    /// Weighs the plan against the object as it is now, in the order of §13.2.2.
    pub(super) fn decide(&self, facts: &Facts) -> Result<Decision, Failure> {
        match facts.weigh(&self.conditions) {
            Verdict::Proceed => {}
            Verdict::NotModified => return Ok(Decision::NotModified),
            Verdict::PreconditionFailed => return Err(Failure::PreconditionFailed),
        }
        match (self.range, facts.size) {
            (Some(spec), Some(size)) if facts.takes_range(&self.conditions) => {
                spec.resolve(size).map(Decision::Part).map_err(|_| Failure::RangeNotSatisfiable { size })
            }
            _ => Ok(Decision::Whole),
        }
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
        let facts = of_head(response);
        let decision = plan.decide(&facts)?;
        return Ok(done(facts.answer(origin, key, decision, None)));
    }
    let mut known = None;
    if !plan.conditions.is_empty() {
        let (response, _) = stat(origin, key, tally).await?;
        let facts = Facts::of(response.headers, None);
        match facts.weigh(&plan.conditions) {
            Verdict::Proceed => known = facts.etag,
            Verdict::NotModified => return Ok(done(facts.answer(origin, key, Decision::NotModified, None))),
            Verdict::PreconditionFailed => return Err(Failure::PreconditionFailed),
        }
    }
    get(origin, key, plan, known, tally).await
}

/// What the answer to a HEAD says.
pub(super) fn of_head(response: Response) -> Facts {
    let size = content_length(&response.headers);
    Facts::of(response.headers, size)
}

/// The object's headers, by HEAD.
pub(super) async fn stat(origin: &Origin, key: &str, tally: &mut Tally) -> Result<(Response, InFlight), Failure> {
    match ask(origin, &Question { head: true, key, range: None, if_match: None, room: 0 }, tally).await? {
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
    let Some(spec) = range else { return whole(origin, key, known.as_ref(), plan.room, tally).await };
    let value = spec.to_header();
    let question =
        Question { head: false, key, range: Some(&value), if_match: only.or(known.as_ref()), room: plan.room };
    let (response, in_flight) = match ask(origin, &question, tally).await? {
        Reply::Object(response, in_flight) => (*response, in_flight),
        Reply::PreconditionFailed if only.is_some() => {
            return whole(origin, key, known.as_ref(), plan.room, tally).await;
        }
        Reply::PreconditionFailed => return Ok(Outcome::Changed),
        Reply::RangeNotSatisfiable(size) => {
            // Past the end of this version; the player may mean an older, longer one (§13.1.5 comes before §14.2).
            if plan.conditions.if_range().is_some() {
                let (now, _) = stat(origin, key, tally).await?;
                let now = Facts::of(now.headers, None);
                if !now.takes_range(&plan.conditions) {
                    return whole(origin, key, known.as_ref(), plan.room, tally).await;
                }
            }
            return Box::pin(refuse_range(origin, key, plan, size, tally)).await;
        }
    };
    let sent = response.headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
    let facts = Facts::of(response.headers, None);
    if !facts.takes_range(&plan.conditions) {
        return whole(origin, key, known.as_ref(), plan.room, tally).await;
    }
    if known.as_ref().is_some_and(|known| !facts.is_of(known)) {
        return Ok(Outcome::Changed);
    }
    let sent =
        Sent { part: response.status == StatusCode::PARTIAL_CONTENT, range: sent, body: response.body, in_flight };
    ranged(origin, key, (plan, spec), facts, sent, tally).await
}

/// The whole object as 200.
async fn whole(
    origin: &Arc<Origin>,
    key: &str,
    known: Option<&ETag>,
    room: usize,
    tally: &mut Tally,
) -> Result<Outcome, Failure> {
    let question = Question { head: false, key, range: None, if_match: known, room };
    let (response, in_flight) = match ask(origin, &question, tally).await? {
        Reply::Object(response, in_flight) => (*response, in_flight),
        Reply::PreconditionFailed => return Ok(Outcome::Changed),
        Reply::RangeNotSatisfiable(_) => return Err(Failure::Nonsense("416 to a request without a range")),
    };
    let size = response.body.announced();
    let facts = Facts::of(response.headers, size);
    if known.is_some_and(|known| !facts.is_of(known)) {
        return Ok(Outcome::Changed);
    }
    let span = size.filter(|size| *size > 0).map(|size| Span { first: 0, last: size - 1 });
    let body = Download::new(Arc::clone(origin), key, facts.etag.clone(), response.body, in_flight);
    Ok(done(facts.answer(origin, key, Decision::Whole, Some(Body::Direct(body.of(span, 0))))))
}

/// What the store sent for a range.
struct Sent {
    /// Whether it says that it is a part.
    part: bool,
    /// Which one.
    range: Option<ContentRange>,
    body: connection::Body,
    in_flight: InFlight,
}

/// The answer to a range, from a 206 or from a 200 that the store sent instead.
async fn ranged(
    origin: &Arc<Origin>,
    key: &str,
    (plan, spec): (&Plan, RangeSpec),
    mut facts: Facts,
    sent: Sent,
    tally: &mut Tally,
) -> Result<Outcome, Failure> {
    let etag = facts.etag.clone();
    let announced = sent.body.announced();
    let (span, size, skip) = if sent.part {
        let Some(ContentRange { span, total: Some(size) }) = sent.range else {
            // MinIO answers a suffix of an empty object with "bytes 0--1/0".
            return Box::pin(refuse_range(origin, key, plan, None, tally)).await;
        };
        let as_asked = spec.resolve(size).is_ok_and(|asked| asked == span);
        if !as_asked || announced.is_some_and(|length| length != span.len()) {
            return Ok(Outcome::WrongPart);
        }
        (span, size, 0)
    } else {
        let Some(size) = announced else {
            // Neither a range nor a size: all that can be said is the whole object.
            let body = Download::new(Arc::clone(origin), key, etag, sent.body, sent.in_flight);
            return Ok(done(facts.answer(origin, key, Decision::Whole, Some(Body::Direct(body)))));
        };
        let span = spec.resolve(size).map_err(|_| Failure::RangeNotSatisfiable { size })?;
        (span, size, span.first)
    };
    facts.size = Some(size);
    let body = Download::new(Arc::clone(origin), key, etag, sent.body, sent.in_flight).of(Some(span), skip);
    Ok(done(facts.answer(origin, key, Decision::Part(span), Some(Body::Direct(body)))))
}

/// 416 with the object's size, which a HEAD tells where the store's refusal did not. rclone refuses a suffix that is longer
/// than the object, which is all of it (RFC 9110 §14.1.2): that is asked for by its positions.
async fn refuse_range(
    origin: &Arc<Origin>,
    key: &str,
    plan: &Plan,
    size: Option<u64>,
    tally: &mut Tally,
) -> Result<Outcome, Failure> {
    let spec = plan.range.ok_or(Failure::Nonsense("416 to a request without a range"))?;
    let is_suffix = matches!(spec, RangeSpec::Suffix { .. });
    let (size, known) = match size.filter(|_| !is_suffix) {
        Some(size) => (size, None),
        None => {
            let (response, _) = stat(origin, key, tally).await?;
            let size = content_length(&response.headers).ok_or(Failure::Nonsense("HEAD without a length"))?;
            (size, Facts::of(response.headers, None).etag)
        }
    };
    match spec.resolve(size) {
        Err(_) => Err(Failure::RangeNotSatisfiable { size }),
        Ok(Span { first, last }) if is_suffix => {
            let range = Some(RangeSpec::From { first, last: Some(last) });
            get(origin, key, &Plan { range, ..plan.clone() }, known, tally).await
        }
        Ok(_) => Err(Failure::Nonsense("a range refused that the object has")),
    }
}
