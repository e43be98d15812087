//! One question to the store, asked until it is answered: signs, connects, classifies refusals, tries again where that
//! can help. Only GET and HEAD, and only before a byte went to the player, so that trying again is always safe.

mod tries;

use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};

pub(super) use self::tries::refused_for_good;
use self::tries::{Setback, Tries, Trouble};
use super::{Failure, Origin, Tally};
use http_semantics::etag::ETag;
use http_semantics::headers::STORE_RESPONSE;
use http_semantics::range::ContentRange;
use s3::error_body::{MAX_ERROR_BODY, StoreError, classify};
use s3::is_key;
use s3::signer::Signature;
use s3::url_cache::{Object, SignedRequest};
use upstream::breaker::Fault;
use upstream::cluster::Member;
use upstream::connection::Response;
use upstream::destination::InFlight;

/// How long the rest of a refusal may take to arrive.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A question to the store.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// HEAD instead of GET.
    pub head: bool,
    /// The key, decoded.
    pub key: &'a str,
    /// The `Range` to send.
    pub range: Option<&'a HeaderValue>,
    /// Only this version of the object.
    pub if_match: Option<&'a ETag>,
    /// Bytes of the body that are read with the head where they are there.
    pub room: usize,
}

/// An answer that the engine can work with.
pub enum Reply {
    /// 200 or 206.
    Object(Box<Response>, InFlight),
    /// The object is not the version asked for.
    PreconditionFailed,
    /// The range begins past the end; the size where the store says it.
    RangeNotSatisfiable(Option<u64>),
}

/// Asks until there is an answer or no try is left. A key that no object can have costs no question.
pub async fn ask(origin: &Origin, question: &Question<'_>, tally: &mut Tally) -> Result<Reply, Failure> {
    if !is_key(question.key) {
        return Err(Failure::NotFound);
    }
    origin.cluster.budget().request(Instant::now());
    let outcome = ask_store(origin, question, tally, Tries::default()).await;
    origin.health.learn(outcome.as_ref().err());
    outcome
}

/// As [`ask`], for the rest of a body that broke off at `broken`: another destination first, and not within the retry
/// budget but for as long as a body may stand still, so that a store that restarts cuts nobody.
pub async fn ask_rest(
    origin: &Origin,
    question: &Question<'_>,
    broken: &InFlight,
    tally: &mut Tally,
) -> Result<Reply, Failure> {
    let tries = Tries::until(Instant::now() + origin.timeouts.idle, broken.destination());
    let outcome = ask_store(origin, question, tally, tries).await;
    origin.health.learn(outcome.as_ref().err());
    outcome
}

