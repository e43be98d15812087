//! One question to the store, asked until it is answered: signs, connects, classifies refusals, tries again where that
//! can help. Only GET and HEAD, and only before a byte went to the player, so that trying again is always safe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};

use super::{Failure, Origin, Tally};
use crate::http::etag::ETag;
use crate::s3::error_body::{MAX_ERROR_BODY, StoreError, classify};
use crate::s3::url_cache::{Object, SignedRequest};
use crate::upstream::breaker::Fault;
use crate::upstream::cluster::Member;
use crate::upstream::connection::{ExchangeError, Response};
use crate::upstream::destination::{ConnectError, InFlight};

/// Tries with a new signature or a new connection, the first one included.
const MAX_ATTEMPTS: u32 = 3;
/// Further tries after the store asked for fewer requests.
const MAX_THROTTLED: u32 = 2;
/// Times this × attempt is waited after a failed connect.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Longest wait between two tries for the rest of a body.
const MAX_BACK_OFF: Duration = Duration::from_secs(1);
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
    let until = Some(Instant::now() + origin.timeouts.idle);
    let tries = Tries { until, tried: vec![Arc::clone(broken.destination())], ..Tries::default() };
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
    let mut failure = Failure::Unreachable;
    loop {
        let setback = match origin.cluster.pick(&tries.tried, Instant::now()) {
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
    let object = Object { head: question.head, bucket: &origin.bucket, key: question.key };
    let signed = origin.signer.sign(&object).map_err(|_| Failure::Unsignable)?;
    tally.attempts += 1;
    match once(origin, question, member, in_flight, &signed, tries.fresh_connection).await {
        Err(trouble) => Err(tries.after_trouble(&trouble, member)),
        Ok((response, in_flight)) => match judge(origin, question, &object, &signed, response, in_flight).await? {
            Judged::Reply(reply) => Ok(reply),
            Judged::Refused(error) => {
                if matches!(error, StoreError::Broken | StoreError::Throttled { .. }) {
                    tries.tried.push(Arc::clone(member.destination.id()));
                }
                Err(tries.after_refusal(origin, &object, &signed, error, tally))
            }
        },
    }
}

enum Trouble {
    Connect(ConnectError),
    Exchange(ExchangeError),
}

impl Trouble {
    /// What it says of the destination; nothing where a kept connection had been closed for idleness.
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Connect(ConnectError::Resolve(_) | ConnectError::Refused(_) | ConnectError::Timeout) => {
                Some(Fault::Unreachable)
            }
            Self::Exchange(ExchangeError::Closed { reused: true }) => None,
            Self::Connect(ConnectError::Tls(_)) | Self::Exchange(_) => Some(Fault::Broken),
        }
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
        connection.exchange(&head, question.head, origin.timeouts.first_byte).await.map_err(Trouble::Exchange)
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

/// What did not work, and what may be done about it.
struct Setback {
    failure: Failure,
    next: Next,
}

impl From<Failure> for Setback {
    /// For good.
    fn from(failure: Failure) -> Self {
        Self { failure, next: Next::GiveUp }
    }
}

enum Next {
    /// Nothing.
    GiveUp,
    /// A step of the exchange with a store that is well: a new signature, a new connection for one closed for idleness.
    AtOnce,
    /// A retry.
    After(Duration),
}

/// What has been tried for one question.
#[derive(Default)]
struct Tries {
    /// Until when trying goes on; `None`: as often as the counts here and the retry budget allow.
    until: Option<Instant>,
    tried: Vec<Arc<str>>,
    waits: u32,
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
    /// How long to wait before the next try; `None`: there is none.
    fn wait(&mut self, origin: &Origin, next: Next) -> Option<Duration> {
        let now = Instant::now();
        match (next, self.until) {
            (Next::GiveUp, _) => None,
            (Next::AtOnce, _) => Some(Duration::ZERO),
            (Next::After(wait), None) => origin.cluster.budget().retry(now).then_some(wait),
            (Next::After(wait), Some(until)) => {
                self.waits += 1;
                let wait = wait.max(BACK_OFF * self.waits).min(MAX_BACK_OFF) + jitter();
                (now + wait < until).then_some(wait)
            }
        }
    }

    /// A retry, where fewer than `most` have been counted with this one.
    fn again(&self, count: u32, most: u32, wait: Duration, failure: Failure) -> Setback {
        let allowed = self.until.is_some() || count <= most;
        Setback { failure, next: if allowed { Next::After(wait) } else { Next::GiveUp } }
    }

    fn after_refusal(
        &mut self,
        origin: &Origin,
        object: &Object<'_>,
        signed: &SignedRequest,
        error: StoreError,
        tally: &mut Tally,
    ) -> Setback {
        let at_once =
            |allowed: bool, failure| Setback { failure, next: if allowed { Next::AtOnce } else { Next::GiveUp } };
        match error {
            StoreError::Expired => {
                tally.expired += 1;
                self.signatures += 1;
                at_once(self.signatures < MAX_ATTEMPTS, Failure::Expired)
            }
            StoreError::SignatureMismatch | StoreError::UnknownCredentials => {
                self.credentials += 1;
                let changed = origin.signer.moved_on_from(signed.generation) || origin.signer.reload_credentials();
                at_once(changed && self.credentials == 1, refused_for_good(origin, error))
            }
            StoreError::RefusedHead if self.signatures == 0 => {
                self.signatures += 1;
                origin.signer.forget(object);
                at_once(true, refused_for_good(origin, error))
            }
            StoreError::Throttled { retry_after } => {
                self.throttled += 1;
                let wait = BACK_OFF * self.throttled + jitter();
                self.again(self.throttled, MAX_THROTTLED, wait, Failure::Throttled { retry_after })
            }
            StoreError::Broken => {
                self.broken += 1;
                self.again(self.broken, 1, Duration::ZERO, Failure::StoreBroken)
            }
            other => refused_for_good(origin, other).into(),
        }
    }

    fn after_trouble(&mut self, trouble: &Trouble, member: &Member) -> Setback {
        let idle_close = matches!(trouble, Trouble::Exchange(ExchangeError::Closed { reused: true }));
        if idle_close && !self.fresh_connection {
            self.fresh_connection = true;
            return Setback { failure: Failure::Closed, next: Next::AtOnce };
        }
        self.tried.push(Arc::clone(member.destination.id()));
        let last = MAX_ATTEMPTS - 1;
        match trouble {
            Trouble::Connect(ConnectError::Tls(_)) => Failure::Tls.into(),
            Trouble::Connect(ConnectError::Refused(_) | ConnectError::Resolve(_)) => {
                self.connects += 1;
                self.again(self.connects, last, BACK_OFF * self.connects, Failure::Unreachable)
            }
            Trouble::Connect(ConnectError::Timeout) | Trouble::Exchange(ExchangeError::FirstByteTimeout) => {
                self.timeouts += 1;
                self.again(self.timeouts, 1, Duration::ZERO, Failure::Timeout)
            }
            Trouble::Exchange(ExchangeError::Malformed(what)) => Failure::Nonsense(what).into(),
            Trouble::Exchange(ExchangeError::Closed { .. } | ExchangeError::Stalled | ExchangeError::Broken) => {
                self.closed += 1;
                self.again(self.closed, last, BACK_OFF * self.closed, Failure::Closed)
            }
        }
    }
}

fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(0..50))
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

#[cfg(test)]
mod tests;
