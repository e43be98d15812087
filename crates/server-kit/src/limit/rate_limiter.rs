//! Rate limiter of one policy. The decision is made here first, which is exact for one node; a shared request that
//! passes is then decided by Redis. A refusal here is one there too, since a node never counts more than all nodes do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::egress::{self, EgressAccount, EgressCounter};
use super::metrics::PolicyMetrics;
use super::request_counter::RateLimitStatus;
use super::settings;
use super::shared_limits::{SharedLimitDecision, SharedLimitRequest, SharedLimits};
use super::subject::{self, RequesterInfo};
use super::subject_table::{ExhaustedLimit, IdleCriteria, SubjectCounters, SubjectTable};
use super::worker::LimitWorkerHandle;
use http_semantics::rate_limit::ExceededLimit;
use primitives::clock::{Clock, monotonic_now};
use primitives::unix_time::UnixMillis;

/// `Retry-After` of a refused stream: nobody knows when one ends.
const STREAM_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Smallest chunk under a bandwidth limit, in bytes: fewer cost more for each byte.
const MIN_CHUNK_BYTES: usize = 4 * 1024;
/// Largest chunk under a bandwidth limit, in bytes.
const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Policy with all its counts.
pub struct RateLimiter {
    settings: settings::RateLimitPolicy,
    subjects: SubjectTable,
    clock: Clock,
    started: Instant,
    shared: Option<Arc<SharedLimits>>,
    worker: LimitWorkerHandle,
    metrics: PolicyMetrics,
}

/// Limit that a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Too many requests.
    Requests,
    /// Too many streams at once.
    Streams,
    /// The period's quota is used up.
    Egress,
}

impl From<LimitKind> for ExceededLimit {
    fn from(limit: LimitKind) -> Self {
        match limit {
            LimitKind::Requests => Self::Requests,
            LimitKind::Streams => Self::Streams,
            LimitKind::Egress => Self::Egress,
        }
    }
}

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRejection {
    /// Limit that was exceeded.
    pub limit: LimitKind,
    /// Status of the subject; `reset` is the time until the next try.
    pub status: RateLimitStatus,
}

/// Permit of one request; it is held to the end of the response.
pub struct RateLimitPermit {
    policy: Arc<RateLimiter>,
    entry: Arc<SubjectCounters>,
    status: Option<RateLimitStatus>,
    is_stream: bool,
    lease: Option<u64>,
}

/// Usage of a policy by a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitUsage {
    /// Status of its requests.
    pub requests: Option<RateLimitStatus>,
    /// Streams under way, and the most allowed.
    pub streams: Option<(u64, u32)>,
    /// Status of its bytes in this period, and the bytes sent: streams under way may exceed the limit.
    pub egress: Option<(RateLimitStatus, u64)>,
    /// Bytes a second that its streams share.
    pub bytes_per_second: Option<u64>,
}

impl RateLimiter {
    /// Creates a rate limiter that has counted nothing yet.
    pub fn new(
        settings: settings::RateLimitPolicy,
        clock: Clock,
        shared: Option<Arc<SharedLimits>>,
        keeper: LimitWorkerHandle,
        metrics: PolicyMetrics,
    ) -> Self {
        Self {
            settings,
            subjects: SubjectTable::default(),
            clock,
            started: monotonic_now(),
            shared,
            worker: keeper,
            metrics,
        }
    }

    /// Returns its settings.
    pub fn settings(&self) -> &settings::RateLimitPolicy {
        &self.settings
    }

    /// Returns the subject of a request of `who`.
    pub fn subject(&self, who: &RequesterInfo<'_>) -> String {
        subject::subject_for(&self.settings.partition, who)
    }

    /// Admits or refuses a request of `subject`.
    pub async fn admit(self: &Arc<Self>, subject: &str) -> Result<RateLimitPermit, LimitRejection> {
        let admitted = self.decide(subject).await;
        match &admitted {
            Ok(_) => self.metrics.allowed.inc(),
            Err(refused) => match refused.limit {
                LimitKind::Requests => self.metrics.requests.inc(),
                LimitKind::Streams => self.metrics.streams.inc(),
                LimitKind::Egress => self.metrics.egress.inc(),
            },
        }
        admitted
    }

