//! One request to the store, repeated until it is answered: signs, connects, classifies refusals, and retries where
//! that can help. Only GET and HEAD, and only before a byte was sent to the client, so that a retry is always safe.

mod retry;

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};

pub(super) use self::retry::{AttemptError, MAX_BACK_OFF, back_off, terminal_error};
use self::retry::{FailedAttempt, RetryState};
use super::traced::{self, TracedAttempt};
use super::{AttemptStats, ObjectError, ObjectOrigin};
use http_semantics::etag::ETag;
use http_semantics::headers::STORE_RESPONSE_HEADERS;
use http_semantics::range::ContentRange;
use primitives::clock::monotonic_now;
use s3::error_body::{MAX_ERROR_BODY, StoreError, classify};
use s3::is_key_length_valid;
use s3::refusal;
use s3::signed_request_cache::{SignedRequest, UnsignedRequest};
use s3::signer::SigningOutcome;
use upstream::circuit_breaker::FailureKind;
use upstream::cluster::ClusterMember;
use upstream::connection::UpstreamResponse;
use upstream::destination::InFlightRequest;

/// Time limit between two reads of an error body: it only helps to classify the refusal.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Request to the store.
#[derive(Clone, Copy)]
pub struct StoreRequest<'a> {
    /// True for HEAD, false for GET.
    pub head: bool,
    /// Key of the object, decoded.
    pub key: &'a str,
    /// Value of `Range`; `None`: the whole object.
    pub range: Option<&'a HeaderValue>,
    /// Entity tag of the only version that is wanted; `None`: any.
    pub if_match: Option<&'a ETag>,
    /// Number of body bytes to read together with the head, where they are already there.
    pub room: usize,
}

/// Reply of the store with status 200, 206, 412 or 416; every other status is an [`ObjectError`].
pub enum StoreReply {
    /// Status 200 or 206, with the body not read yet.
    Object(Box<UpstreamResponse>, InFlightRequest),
    /// Status 412: the object is not the version that was requested.
    PreconditionFailed,
    /// Status 416: the range begins past the end. The size, where the store says it.
    RangeNotSatisfiable(Option<u64>),
}

/// Sends `question` until there is a reply or no attempt is left, within the retry budget. Adds the effort to `tally`
/// and records the bucket's health. Fails with `NotFound` for a key that no object can have, without asking the store.
pub async fn query_store(
    origin: &ObjectOrigin,
    question: &StoreRequest<'_>,
    tally: &mut AttemptStats,
) -> Result<StoreReply, ObjectError> {
    if !is_key_length_valid(question.key) {
        return Err(ObjectError::NotFound);
    }
    // Once for each request of the engine: retries are paid from it, and so deposit nothing.
    origin.cluster.retry_budget().deposit(monotonic_now());
    let outcome = query_with_retries(origin, question, tally, RetryState::default()).await;
    origin.health.record_outcome(outcome.as_ref().err());
    outcome
}

/// Sends `question` for the rest of a body that broke off at `broken`: as [`query_store`], but another destination
/// first, and not within the retry budget but for up to the route's idle time, so that a store that restarts cuts
/// nobody off.
pub async fn query_rest(
    origin: &ObjectOrigin,
    question: &StoreRequest<'_>,
    broken: &InFlightRequest,
    tally: &mut AttemptStats,
) -> Result<StoreReply, ObjectError> {
    let tries = RetryState::until(monotonic_now() + origin.timeouts.idle, broken.destination());
    let outcome = query_with_retries(origin, question, tally, tries).await;
    origin.health.record_outcome(outcome.as_ref().err());
    outcome
}

