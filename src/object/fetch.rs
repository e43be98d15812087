//! One question to the store, asked until it is answered: signs, connects, classifies refusals, tries again where that
//! can help. Only GET and HEAD, and only before a byte went to the player, so that trying again is always safe.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Failure, Origin, Tally};
use crate::http::etag::ETag;
use crate::http::headers::store_response_allowed;
use crate::s3::error_body::{MAX_ERROR_BODY, StoreError, classify};
use crate::s3::url_cache::{Object, SignedRequest};
use crate::upstream::cluster::Member;
use crate::upstream::connection::{ExchangeError, Response};
use crate::upstream::destination::{ConnectError, InFlight};

/// Tries with a new signature or a new connection, the first one included.
const MAX_ATTEMPTS: u32 = 3;
/// Further tries after the store asked for fewer requests.
const MAX_THROTTLED: u32 = 2;
/// Times this × attempt is waited after a failed connect.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long the rest of a refusal may take to arrive.
const DRAIN_TIME: Duration = Duration::from_secs(2);

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

/// Asks until there is an answer or no try is left.
pub async fn ask(origin: &Origin, question: &Question<'_>, tally: &mut Tally) -> Result<Reply, Failure> {
    let outcome = ask_store(origin, question, tally).await;
    origin.health.learn(outcome.as_ref().err());
    outcome
}

