//! What has been tried for one question, and whether it is tried again: limits for each kind of failure, the cluster's
//! retry budget, and back-off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::AttemptStats;
use crate::ObjectError;
use crate::ObjectOrigin;
use s3::error_body::StoreError;
use s3::signed_request_cache::{RenewalOutcome, UnsignedRequest};
use s3::signer::SigningOutcome;
use upstream::circuit_breaker::FailureKind;
use upstream::cluster::ClusterMember;
use upstream::connection::ExchangeError;
use upstream::destination::ConnectError;

/// Tries with a new signature or a new connection, the first one included.
const MAX_ATTEMPTS: u32 = 3;
/// Further tries after the store asked for fewer requests.
const MAX_THROTTLED: u32 = 2;
/// Times this × attempt is waited after a failed connect.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Longest wait between two tries for the rest of a body.
const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// Why there was no answer.
pub enum AttemptError {
    /// No connection.
    Connect(ConnectError),
    /// None on the connection.
    Exchange(ExchangeError),
}

impl AttemptError {
    /// The error itself.
    pub fn error(&self) -> &(dyn std::error::Error + 'static) {
        match self {
            Self::Connect(error) => error,
            Self::Exchange(error) => error,
        }
    }

    /// What it says of the destination; nothing where a kept connection had been closed for idleness.
    pub fn failure_kind(&self) -> Option<FailureKind> {
        match self {
            Self::Connect(ConnectError::Resolve(_) | ConnectError::Refused(_) | ConnectError::Timeout) => {
                Some(FailureKind::Unreachable)
            }
            Self::Exchange(ExchangeError::Closed { reused: true, .. }) => None,
            Self::Connect(ConnectError::Tls(_)) | Self::Exchange(_) => Some(FailureKind::Broken),
        }
    }
}

/// What did not work, and what may be done about it.
pub struct FailedAttempt {
    /// The answer, where nothing may be done.
    pub failure: ObjectError,
    /// What may be done.
    pub next: RetryDecision,
}

impl From<ObjectError> for FailedAttempt {
    /// For good.
    fn from(failure: ObjectError) -> Self {
        Self { failure, next: RetryDecision::GiveUp }
    }
}

/// What may be done after a try that failed.
pub enum RetryDecision {
    /// Nothing.
    GiveUp,
    /// A step of the exchange with a store that is well: a new signature, a new connection for one closed for idleness.
    AtOnce,
    /// A retry.
    After(Duration),
}

/// What has been tried for one question.
#[derive(Default)]
pub struct RetryState {
    /// Until when trying goes on; `None`: as often as the counts here and the retry budget allow.
    until: Option<Instant>,
    /// Destinations that failed last.
    pub tried: Vec<Arc<str>>,
    waits: u32,
    signatures: u32,
    connects: u32,
    throttled: u32,
    broken: u32,
    timeouts: u32,
    closed: u32,
    credentials: u32,
    /// Whether a denial has led to another signature.
    is_renewed: bool,
    /// Where this is the request that finds out whether that signature is denied too.
    renewal_probe: Option<OwnedMutexGuard<RenewalOutcome>>,
    /// Whether the next try takes a new connection.
    pub fresh_connection: bool,
    /// Whether a HEAD is asked as GET of one byte, whose refusal has a body that says why.
    pub head_by_get: bool,
}

impl RetryState {
    /// Tries that go on until that time, after a failure of the destination `tried`.
    pub fn until(until: Instant, tried: &Arc<str>) -> Self {
        Self { until: Some(until), tried: vec![Arc::clone(tried)], ..Self::default() }
    }

    /// How long to wait before the next try; `None`: there is none.
    pub fn next_delay(&mut self, origin: &ObjectOrigin, next: RetryDecision) -> Option<Duration> {
        let now = Instant::now();
        match (next, self.until) {
            (RetryDecision::GiveUp, _) => None,
            (RetryDecision::AtOnce, _) => Some(Duration::ZERO),
            (RetryDecision::After(wait), None) => origin.cluster.retry_budget().try_withdraw(now).then_some(wait),
            (RetryDecision::After(wait), Some(until)) => {
                self.waits += 1;
                let wait = wait.max(BACK_OFF * self.waits).min(MAX_BACK_OFF) + jitter();
                // However long the first ones took, each destination has its try.
                let begun = (self.waits as usize) < origin.cluster.members().len();
                (begun || now + wait < until).then_some(wait)
            }
        }
    }

