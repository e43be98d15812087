//! What has been tried for one question, and whether it is tried again: limits for each kind of failure, the cluster's
//! retry budget, and back-off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::Failure;
use crate::Origin;
use crate::Tally;
use s3::error_body::StoreError;
use s3::signer::Signature;
use s3::url_cache::{Object, RenewalOutcome};
use upstream::breaker::Fault;
use upstream::cluster::Member;
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
pub enum Trouble {
    /// No connection.
    Connect(ConnectError),
    /// None on the connection.
    Exchange(ExchangeError),
}

impl Trouble {
    /// The error itself.
    pub fn error(&self) -> &(dyn std::error::Error + 'static) {
        match self {
            Self::Connect(error) => error,
            Self::Exchange(error) => error,
        }
    }

    /// What it says of the destination; nothing where a kept connection had been closed for idleness.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Connect(ConnectError::Resolve(_) | ConnectError::Refused(_) | ConnectError::Timeout) => {
                Some(Fault::Unreachable)
            }
            Self::Exchange(ExchangeError::Closed { reused: true, .. }) => None,
            Self::Connect(ConnectError::Tls(_)) | Self::Exchange(_) => Some(Fault::Broken),
        }
    }
}

/// What did not work, and what may be done about it.
pub struct Setback {
    /// The answer, where nothing may be done.
    pub failure: Failure,
    /// What may be done.
    pub next: Next,
}

impl From<Failure> for Setback {
    /// For good.
    fn from(failure: Failure) -> Self {
        Self { failure, next: Next::GiveUp }
    }
}

/// What may be done after a try that failed.
pub enum Next {
    /// Nothing.
    GiveUp,
    /// A step of the exchange with a store that is well: a new signature, a new connection for one closed for idleness.
    AtOnce,
    /// A retry.
    After(Duration),
}

/// What has been tried for one question.
#[derive(Default)]
pub struct Tries {
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
    finding_out: Option<OwnedMutexGuard<RenewalOutcome>>,
    /// Whether the next try takes a new connection.
    pub fresh_connection: bool,
    /// Whether a HEAD is asked as GET of one byte, whose refusal has a body that says why.
    pub head_by_get: bool,
}

impl Tries {
    /// Tries that go on until that time, after a failure of the destination `tried`.
    pub fn until(until: Instant, tried: &Arc<str>) -> Self {
        Self { until: Some(until), tried: vec![Arc::clone(tried)], ..Self::default() }
    }

    /// How long to wait before the next try; `None`: there is none.
    pub fn wait(&mut self, origin: &Origin, next: Next) -> Option<Duration> {
        let now = Instant::now();
        match (next, self.until) {
            (Next::GiveUp, _) => None,
            (Next::AtOnce, _) => Some(Duration::ZERO),
            (Next::After(wait), None) => origin.cluster.budget().retry(now).then_some(wait),
            (Next::After(wait), Some(until)) => {
                self.waits += 1;
                let wait = wait.max(BACK_OFF * self.waits).min(MAX_BACK_OFF) + jitter();
                // However long the first ones took, each destination has its try.
                let begun = (self.waits as usize) < origin.cluster.members().len();
                (begun || now + wait < until).then_some(wait)
            }
        }
    }

    /// `member` failed: others first. When all have failed, they begin anew, and this one is the last.
    pub fn failed_at(&mut self, origin: &Origin, member: &Member) {
        let failed = member.destination.id();
        self.tried.push(Arc::clone(failed));
        let mut members = origin.cluster.members().iter();
        if members.all(|member| self.tried.contains(member.destination.id())) {
            self.tried = vec![Arc::clone(failed)];
        }
    }

    /// A retry, where fewer than `most` have been counted with this one.
    pub fn again(&self, count: u32, most: u32, wait: Duration, failure: Failure) -> Setback {
        let allowed = self.until.is_some() || count <= most;
        Setback { failure, next: if allowed { Next::After(wait) } else { Next::GiveUp } }
    }

    /// What it leads to that the answer made no sense.
    pub fn after_nonsense(&mut self, origin: &Origin, failure: Failure, member: &Member) -> Setback {
        self.failed_at(origin, member);
        self.hopeless_but_for_the_rest(failure)
    }

    /// A failure that asking again does not mend, except for the rest of a body: another destination may be right.
    fn hopeless_but_for_the_rest(&self, failure: Failure) -> Setback {
        self.again(1, 0, Duration::ZERO, failure)
    }