async fn ask_store(origin: &Origin, question: &Question<'_>, tally: &mut Tally) -> Result<Reply, Failure> {
    let mut tries = Tries::default();
    loop {
        let object = Object { head: question.head, bucket: &origin.bucket, key: question.key };
        let signed = origin.signer.sign(&object).map_err(|_| Failure::Unsignable)?;
        let member = origin.cluster.pick(&tries.tried).ok_or(Failure::Unreachable)?;
        tally.attempts += 1;
        let verdict = match once(origin, question, member, &signed, tries.fresh_connection).await {
            Ok((response, in_flight)) => match judge(origin, question, &object, &signed, response, in_flight).await? {
                Judged::Reply(reply) => return Ok(reply),
                Judged::Refused(error) => {
                    if matches!(error, StoreError::Broken | StoreError::Throttled { .. }) {
                        tries.tried.push(Arc::clone(member.destination.id()));
                    }
                    tries.after_refusal(origin, &object, &signed, error, tally)
                }
            },
            Err(trouble) => tries.after_trouble(&trouble, member),
        };
        match verdict {
            Verdict::GiveUp(failure) => return Err(failure),
            Verdict::Again(wait) => {
                tally.retries += 1;
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

enum Trouble {
    Connect(ConnectError),
    Exchange(ExchangeError),
}

async fn once(
    origin: &Origin,
    question: &Question<'_>,
    member: &Member,
    signed: &SignedRequest,
    fresh: bool,
) -> Result<(Response, InFlight), Trouble> {
    let in_flight = member.destination.enter();
    let limit = origin.timeouts.connect;
    let connection =
        if fresh { member.destination.new_connection(limit).await } else { member.destination.connection(limit).await };
    let head = request_head(signed, question);
    let connection = connection.map_err(Trouble::Connect)?;
    let answer = connection.exchange(&head, question.head, is_read, origin.timeouts.first_byte).await;
    let mut response = answer.map_err(Trouble::Exchange)?;
    if question.head {
        response.body.finish();
    }
    Ok((response, in_flight))
}

/// What the engine itself reads of a store's headers, beyond those that players see.
pub const ENGINE_HEADERS: [HeaderName; 6] = [
    header::CONTENT_RANGE,
    header::DATE,
    header::RETRY_AFTER,
    HeaderName::from_static("x-amz-delete-marker"),
    HeaderName::from_static("x-minio-error-code"),
    HeaderName::from_static("x-minio-error-desc"),
];

fn is_read(name: &HeaderName) -> bool {
    store_response_allowed(name) || ENGINE_HEADERS.contains(name)
}

fn request_head(signed: &SignedRequest, question: &Question<'_>) -> Vec<u8> {
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

enum Judged {
    Reply(Reply),
    Refused(StoreError),
}

/// From a store only 200, 206 and the classified errors mean anything.
async fn judge(
    origin: &Origin,
    question: &Question<'_>,
    object: &Object<'_>,
    signed: &Arc<SignedRequest>,
    mut response: Response,
    in_flight: InFlight,
) -> Result<Judged, Failure> {
    match response.status {
        StatusCode::OK => Ok(Judged::Reply(Reply::Object(Box::new(response), in_flight))),
        StatusCode::PARTIAL_CONTENT if question.range.is_some() => {
            Ok(Judged::Reply(Reply::Object(Box::new(response), in_flight)))
        }
        StatusCode::PARTIAL_CONTENT => Err(Failure::Nonsense("206 without a range asked for")),
        status if status.as_u16() < 400 => Err(Failure::Nonsense("a status that only a web server gives")),
        status => {
            let body = response.body.drain(MAX_ERROR_BODY, DRAIN_TIME).await;
            match classify(status, &response.headers, &body, question.head) {
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

/// Drops a signature that the store refused and learns its clock where the time was the reason.
fn prepare_signature(
    origin: &Origin,
    object: &Object<'_>,
    signed: &Arc<SignedRequest>,
    error: StoreError,
    response: &Response,
) {
    let refused = matches!(
        error,
        StoreError::Expired | StoreError::SignatureMismatch | StoreError::UnknownCredentials | StoreError::RefusedHead
    );
    if refused && !origin.signer.moved_on_from(signed.generation) {
        origin.signer.forget(object);
    }
    let date = response.headers.get(header::DATE).and_then(|value| value.to_str().ok());
    if let (StoreError::Expired, Some(date)) = (error, date.and_then(|text| httpdate::parse_http_date(text).ok())) {
        origin.signer.learn_clock(date);
    }
}

enum Verdict {
    Again(Duration),
    GiveUp(Failure),
}

/// What has been tried for one question.
#[derive(Default)]
struct Tries {
    tried: Vec<Arc<str>>,
    signatures: u32,
    connects: u32,
    throttled: u32,
    broken: u32,
    timeouts: u32,
    closed: u32,
    credentials: u32,
    fresh_connection: bool,
}

impl Tries {
    fn after_refusal(
        &mut self,
        origin: &Origin,
        object: &Object<'_>,
        signed: &SignedRequest,
        error: StoreError,
        tally: &mut Tally,
    ) -> Verdict {
        let again = Verdict::Again(Duration::ZERO);
        match error {
            StoreError::Expired => {
                tally.expired += 1;
                self.signatures += 1;
                if self.signatures < MAX_ATTEMPTS { again } else { Verdict::GiveUp(Failure::Expired) }
            }
            StoreError::SignatureMismatch | StoreError::UnknownCredentials => {
                self.credentials += 1;
                let changed = origin.signer.moved_on_from(signed.generation) || origin.signer.reload_credentials();
                if changed && self.credentials == 1 {
                    return again;
                }
                let mismatch = error == StoreError::SignatureMismatch;
                Verdict::GiveUp(if mismatch { Failure::Signature } else { Failure::Credentials })
            }
            StoreError::RefusedHead if self.signatures == 0 => {
                self.signatures += 1;
                origin.signer.forget(object);
                again
            }
            StoreError::Throttled { retry_after } => {
                self.throttled += 1;
                if self.throttled <= MAX_THROTTLED {
                    let jitter = rand::random_range(0..50);
                    return Verdict::Again(BACK_OFF * self.throttled + Duration::from_millis(jitter));
                }
                Verdict::GiveUp(Failure::Throttled { retry_after })
            }
            StoreError::Broken => {
                self.broken += 1;
                if self.broken <= 1 { again } else { Verdict::GiveUp(Failure::StoreBroken) }
            }
            other => Verdict::GiveUp(refused_for_good(origin, other)),
        }
    }

    fn after_trouble(&mut self, trouble: &Trouble, member: &Member) -> Verdict {
        let idle_close = matches!(trouble, Trouble::Exchange(ExchangeError::Closed { reused: true }));
        if idle_close && !self.fresh_connection {
            self.fresh_connection = true;
            return Verdict::Again(Duration::ZERO);
        }
        self.tried.push(Arc::clone(member.destination.id()));
        match trouble {
            Trouble::Connect(ConnectError::Tls(_)) => Verdict::GiveUp(Failure::Tls),
            Trouble::Connect(ConnectError::Refused(_) | ConnectError::Resolve(_)) => {
                self.connects += 1;
                if self.connects < MAX_ATTEMPTS {
                    Verdict::Again(BACK_OFF * self.connects)
                } else {
                    Verdict::GiveUp(Failure::Unreachable)
                }
            }
            Trouble::Connect(ConnectError::Timeout) | Trouble::Exchange(ExchangeError::FirstByteTimeout) => {
                self.timeouts += 1;
                if self.timeouts <= 1 { Verdict::Again(Duration::ZERO) } else { Verdict::GiveUp(Failure::Timeout) }
            }
            Trouble::Exchange(ExchangeError::Malformed(what)) => Verdict::GiveUp(Failure::Nonsense(what)),
            Trouble::Exchange(ExchangeError::Closed { .. } | ExchangeError::Stalled | ExchangeError::Broken) => {
                self.closed += 1;
                if self.closed < MAX_ATTEMPTS {
                    Verdict::Again(BACK_OFF * self.closed)
                } else {
                    Verdict::GiveUp(Failure::Closed)
                }
            }
        }
    }
}

fn refused_for_good(origin: &Origin, error: StoreError) -> Failure {
    match error {
        StoreError::Denied | StoreError::RefusedHead if origin.reveal_denied => Failure::Denied,
        StoreError::Denied | StoreError::RefusedHead | StoreError::NoSuchKey => Failure::NotFound,
        StoreError::DeleteMarker => Failure::Gone,
        StoreError::Archived => Failure::Archived,
        StoreError::NoSuchBucket => Failure::NoSuchBucket,
        StoreError::PreconditionFailed => Failure::Nonsense("412 to a request without a condition"),
        StoreError::RangeNotSatisfiable { .. } => Failure::Nonsense("416 to a request without a range"),
        StoreError::Unexpected => Failure::Nonsense("an error that does not fit the request"),
        StoreError::Expired => Failure::Expired,
        StoreError::SignatureMismatch => Failure::Signature,
        StoreError::UnknownCredentials => Failure::Credentials,
        StoreError::Throttled { retry_after } => Failure::Throttled { retry_after },
        StoreError::Broken => Failure::StoreBroken,
    }
}