    async fn decide(self: &Arc<Self>, subject: &str) -> Result<RateLimitPermit, LimitRejection> {
        let now = self.now();
        let entry = self.counters(subject, now);
        // The quota first: it takes nothing, so that a refusal by it has nothing to give back.
        let quota = self.egress(&entry, now).await.map(|(standing, _)| standing);
        if let Some(standing) = quota.filter(|it| it.remaining == 0) {
            return Err(LimitRejection { limit: LimitKind::Egress, status: standing });
        }
        let (rule, streams) = (self.settings.requests.as_ref(), self.settings.streams);
        let (standing, receipt) = entry.take(rule, streams, now).map_err(|spent| match spent {
            ExhaustedLimit::Requests(standing) => LimitRejection { limit: LimitKind::Requests, status: standing },
            ExhaustedLimit::Streams => self.too_many_streams(),
        })?;
        let is_stream = streams.is_some();
        let mut permit = RateLimitPermit { policy: Arc::clone(self), entry, status: standing, is_stream, lease: None };
        permit.status = permit.status.or_else(|| self.stream_status(permit.entry.streams().into())).or(quota);
        let Some(shared) = self.shared.as_ref().filter(|_| rule.is_some() || streams.is_some()) else {
            return Ok(permit);
        };
        // Before the call: however that ends, the permit's end ends the lease.
        permit.lease = is_stream.then(|| shared.lease(&self.settings.name, &permit.entry.subject));
        let question = self.shared_request(&permit.entry.subject, now);
        // Without an answer in time the decision of this node stands.
        let Ok(answer) = shared.take(&question, permit.lease).await else { return Ok(permit) };
        match (answer.verdict, rule) {
            (SharedLimitDecision::Granted, Some(_)) => permit.status = Some(answer.requests),
            (SharedLimitDecision::Granted, None) => permit.status = self.stream_status(answer.streams),
            (SharedLimitDecision::TooManyRequests, Some(rule)) => {
                permit.entry.mark_refused(rule, receipt, now + answer.requests.reset);
                return Err(LimitRejection { limit: LimitKind::Requests, status: answer.requests });
            }
            (SharedLimitDecision::TooManyStreams | SharedLimitDecision::TooManyRequests, rule) => {
                if let Some(rule) = rule {
                    // A time of the past: the requests are not exhausted, so only the permit is given back.
                    permit.entry.mark_refused(rule, receipt, UnixMillis::EPOCH);
                }
                return Err(self.too_many_streams());
            }
        }
        Ok(permit)
    }

    /// Returns the usage of `subject`; nothing is counted.
    pub async fn usage(&self, subject: &str) -> LimitUsage {
        let now = self.now();
        let entry = self.counters(subject, now);
        let rule = self.settings.requests.as_ref();
        let mut requests = rule.map(|rule| entry.request_status(rule, now));
        let mut under_way = u64::from(entry.streams());
        if let (Some(shared), true) = (&self.shared, rule.is_some() || self.settings.streams.is_some())
            && let Ok(answer) = shared.peek(&self.shared_request(&entry.subject, now)).await
        {
            requests = rule.map(|_| answer.requests);
            under_way = answer.streams;
        }
        LimitUsage {
            requests,
            streams: self.settings.streams.map(|most| (under_way, most)),
            egress: self.egress(&entry, now).await,
            bytes_per_second: self.settings.bandwidth.map(|bandwidth| bandwidth.rate),
        }
    }

    /// Returns the status of the quota of `entry`; the counts of other nodes are read now and again.
    async fn egress(&self, entry: &SubjectCounters, now: UnixMillis) -> Option<(RateLimitStatus, u64)> {
        let quota = self.settings.egress.as_ref()?;
        if entry.egress.claim_refresh(quota, now) {
            self.worker.read(&self.account(&entry.subject, now)?, &entry.egress, now).await;
        }
        let used = entry.egress.used(quota, now);
        let reset = egress::period_end(quota, now) - now;
        Some((RateLimitStatus { limit: quota.bytes, remaining: quota.bytes.saturating_sub(used), reset }, used))
    }

    /// Returns the account of `subject` in the period of `now`.
    pub fn account(&self, subject: &Arc<str>, now: UnixMillis) -> Option<EgressAccount> {
        let quota = self.settings.egress.as_ref()?;
        Some(EgressAccount {
            policy: Arc::clone(&self.settings.name),
            subject: Arc::clone(subject),
            period: egress::period(quota, now),
            ends: egress::period_end(quota, now),
            left: egress::period_end(quota, now) - now,
        })
    }

    fn shared_request<'a>(&'a self, subject: &'a str, now: UnixMillis) -> SharedLimitRequest<'a> {
        let settings = &self.settings;
        SharedLimitRequest {
            policy: &settings.name,
            subject,
            rule: settings.requests.as_ref(),
            streams: settings.streams,
            now,
        }
    }

    fn counters(&self, subject: &str, now: UnixMillis) -> Arc<SubjectCounters> {
        let keeps = self.worker.has_store();
        let egress = |egress: &EgressCounter| match &self.settings.egress {
            None => true,
            Some(quota) => egress.unsaved(egress::period(quota, now)) == 0 && (keeps || egress.used(quota, now) == 0),
        };
        let idle =
            IdleCriteria { rule: self.settings.requests.as_ref(), now, nanos: self.pacer_nanos(), egress: &egress };
        self.subjects.get_or_insert(subject, &idle)
    }

    fn stream_status(&self, under_way: u64) -> Option<RateLimitStatus> {
        let limit = u64::from(self.settings.streams?);
        Some(RateLimitStatus { limit, remaining: limit.saturating_sub(under_way), reset: Duration::ZERO })
    }