    /// The store accepted the signature.
    pub fn accepted(&mut self) {
        if let Some(mut outcome) = self.finding_out.take() {
            *outcome = RenewalOutcome::Accepted;
        }
    }

    /// One more try, with another signature, after a denial: not every store says that a signature's time is over. Only
    /// where the signature was not made for this question, or where the store gave the beginning of this body a moment ago;
    /// and of all whom that concerns at once, one finds out for the others, who wait for no other.
    async fn after_denial(
        &mut self,
        origin: &Origin,
        object: &Object<'_>,
        signed: &Signature,
        denied: Failure,
    ) -> Setback {
        if let Some(mut outcome) = self.finding_out.take() {
            *outcome = RenewalOutcome::Denied;
            return denied.into();
        }
        let is_doubtful = signed.is_cached || self.until.is_some();
        if !is_doubtful || std::mem::replace(&mut self.is_renewed, true) {
            return denied.into();
        }
        let renewed = match origin.signer.renew_denied(object, &signed.request) {
            Ok(renewed) => renewed,
            Err(error) => return Failure::Unsignable(error).into(),
        };
        let Some(outcome) = renewed.as_ref().and_then(|request| request.renewal.as_ref()).map(|it| &it.outcome) else {
            return denied.into();
        };
        let known = match Arc::clone(outcome).try_lock_owned() {
            Ok(outcome) if *outcome == RenewalOutcome::Unknown => {
                self.finding_out = Some(outcome);
                RenewalOutcome::Unknown
            }
            Ok(outcome) => *outcome,
            Err(_) => *outcome.lock().await,
        };
        let next = if known == RenewalOutcome::Denied { Next::GiveUp } else { Next::AtOnce };
        Setback { failure: denied, next }
    }

    /// What a refusal of the store leads to.
    pub async fn after_refusal(
        &mut self,
        origin: &Origin,
        object: &Object<'_>,
        signed: &Signature,
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
                let changed =
                    origin.signer.moved_on_from(signed.request.generation) || origin.signer.reload_credentials();
                at_once(changed && self.credentials == 1, refused_for_good(origin, error))
            }
            StoreError::RefusedHead => {
                self.head_by_get = true;
                at_once(true, refused_for_good(origin, error))
            }
            StoreError::Denied => self.after_denial(origin, object, signed, refused_for_good(origin, error)).await,
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

    /// What it leads to that there was no answer.
    pub fn after_trouble(&mut self, origin: &Origin, trouble: &Trouble, member: &Member) -> Setback {
        let idle_close = matches!(trouble, Trouble::Exchange(ExchangeError::Closed { reused: true, .. }));
        if idle_close && !self.fresh_connection {
            self.fresh_connection = true;
            return Setback { failure: Failure::Closed, next: Next::AtOnce };
        }
        self.failed_at(origin, member);
        let last = MAX_ATTEMPTS - 1;
        match trouble {
            Trouble::Connect(ConnectError::Tls(_)) => self.hopeless_but_for_the_rest(Failure::Tls),
            Trouble::Connect(ConnectError::Refused(_) | ConnectError::Resolve(_)) => {
                self.connects += 1;
                self.again(self.connects, last, BACK_OFF * self.connects, Failure::Unreachable)
            }
            Trouble::Connect(ConnectError::Timeout) | Trouble::Exchange(ExchangeError::FirstByteTimeout) => {
                self.timeouts += 1;
                self.again(self.timeouts, 1, Duration::ZERO, Failure::Timeout)
            }
            Trouble::Exchange(ExchangeError::Malformed(what)) => {
                self.hopeless_but_for_the_rest(Failure::Nonsense(what))
            }
            Trouble::Exchange(
                ExchangeError::Closed { .. } | ExchangeError::Stalled | ExchangeError::Cut | ExchangeError::Reset(_),
            ) => {
                self.closed += 1;
                self.again(self.closed, last, BACK_OFF * self.closed, Failure::Closed)
            }
        }
    }
}

fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(0..50))
}

/// The failure that a refusal of the store is, where nothing can be done about it.
pub fn refused_for_good(origin: &Origin, error: StoreError) -> Failure {
    match error {
        StoreError::Denied | StoreError::RefusedHead => Failure::Denied { hidden: !origin.reveal_denied },
        StoreError::NoSuchKey => Failure::NotFound,
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