    /// `member` failed: others first. When all have failed, they begin anew, and this one is the last.
    pub fn failed_at(&mut self, origin: &ObjectOrigin, member: &ClusterMember) {
        let failed = member.destination.id();
        self.tried.push(Arc::clone(failed));
        let mut members = origin.cluster.members().iter();
        if members.all(|member| self.tried.contains(member.destination.id())) {
            self.tried = vec![Arc::clone(failed)];
        }
    }

    /// A retry, where fewer than `most` have been counted with this one.
    pub fn retry_up_to(&self, count: u32, most: u32, wait: Duration, failure: ObjectError) -> FailedAttempt {
        let allowed = self.until.is_some() || count <= most;
        FailedAttempt { failure, next: if allowed { RetryDecision::After(wait) } else { RetryDecision::GiveUp } }
    }

    /// What it leads to that the answer made no sense.
    pub fn after_invalid_response(
        &mut self,
        origin: &ObjectOrigin,
        failure: ObjectError,
        member: &ClusterMember,
    ) -> FailedAttempt {
        self.failed_at(origin, member);
        self.retry_only_for_rest(failure)
    }

    /// A failure that asking again does not mend, except for the rest of a body: another destination may be right.
    fn retry_only_for_rest(&self, failure: ObjectError) -> FailedAttempt {
        self.retry_up_to(1, 0, Duration::ZERO, failure)
    }

    /// The store accepted the signature.
    pub fn accepted(&mut self) {
        if let Some(mut outcome) = self.renewal_probe.take() {
            *outcome = RenewalOutcome::Accepted;
        }
    }

    /// One more try, with another signature, after a denial: not every store says that a signature's time is over. Only
    /// where the signature was not made for this question, or where the store gave the beginning of this body a moment ago;
    /// and of all whom that concerns at once, one finds out for the others, who wait for no other.
    async fn after_denial(
        &mut self,
        origin: &ObjectOrigin,
        object: &UnsignedRequest<'_>,
        signed: &SigningOutcome,
        denied: ObjectError,
    ) -> FailedAttempt {
        if let Some(mut outcome) = self.renewal_probe.take() {
            *outcome = RenewalOutcome::Denied;
            return denied.into();
        }
        let is_doubtful = signed.is_cached || self.until.is_some();
        if !is_doubtful || std::mem::replace(&mut self.is_renewed, true) {
            return denied.into();
        }
        let renewed = match origin.signer.renew_denied(object, &signed.request) {
            Ok(renewed) => renewed,
            Err(error) => return ObjectError::Unsignable(error).into(),
        };
        let Some(outcome) = renewed.as_ref().and_then(|request| request.renewal.as_ref()).map(|it| &it.outcome) else {
            return denied.into();
        };
        let known = match Arc::clone(outcome).try_lock_owned() {
            Ok(outcome) if *outcome == RenewalOutcome::Unknown => {
                self.renewal_probe = Some(outcome);
                RenewalOutcome::Unknown
            }
            Ok(outcome) => *outcome,
            Err(_) => *outcome.lock().await,
        };
        let next = if known == RenewalOutcome::Denied { RetryDecision::GiveUp } else { RetryDecision::AtOnce };
        FailedAttempt { failure: denied, next }
    }