async fn query_with_retries(
    origin: &ObjectOrigin,
    question: &StoreRequest<'_>,
    tally: &mut AttemptStats,
    mut tries: RetryState,
) -> Result<StoreReply, ObjectError> {
    // The breaker must tell objects apart: one that cannot be read must not take the server from the others.
    let request = origin.cluster.identify(&(&origin.bucket, question.key));
    let mut failure = ObjectError::Unavailable;
    loop {
        let setback = match origin.cluster.pick(request, &tries.tried, monotonic_now()) {
            // The breaker may have opened because of the last failure, which says more than `Unavailable`.
            None => tries.retry_up_to(1, 0, Duration::ZERO, failure),
            Some((member, in_flight)) => match attempt(origin, question, member, in_flight, &mut tries, tally).await {
                Ok(reply) => return Ok(reply),
                Err(setback) => setback,
            },
        };
        failure = setback.failure;
        let wait = tries.next_delay(origin, setback.next).ok_or(failure)?;
        tally.retries += 1;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

async fn attempt(
    origin: &ObjectOrigin,
    question: &StoreRequest<'_>,
    member: &ClusterMember,
    in_flight: InFlightRequest,
    tries: &mut RetryState,
    tally: &mut AttemptStats,
) -> Result<StoreReply, FailedAttempt> {
    let first_byte = HeaderValue::from_static("bytes=0-0");
    let by_get = StoreRequest { head: false, range: Some(&first_byte), ..*question };
    // `question` is sent now; `asked` is what the caller wants to know.
    let (question, asked) = if tries.head_by_get { (&by_get, question) } else { (question, question) };
    let object = UnsignedRequest { head: question.head, bucket: &origin.bucket, key: question.key };
    let signed = traced::sign(origin, &object, &tally.trace).map_err(|error| tries.after_unsigned(error))?;
    tally.record_attempt(&origin.cluster, member);
    let attempt = TracedAttempt::begin(tally, question.head);
    match send_once(origin, question, member, in_flight, &signed.request, tries.fresh_connection).await {
        Err(trouble) => {
            attempt.failed(tally, trouble.name());
            // Without a kind the server had only closed an idle connection, which is no failure.
            if trouble.failure_kind().is_some() {
                tally.record_failure(&origin.cluster, member, trouble.error());
            }
            Err(tries.after_error(origin, &trouble, member))
        }
        Ok((response, in_flight)) => {
            attempt.answered(tally, response.status);
            match classify_reply(origin, question, &object, &signed, response, in_flight).await {
                Err(nonsense) => Err(tries.after_invalid_response(origin, nonsense, member)),
                Ok(ClassifiedReply::Reply(reply)) => {
                    tries.accepted();
                    if asked.head && !question.head {
                        as_head_reply(origin, reply).map_err(FailedAttempt::from)
                    } else {
                        Ok(reply)
                    }
                }
                Ok(ClassifiedReply::Refused(error)) => {
                    // Other refusals concern the request, not the destination.
                    if matches!(error, StoreError::Broken | StoreError::BadGateway | StoreError::Throttled { .. }) {
                        tries.failed_at(origin, member);
                    }
                    Err(tries.after_refusal(origin, &object, &signed, error, tally).await)
                }
            }
        }
    }
}

async fn send_once(
    origin: &ObjectOrigin,
    question: &StoreRequest<'_>,
    member: &ClusterMember,
    mut in_flight: InFlightRequest,
    signed: &SignedRequest,
    fresh: bool,
) -> Result<(UpstreamResponse, InFlightRequest), AttemptError> {
    let answer = async {
        let limit = origin.timeouts.connect;
        let connection = if fresh {
            member.destination.new_connection(limit).await
        } else {
            member.destination.connection(limit).await
        };
        let head = request_head(signed, question);
        let connection = connection.map_err(AttemptError::Connect)?;
        let (room, limit) = (question.room, origin.timeouts.first_byte);
        let answer = connection.exchange(&head, question.head, is_kept_header, room, limit).await;
        answer.map_err(AttemptError::Exchange)
    };
    let answer = answer.await;
    if let Some(fault) = answer.as_ref().err().and_then(AttemptError::failure_kind) {
        in_flight.failed(fault, monotonic_now());
    }
    let mut response = answer?;
    // A HEAD has no body: its connection is free at once.
    if question.head {
        response.body.finish();
    }
    Ok((response, in_flight))
}

/// Response headers that the engine itself reads, beyond those that clients see.
const ENGINE_HEADERS: [&str; 6] =
    ["content-range", "date", "retry-after", "x-amz-delete-marker", "x-minio-error-code", "x-minio-error-desc"];

/// Returns true if the header `name`, in any case, must be kept from a store's response.
pub(super) fn is_kept_header(name: &str) -> bool {
    let read = |names: &[&str]| names.iter().any(|read| read.eq_ignore_ascii_case(name));
    read(&STORE_RESPONSE_HEADERS) || read(&ENGINE_HEADERS)
}

/// Builds the request head from a signed request and the unsigned headers of `question`.
pub(super) fn request_head(signed: &SignedRequest, question: &StoreRequest<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(signed.head.len() + 160);
    head.extend_from_slice(&signed.head);
    // Ranges count bytes of the stored representation: a store must not compress on the way.
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

/// Converts the reply to a GET of the first byte into a reply to HEAD. Fails with `Denied` where the GET was refused
/// too.
fn as_head_reply(origin: &ObjectOrigin, reply: StoreReply) -> Result<StoreReply, ObjectError> {
    let StoreReply::Object(mut response, in_flight) = reply else {
        // An empty object has no first byte, and that it is refused says nothing more of it.
        return Err(ObjectError::Denied { hidden: !origin.reveal_denied });
    };
    // A store that ignored the range sent 200, whose `Content-Length` is the size already.
    if response.status == StatusCode::PARTIAL_CONTENT {
        let sent = response.headers.remove(header::CONTENT_RANGE);
        let total = sent.and_then(|value| ContentRange::parse(value.as_bytes())).and_then(|sent| sent.total);
        let total = total.ok_or(ObjectError::InvalidResponse("206 without the object's size"))?;
        response.headers.insert(header::CONTENT_LENGTH, total.into());
    }
    Ok(StoreReply::Object(response, in_flight))
}

enum ClassifiedReply {
    Reply(StoreReply),
    Refused(StoreError),
}

/// Classifies a response: a store can only mean something by 200, 206 and the known errors. Reports the outcome to the
/// destination's health.
async fn classify_reply(
    origin: &ObjectOrigin,
    question: &StoreRequest<'_>,
    object: &UnsignedRequest<'_>,
    signed: &SigningOutcome,
    mut response: UpstreamResponse,
    mut in_flight: InFlightRequest,
) -> Result<ClassifiedReply, ObjectError> {
    // A 5xx is decided below: a 503 may only ask for patience.
    if !response.status.is_server_error() {
        in_flight.answered(monotonic_now());
    }
    match response.status {
        StatusCode::OK => Ok(ClassifiedReply::Reply(StoreReply::Object(Box::new(response), in_flight))),
        StatusCode::PARTIAL_CONTENT if question.range.is_some() => {
            Ok(ClassifiedReply::Reply(StoreReply::Object(Box::new(response), in_flight)))
        }
        StatusCode::PARTIAL_CONTENT => Err(ObjectError::InvalidResponse("206 without a range asked for")),
        status if status.as_u16() < 400 => Err(ObjectError::InvalidResponse("a status that only a web server gives")),
        status => {
            let body = response.body.drain(MAX_ERROR_BODY, DRAIN_TIME).await;
            let error = classify(status, &response.headers, &body, question.head);
            match error {
                StoreError::Broken | StoreError::BadGateway => in_flight.failed(FailureKind::Broken, monotonic_now()),
                // A store that asks for patience works.
                _ if status.is_server_error() => in_flight.answered(monotonic_now()),
                _ => {}
            }
            match error {
                StoreError::PreconditionFailed if question.if_match.is_some() => {
                    Ok(ClassifiedReply::Reply(StoreReply::PreconditionFailed))
                }
                StoreError::RangeNotSatisfiable { size } if question.range.is_some() => {
                    Ok(ClassifiedReply::Reply(StoreReply::RangeNotSatisfiable(size)))
                }
                error => {
                    prepare_signature(origin, object, signed, error, &response);
                    Ok(ClassifiedReply::Refused(error))
                }
            }
        }
    }
}

/// Prepares the next attempt after a refusal: drops the cached signature, and learns the store's clock from `Date`
/// where the time was the reason. An offset that did not help is forgotten.
pub(super) fn prepare_signature(
    origin: &ObjectOrigin,
    object: &UnsignedRequest<'_>,
    signed: &SigningOutcome,
    error: StoreError,
    response: &UpstreamResponse,
) {
    let generation = signed.request.generation;
    // A signature of older keys or an older clock offset is not used again anyway.
    if error.is_of_signature() && !origin.signer.is_outdated(generation) {
        origin.signer.forget(object);
    }
    if error == StoreError::Expired {
        let learnt = refusal::date(&response.headers).is_some_and(|date| origin.signer.learn_clock(date));
        // A cached signature may simply have been old; only a new one shows that the learnt offset is wrong.
        if !learnt && !signed.is_cached {
            origin.signer.forget_clock(generation);
        }
    }
}

#[cfg(test)]
mod tests;
