//! Retry state of one request to the store, and the decision about each next attempt: limits for each kind of failure,
//! the cluster's retry budget, and back-off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::AttemptStats;
use crate::ObjectError;
use crate::ObjectOrigin;
use primitives::clock::monotonic_now;
use s3::error_body::StoreError;
use s3::signed_request_cache::{RenewalOutcome, UnsignedRequest};
use s3::signer::{SignError, SigningOutcome};
use upstream::circuit_breaker::FailureKind;
use upstream::cluster::ClusterMember;
use upstream::connection::ExchangeError;
use upstream::destination::ConnectError;

// The table in docs/object-semantics.md gives these limits, one for each kind of failure.
/// Most attempts with a new signature or a new connection, the first one included.
const MAX_ATTEMPTS: u32 = 3;
/// Further attempts after the store asked for fewer requests.
const MAX_THROTTLED: u32 = 2;
/// Wait after a failed connect or a throttled request, multiplied by the number of such failures.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Longest wait between two attempts that go on for a time, without jitter.
pub const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// Failure of one attempt before a response.
pub enum AttemptError {
    /// No connection could be made.
    Connect(ConnectError),
    /// No response came on the connection.
    Exchange(ExchangeError),
}

impl AttemptError {
    /// Returns the failure that it is for the client, where no other attempt mends it.
    pub fn failure(&self) -> ObjectError {
        match self {
            Self::Connect(ConnectError::Tls(_)) => ObjectError::Tls,
            Self::Connect(ConnectError::Refused(_) | ConnectError::Resolve(_)) => ObjectError::Unreachable,
            Self::Connect(ConnectError::Timeout) | Self::Exchange(ExchangeError::FirstByteTimeout) => {
                ObjectError::Timeout
            }
            Self::Exchange(ExchangeError::Malformed(what)) => ObjectError::InvalidResponse(what),
            Self::Exchange(
                ExchangeError::Closed { .. }
                | ExchangeError::Stalled
                | ExchangeError::Truncated
                | ExchangeError::Reset(_),
            ) => ObjectError::Closed,
        }
    }

    /// Returns its name in a trace.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::Resolve(_)) => "resolve",
            Self::Connect(ConnectError::Refused(_)) => "connect",
            Self::Connect(ConnectError::Timeout) => "connect_timeout",
            Self::Connect(ConnectError::Tls(_)) => "tls",
            Self::Exchange(ExchangeError::FirstByteTimeout) => "first_byte_timeout",
            Self::Exchange(ExchangeError::Closed { .. }) => "closed",
            Self::Exchange(ExchangeError::Malformed(_)) => "malformed",
            Self::Exchange(ExchangeError::Stalled) => "stalled",
            Self::Exchange(ExchangeError::Truncated) => "truncated",
            Self::Exchange(ExchangeError::Reset(_)) => "reset",
        }
    }

    /// Returns the error itself, for the log.
    pub fn error(&self) -> &(dyn std::error::Error + 'static) {
        match self {
            Self::Connect(error) => error,
            Self::Exchange(error) => error,
        }
    }

    /// Returns the kind of failure for the circuit breaker; `None` where the server had only closed an idle connection.
    pub fn failure_kind(&self) -> Option<FailureKind> {
        match self {
            Self::Connect(ConnectError::Resolve(_) | ConnectError::Refused(_) | ConnectError::Timeout) => {
                Some(FailureKind::Unreachable)
            }
            Self::Exchange(ExchangeError::Closed { reused: true, .. }) => None,
            // A handshake that fails shows that the server can be reached.
            Self::Connect(ConnectError::Tls(_)) | Self::Exchange(_) => Some(FailureKind::Broken),
        }
    }
}

/// A failed attempt, and the decision about the next one.
pub struct FailedAttempt {
    /// Failure to return if there is no further attempt.
    pub failure: ObjectError,
    /// Decision about the next attempt.
    pub next: RetryDecision,
}

impl From<ObjectError> for FailedAttempt {
    /// Makes a failure that is final.
    fn from(failure: ObjectError) -> Self {
        Self { failure, next: RetryDecision::GiveUp }
    }
}

/// Decision after a failed attempt.
pub enum RetryDecision {
    /// No further attempt.
    GiveUp,
    /// Next attempt at once, outside the retry budget: a new signature, or a new connection for an idle one that was
    /// closed. The store itself is well.
    AtOnce,
    /// Retry after this wait, within the retry budget.
    After(Duration),
}