async fn ask_store(
    origin: &Origin,
    question: &Question<'_>,
    tally: &mut Tally,
    mut tries: Tries,
) -> Result<Reply, Failure> {
    let request = origin.cluster.identify(&(&origin.bucket, question.key));
    let mut failure = Failure::Unavailable;
    loop {
        let setback = match origin.cluster.pick(request, &tries.tried, Instant::now()) {
            // The one that failed last may be the reason, and says more.
            None => tries.again(1, 0, Duration::ZERO, failure),
            Some((member, in_flight)) => match attempt(origin, question, member, in_flight, &mut tries, tally).await {
                Ok(reply) => return Ok(reply),
                Err(setback) => setback,
            },
        };
        failure = setback.failure;
        let wait = tries.wait(origin, setback.next).ok_or(failure)?;
        tally.retries += 1;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

async fn attempt(
    origin: &Origin,
    question: &Question<'_>,
    member: &Member,
    in_flight: InFlight,
    tries: &mut Tries,
    tally: &mut Tally,
) -> Result<Reply, Setback> {
    let first_byte = HeaderValue::from_static("bytes=0-0");
    let by_get = Question { head: false, range: Some(&first_byte), ..*question };
    let (question, asked) = if tries.head_by_get { (&by_get, question) } else { (question, question) };
    let object = Object { head: question.head, bucket: &origin.bucket, key: question.key };
    let signed = origin.signer.sign(&object).map_err(Failure::Unsignable)?;
    tally.tries(&origin.cluster, member);
    match once(origin, question, member, in_flight, &signed.request, tries.fresh_connection).await {
        Err(trouble) => {
            // A kept connection that had been closed for idleness is nobody's failure.
            if trouble.fault().is_some() {
                tally.failed(&origin.cluster, member, trouble.error());
            }
            Err(tries.after_trouble(origin, &trouble, member))
        }
        Ok((response, in_flight)) => match judge(origin, question, &object, &signed, response, in_flight).await {
            Err(nonsense) => Err(tries.after_nonsense(origin, nonsense, member)),
            Ok(Judged::Reply(reply)) => {
                tries.accepted();
                if asked.head && !question.head { as_to_head(origin, reply).map_err(Setback::from) } else { Ok(reply) }
            }
            Ok(Judged::Refused(error)) => {
                if matches!(error, StoreError::Broken | StoreError::Throttled { .. }) {
                    tries.failed_at(origin, member);
                }
                Err(tries.after_refusal(origin, &object, &signed, error, tally).await)
            }
        },
    }
}

async fn once(
    origin: &Origin,
    question: &Question<'_>,
    member: &Member,
    mut in_flight: InFlight,
    signed: &SignedRequest,
    fresh: bool,
) -> Result<(Response, InFlight), Trouble> {
    let answer = async {
        let limit = origin.timeouts.connect;
        let connection = if fresh {
            member.destination.new_connection(limit).await
        } else {
            member.destination.connection(limit).await
        };
        let head = request_head(signed, question);
        let connection = connection.map_err(Trouble::Connect)?;
        let (room, limit) = (question.room, origin.timeouts.first_byte);
        let answer = connection.exchange(&head, question.head, is_read, room, limit).await;
        answer.map_err(Trouble::Exchange)
    };
    let answer = answer.await;
    if let Some(fault) = answer.as_ref().err().and_then(Trouble::fault) {
        in_flight.failed(fault, Instant::now());
    }
    let mut response = answer?;
    if question.head {
        response.body.finish();
    }
    Ok((response, in_flight))
}

/// What the engine itself reads of a store's headers, beyond those that players see.
const ENGINE_HEADERS: [&str; 6] =
    ["content-range", "date", "retry-after", "x-amz-delete-marker", "x-minio-error-code", "x-minio-error-desc"];

pub(super) fn is_read(name: &str) -> bool {
    let read = |names: &[&str]| names.iter().any(|read| read.eq_ignore_ascii_case(name));
    read(&STORE_RESPONSE) || read(&ENGINE_HEADERS)
}

pub(super) fn request_head(signed: &SignedRequest, question: &Question<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(signed.head.len() + 160);
    head.extend_from_slice(&signed.head);
    head.extend_from_slice(b"User-Agent: tidegate\r\nAccept-Encoding: identity\r\n");
    let mut line = |name: &[u8], value: &HeaderValue| {
        head.extend_from_slice(name);
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    };
    if let Some(range) = question.range {
        line(b"Range: ", range);
    }
    if let Some(etag) = question.if_match {
        line(b"If-Match: ", &etag.to_header());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The answer to a GET of the first byte, as one to HEAD.
fn as_to_head(origin: &Origin, reply: Reply) -> Result<Reply, Failure> {
    let Reply::Object(mut response, in_flight) = reply else {
        // An empty object has no first byte, and that it is refused says nothing more of it.
        return Err(Failure::Denied { hidden: !origin.reveal_denied });
    };
    if response.status == StatusCode::PARTIAL_CONTENT {
        let sent = response.headers.remove(header::CONTENT_RANGE);
        let total = sent.and_then(|value| ContentRange::parse(value.as_bytes())).and_then(|sent| sent.total);
        let total = total.ok_or(Failure::Nonsense("206 without the object's size"))?;
        response.headers.insert(header::CONTENT_LENGTH, total.into());
    }
    Ok(Reply::Object(response, in_flight))
}

enum Judged {
    Reply(Reply),
    Refused(StoreError),
}

/// From a store only 200, 206 and the classified errors mean anything.
async fn judge(
    origin: &Origin,
    question: &Question<'_>,
    object: &Object<'_>,
    signed: &Signature,
    mut response: Response,
    mut in_flight: InFlight,
) -> Result<Judged, Failure> {
    if !response.status.is_server_error() {
        in_flight.answered(Instant::now());
    }
    match response.status {
        StatusCode::OK => Ok(Judged::Reply(Reply::Object(Box::new(response), in_flight))),
        StatusCode::PARTIAL_CONTENT if question.range.is_some() => {
            Ok(Judged::Reply(Reply::Object(Box::new(response), in_flight)))
        }
        StatusCode::PARTIAL_CONTENT => Err(Failure::Nonsense("206 without a range asked for")),
        status if status.as_u16() < 400 => Err(Failure::Nonsense("a status that only a web server gives")),
        status => {
            let body = response.body.drain(MAX_ERROR_BODY, DRAIN_TIME).await;
            let error = classify(status, &response.headers, &body, question.head);
            match error {
                StoreError::Broken => in_flight.failed(Fault::Broken, Instant::now()),
                // A store that asks for patience is at work.
                _ if status.is_server_error() => in_flight.answered(Instant::now()),
                _ => {}
            }
            match error {
                StoreError::PreconditionFailed if question.if_match.is_some() => {
                    Ok(Judged::Reply(Reply::PreconditionFailed))
                }
                StoreError::RangeNotSatisfiable { size } if question.range.is_some() => {
                    Ok(Judged::Reply(Reply::RangeNotSatisfiable(size)))
                }
                error => {
                    prepare_signature(origin, object, signed, error, &response);
                    Ok(Judged::Refused(error))
                }
            }
        }
    }
}

/// Drops a signature that the store refused and learns its clock where the time was the reason. What was learnt before is
/// forgotten where it did not help.
pub(super) fn prepare_signature(
    origin: &Origin,
    object: &Object<'_>,
    signed: &Signature,
    error: StoreError,
    response: &Response,
) {
    let generation = signed.request.generation;
    let refused = matches!(error, StoreError::Expired | StoreError::SignatureMismatch | StoreError::UnknownCredentials);
    if refused && !origin.signer.moved_on_from(generation) {
        origin.signer.forget(object);
    }
    if error == StoreError::Expired {
        let date = response.headers.get(header::DATE).and_then(|value| value.to_str().ok());
        let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
        let learnt = date.is_some_and(|date| origin.signer.learn_clock(date));
        if !learnt && !signed.is_cached {
            origin.signer.forget_clock(generation);
        }
    }
}

#[cfg(test)]
mod tests;