    fn too_many_streams(&self) -> LimitRejection {
        let limit = self.settings.streams.unwrap_or(0).into();
        LimitRejection {
            limit: LimitKind::Streams,
            status: RateLimitStatus { limit, remaining: 0, reset: STREAM_RETRY_AFTER },
        }
    }

    /// Returns the time now.
    pub fn now(&self) -> UnixMillis {
        self.clock.unix_millis()
    }

    /// Returns the nanoseconds since the start: pacing needs a clock that does not jump.
    fn pacer_nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl RateLimitPermit {
    /// Returns the status for the response: of requests, else of streams, else of the quota; `None` if the policy has
    /// none of them.
    pub fn status(&self) -> Option<RateLimitStatus> {
        self.status
    }

    /// Returns true if the permit has to be held to the end of the response's body.
    pub fn covers_body(&self) -> bool {
        self.is_stream || self.policy.settings.bandwidth.is_some() || self.policy.settings.egress.is_some()
    }

    /// Counts sent bytes of the response's body.
    pub fn record_sent(&self, bytes: u64) {
        let (Some(quota), keeper) = (&self.policy.settings.egress, &self.policy.worker) else { return };
        if self.entry.egress.add_sent(quota, bytes, self.policy.now(), keeper.has_store()) {
            keeper.save(&self.policy, &self.entry);
        }
    }

    /// Reserves the time that `bytes` need at the subject's rate; returns the wait before they are sent.
    pub fn reserve_bandwidth(&self, bytes: u64) -> Option<Duration> {
        let wait = self.entry.pacer.reserve(self.policy.settings.bandwidth.as_ref()?, bytes, self.policy.pacer_nanos());
        (!wait.is_zero()).then_some(wait)
    }

    /// Returns the chunk size under a bandwidth limit: a tenth of a second's bytes, so that they flow evenly.
    pub fn chunk_size(&self) -> Option<usize> {
        let rate = self.policy.settings.bandwidth.as_ref()?.rate;
        Some(usize::try_from(rate / 10).unwrap_or(usize::MAX).clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES))
    }
}

impl Drop for RateLimitPermit {
    fn drop(&mut self) {
        // Also when the request was cancelled: a drop is the only end that always comes.
        if self.is_stream {
            self.entry.end_stream();
        }
        if let Some(lease) = self.lease {
            self.policy.worker.release(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use prometheus::{IntCounter, Registry};

    use super::*;
    use crate::limit::metrics::LimitMetrics;
    use crate::limit::settings::EgressQuota;

    const PERIOD: Duration = Duration::from_secs(60);

    fn quota(clock: &Clock, ledger: Option<Arc<dyn egress::EgressStore>>) -> Arc<RateLimiter> {
        let settings = settings::RateLimitPolicy::quota(EgressQuota { bytes: 1000, period: PERIOD });
        let failures = IntCounter::new("failures", "for the test").expect("a counter");
        let (keeper, _worker) = LimitWorkerHandle::new(ledger, None, clock.clone(), failures);
        let metrics = LimitMetrics::new(&Registry::new()).expect("they register").policy("quota");
        let policy = RateLimiter::new(settings, clock.clone(), None, keeper, metrics);
        Arc::new(RateLimiter { subjects: SubjectTable::with_room(64), ..policy })
    }

    #[tokio::test]
    async fn a_subject_is_forgotten_once_its_period_is_over() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_040));
        let policy = quota(&clock, None);
        for number in 0..1000 {
            if let Ok(permit) = policy.admit(&format!("u:{number}")).await {
                permit.record_sent(10);
            }
        }
        let is_kept = |subject: &str| *policy.counters(subject, policy.now()).subject == *subject;
        assert!(!is_kept("u:new"), "there is no room");
        clock.advance(PERIOD);
        assert!(is_kept("u:new") && is_kept("u:another"));
    }

    /// A ledger that cannot be reached.
    struct Away;

    #[async_trait::async_trait]
    impl egress::EgressStore for Away {
        async fn read(&self, _: &EgressAccount) -> Result<u64, egress::EgressStoreError> {
            Err(egress::EgressStoreError("a test".to_owned()))
        }

        async fn add(&self, _: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, egress::EgressStoreError> {
            Err(egress::EgressStoreError("a test".to_owned()))
        }

        async fn delete_ended(&self, _: UnixMillis) -> Result<(), egress::EgressStoreError> {
            Err(egress::EgressStoreError("a test".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_quota_that_is_used_up_begins_anew_while_the_ledger_is_away() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_040));
        let policy = quota(&clock, Some(Arc::new(Away)));
        policy.admit("u:alice").await.expect("nothing is used").record_sent(1000);
        assert_eq!(policy.admit("u:alice").await.err().map(|refused| refused.limit), Some(LimitKind::Egress));
        for _ in 0..3 {
            clock.advance(PERIOD);
            policy.admit("u:alice").await.expect("the period is new").record_sent(1000);
        }
    }
}