/// Attempts so far for one request to the store.
#[derive(Default)]
pub struct RetryState {
    /// Time until which attempts go on; `None`: as often as the counts here and the retry budget allow.
    until: Option<Instant>,
    /// Ids of destinations that failed, which others are preferred to.
    pub tried: Vec<Arc<str>>,
    waits: u32,
    signatures: u32,
    connects: u32,
    throttled: u32,
    broken: u32,
    timeouts: u32,
    closed: u32,
    credentials: u32,
    /// True if a denial has led to another signature.
    is_renewed: bool,
    /// Lock of the renewed signature's outcome, held if this request is the one that finds it out.
    renewal_probe: Option<OwnedMutexGuard<RenewalOutcome>>,
    /// True if the next attempt must use a new connection.
    pub fresh_connection: bool,
    /// True if a HEAD is sent as a GET of one byte, whose refusal has a body that says the reason.
    pub head_by_get: bool,
}

impl RetryState {
    /// Creates the state for attempts that go on until `until`, after a failure of the destination `tried`.
    pub fn until(until: Instant, tried: &Arc<str>) -> Self {
        Self { until: Some(until), tried: vec![Arc::clone(tried)], ..Self::default() }
    }

    /// Returns the wait before the next attempt and takes it from the retry budget; `None` where there is no further
    /// attempt.
    pub fn next_delay(&mut self, origin: &ObjectOrigin, next: RetryDecision) -> Option<Duration> {
        let now = monotonic_now();
        match (next, self.until) {
            (RetryDecision::GiveUp, _) => None,
            (RetryDecision::AtOnce, _) => Some(Duration::ZERO),
            // Paid from the budget: a failing store must not get a multiple of the load.
            (RetryDecision::After(wait), None) => origin.cluster.retry_budget().try_withdraw(now).then_some(wait),
            (RetryDecision::After(wait), Some(until)) => {
                self.waits += 1;
                let wait = back_off(self.waits).max(wait.min(MAX_BACK_OFF));
                // However long the first attempts took, each destination is asked once.
                let begun = (self.waits as usize) < origin.cluster.members().len();
                (begun || now + wait < until).then_some(wait)
            }
        }
    }

    /// Records that `member` failed, so that others are preferred. When all have failed, all may be used again, this
    /// one last.
    pub fn failed_at(&mut self, origin: &ObjectOrigin, member: &ClusterMember) {
        let failed = member.destination.id();
        self.tried.push(Arc::clone(failed));
        let mut members = origin.cluster.members().iter();
        if members.all(|member| self.tried.contains(member.destination.id())) {
            self.tried = vec![Arc::clone(failed)];
        }
    }

    /// Decides for a retry after `wait`, if this is failure number `most` of its kind or an earlier one; always for the
    /// rest of a body.
    pub fn retry_up_to(&self, count: u32, most: u32, wait: Duration, failure: ObjectError) -> FailedAttempt {
        let allowed = self.until.is_some() || count <= most;
        FailedAttempt { failure, next: if allowed { RetryDecision::After(wait) } else { RetryDecision::GiveUp } }
    }

    /// Decides what follows a response of `member` that made no sense.
    pub fn after_invalid_response(
        &mut self,
        origin: &ObjectOrigin,
        failure: ObjectError,
        member: &ClusterMember,
    ) -> FailedAttempt {
        self.failed_at(origin, member);
        self.retry_only_for_rest(failure)
    }

    /// Decides for a failure that another attempt does not mend. Only for the rest of a body another destination may be
    /// right.
    fn retry_only_for_rest(&self, failure: ObjectError) -> FailedAttempt {
        self.retry_up_to(1, 0, Duration::ZERO, failure)
    }

    /// Records that the store accepted the signature. Requests that wait for the outcome of a renewed one continue.
    pub fn accepted(&mut self) {
        if let Some(mut outcome) = self.renewal_probe.take() {
            *outcome = RenewalOutcome::Accepted;
        }
    }