    /// What a refusal of the store leads to.
    pub async fn after_refusal(
        &mut self,
        origin: &ObjectOrigin,
        object: &UnsignedRequest<'_>,
        signed: &SigningOutcome,
        error: StoreError,
        tally: &mut AttemptStats,
    ) -> FailedAttempt {
        let at_once = |allowed: bool, failure| FailedAttempt {
            failure,
            next: if allowed { RetryDecision::AtOnce } else { RetryDecision::GiveUp },
        };
        match error {
            StoreError::Expired => {
                tally.expired += 1;
                self.signatures += 1;
                at_once(self.signatures < MAX_ATTEMPTS, ObjectError::Expired)
            }
            StoreError::SignatureMismatch | StoreError::UnknownCredentials => {
                self.credentials += 1;
                let changed =
                    origin.signer.is_outdated(signed.request.generation) || origin.signer.reload_credentials();
                at_once(changed && self.credentials == 1, terminal_error(origin, error))
            }
            StoreError::RefusedHead => {
                self.head_by_get = true;
                at_once(true, terminal_error(origin, error))
            }
            StoreError::Denied => self.after_denial(origin, object, signed, terminal_error(origin, error)).await,
            StoreError::Throttled { retry_after } => {
                self.throttled += 1;
                let wait = BACK_OFF * self.throttled + jitter();
                self.retry_up_to(self.throttled, MAX_THROTTLED, wait, ObjectError::Throttled { retry_after })
            }
            StoreError::Broken => {
                self.broken += 1;
                self.retry_up_to(self.broken, 1, Duration::ZERO, ObjectError::StoreBroken)
            }
            other => terminal_error(origin, other).into(),
        }
    }

    /// What it leads to that there was no answer.
    pub fn after_error(
        &mut self,
        origin: &ObjectOrigin,
        trouble: &AttemptError,
        member: &ClusterMember,
    ) -> FailedAttempt {
        let idle_close = matches!(trouble, AttemptError::Exchange(ExchangeError::Closed { reused: true, .. }));
        if idle_close && !self.fresh_connection {
            self.fresh_connection = true;
            return FailedAttempt { failure: ObjectError::Closed, next: RetryDecision::AtOnce };
        }
        self.failed_at(origin, member);
        let last = MAX_ATTEMPTS - 1;
        match trouble {
            AttemptError::Connect(ConnectError::Tls(_)) => self.retry_only_for_rest(ObjectError::Tls),
            AttemptError::Connect(ConnectError::Refused(_) | ConnectError::Resolve(_)) => {
                self.connects += 1;
                self.retry_up_to(self.connects, last, BACK_OFF * self.connects, ObjectError::Unreachable)
            }
            AttemptError::Connect(ConnectError::Timeout) | AttemptError::Exchange(ExchangeError::FirstByteTimeout) => {
                self.timeouts += 1;
                self.retry_up_to(self.timeouts, 1, Duration::ZERO, ObjectError::Timeout)
            }
            AttemptError::Exchange(ExchangeError::Malformed(what)) => {
                self.retry_only_for_rest(ObjectError::InvalidResponse(what))
            }
            AttemptError::Exchange(
                ExchangeError::Closed { .. }
                | ExchangeError::Stalled
                | ExchangeError::Truncated
                | ExchangeError::Reset(_),
            ) => {
                self.closed += 1;
                self.retry_up_to(self.closed, last, BACK_OFF * self.closed, ObjectError::Closed)
            }
        }
    }
}

fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(0..50))
}

/// The failure that a refusal of the store is, where nothing can be done about it.
pub fn terminal_error(origin: &ObjectOrigin, error: StoreError) -> ObjectError {
    match error {
        StoreError::Denied | StoreError::RefusedHead => ObjectError::Denied { hidden: !origin.reveal_denied },
        StoreError::NoSuchKey => ObjectError::NotFound,
        StoreError::DeleteMarker => ObjectError::Gone,
        StoreError::Archived => ObjectError::Archived,
        StoreError::NoSuchBucket => ObjectError::NoSuchBucket,
        StoreError::PreconditionFailed => ObjectError::InvalidResponse("412 to a request without a condition"),
        StoreError::RangeNotSatisfiable { .. } => ObjectError::InvalidResponse("416 to a request without a range"),
        StoreError::Unexpected => ObjectError::InvalidResponse("an error that does not fit the request"),
        StoreError::Expired => ObjectError::Expired,
        StoreError::SignatureMismatch => ObjectError::Signature,
        StoreError::UnknownCredentials => ObjectError::Credentials,
        StoreError::Throttled { retry_after } => ObjectError::Throttled { retry_after },
        StoreError::Broken => ObjectError::StoreBroken,
    }
}