    /// Decides what follows a denial: at most one more attempt, with another signature, because not every store says
    /// that a signature has expired. Only where the signature was not made for this request, or where the store gave
    /// the beginning of this body a moment ago. Of all requests with the same doubt one tries; the others wait for its
    /// outcome.
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
        // A new signature that is denied is an answer; for an old one the store may mean that it has expired.
        let is_doubtful = signed.is_cached || self.until.is_some();
        if !is_doubtful || std::mem::replace(&mut self.is_renewed, true) {
            return denied.into();
        }
        let renewed = match origin.signer.renew_denied(object, &signed.request) {
            Ok(renewed) => renewed,
            Err(error) => return self.after_unsigned(error),
        };
        let Some(outcome) = renewed.as_ref().and_then(|request| request.renewal.as_ref()).map(|it| &it.outcome) else {
            return denied.into();
        };
        // The lock is held by the request that tries; a request that waits for it learns the outcome.
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

    /// Decides what follows a refusal of the store. May read credential files again.
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
                let changed = origin.signer.renew_credentials(signed.request.generation).await;
                at_once(changed && self.credentials == 1, terminal_error(origin, error))
            }
            StoreError::RefusedHead => {
                self.head_by_get = true;
                at_once(true, terminal_error(origin, error))
            }
            StoreError::Denied => self.after_denial(origin, object, signed, terminal_error(origin, error)).await,
            StoreError::Throttled { retry_after } => {
                self.throttled += 1;
                // A throttled store works, so its clients should not come back all at once.
                let wait = BACK_OFF * self.throttled + jitter();
                self.retry_up_to(self.throttled, MAX_THROTTLED, wait, ObjectError::Throttled { retry_after })
            }
            StoreError::Broken | StoreError::BadGateway => {
                self.broken += 1;
                self.retry_up_to(self.broken, 1, Duration::ZERO, terminal_error(origin, error))
            }
            other => terminal_error(origin, other).into(),
        }
    }

    /// Decides what follows a request that could not be signed: for the rest of a body, keys are waited for as a store
    /// that is away is.
    pub fn after_unsigned(&self, error: SignError) -> FailedAttempt {
        let failure = ObjectError::Unsignable(error);
        if error.is_temporary() { self.retry_only_for_rest(failure) } else { failure.into() }
    }

    /// Decides what follows an attempt without a response.
    pub fn after_error(
        &mut self,
        origin: &ObjectOrigin,
        trouble: &AttemptError,
        member: &ClusterMember,
    ) -> FailedAttempt {
        // The pool may hold more closed connections: the next attempt takes none from it.
        let idle_close = matches!(trouble, AttemptError::Exchange(ExchangeError::Closed { reused: true, .. }));
        if idle_close && !self.fresh_connection {
            self.fresh_connection = true;
            return FailedAttempt { failure: ObjectError::Closed, next: RetryDecision::AtOnce };
        }
        self.failed_at(origin, member);
        let (last, failure) = (MAX_ATTEMPTS - 1, trouble.failure());
        match trouble {
            AttemptError::Connect(ConnectError::Tls(_)) | AttemptError::Exchange(ExchangeError::Malformed(_)) => {
                self.retry_only_for_rest(failure)
            }
            AttemptError::Connect(ConnectError::Refused(_) | ConnectError::Resolve(_)) => {
                self.connects += 1;
                self.retry_up_to(self.connects, last, BACK_OFF * self.connects, failure)
            }
            AttemptError::Connect(ConnectError::Timeout) | AttemptError::Exchange(ExchangeError::FirstByteTimeout) => {
                self.timeouts += 1;
                // One retry only: each of these has already cost the client a whole time limit.
                self.retry_up_to(self.timeouts, 1, Duration::ZERO, failure)
            }
            AttemptError::Exchange(
                ExchangeError::Closed { .. }
                | ExchangeError::Stalled
                | ExchangeError::Truncated
                | ExchangeError::Reset(_),
            ) => {
                self.closed += 1;
                self.retry_up_to(self.closed, last, BACK_OFF * self.closed, failure)
            }
        }
    }
}

/// Returns the wait before attempt number `waits` of those that go on for a time.
pub fn back_off(waits: u32) -> Duration {
    (BACK_OFF * waits).min(MAX_BACK_OFF) + jitter()
}

/// Returns up to 50 ms, so that requests that failed together do not retry together.
fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(0..50))
}

/// Returns the failure that a refusal of the store means, where nothing can be done about it.
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
        StoreError::BadGateway => ObjectError::BadGateway,
    }
}
