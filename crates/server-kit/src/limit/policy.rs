//! One policy at work: it is decided here first, which is exact for one node; what passes here and is shared is then
//! decided by Redis. A refusal here is one there too, since a node never counts more than all nodes do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::egress::{self, Account, Egress};
use super::keeper::Keeper;
use super::metrics::PolicyMetrics;
use super::rule::Standing;
use super::settings;
use super::shared::{Question, Shared, Verdict};
use super::subject::{self, Who};
use super::table::{Entry, Idle, Spent, Table};
use primitives::clock::Clock;

/// What a refused stream is told to wait: when one ends, nobody knows.
const STREAM_WAIT: Duration = Duration::from_secs(1);
/// Bytes that are sent at once under a speed: fewer cost more for each byte.
const SMALLEST_PIECE: usize = 4 * 1024;
/// As above, at most.
const LARGEST_PIECE: usize = 64 * 1024;

/// A policy and all that it has counted.
pub struct Policy {
    settings: settings::Policy,
    table: Table,
    clock: Clock,
    started: Instant,
    shared: Option<Arc<Shared>>,
    keeper: Keeper,
    metrics: PolicyMetrics,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too many requests.
    Requests,
    /// Too many streams at once.
    Streams,
    /// The period's quota is used up.
    Egress,
}

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it is about.
    pub cause: Cause,
    /// How the subject stands with it; `reset` is when to try again.
    pub standing: Standing,
}

/// The leave to make a request; it is held to the end of the answer.
pub struct Permit {
    policy: Arc<Policy>,
    entry: Arc<Entry>,
    standing: Option<Standing>,
    is_stream: bool,
    lease: Option<u64>,
}

/// How a subject stands with a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// With its requests.
    pub requests: Option<Standing>,
    /// Streams under way, and how many may be.
    pub streams: Option<(u64, u32)>,
    /// With its bytes in this period, and how many those are: what is under way may go beyond the limit.
    pub egress: Option<(Standing, u64)>,
    /// Bytes a second that its streams share.
    pub bytes_per_second: Option<u64>,
}

impl Policy {
    /// A policy that has counted nothing yet.
    pub fn new(
        settings: settings::Policy,
        clock: Clock,
        shared: Option<Arc<Shared>>,
        keeper: Keeper,
        metrics: PolicyMetrics,
    ) -> Self {
        Self { settings, table: Table::default(), clock, started: Instant::now(), shared, keeper, metrics }
    }

    /// What the operator says.
    pub fn settings(&self) -> &settings::Policy {
        &self.settings
    }

    /// Whose count a request of `who` falls into.
    pub fn subject(&self, who: &Who<'_>) -> String {
        subject::of(&self.settings.partition, who)
    }

    /// Lets a request of `subject` through, or not.
    pub async fn admit(self: &Arc<Self>, subject: &str) -> Result<Permit, Refused> {
        let admitted = self.decide(subject).await;
        match &admitted {
            Ok(_) => self.metrics.allowed.inc(),
            Err(refused) => match refused.cause {
                Cause::Requests => self.metrics.requests.inc(),
                Cause::Streams => self.metrics.streams.inc(),
                Cause::Egress => self.metrics.egress.inc(),
            },
        }
        admitted
    }

    async fn decide(self: &Arc<Self>, subject: &str) -> Result<Permit, Refused> {
        let now = self.now();
        let entry = self.entry(subject, now);
        let quota = self.egress(&entry, now).await.map(|(standing, _)| standing);
        if let Some(standing) = quota.filter(|it| it.remaining == 0) {
            return Err(Refused { cause: Cause::Egress, standing });
        }
        let (rule, streams) = (self.settings.requests.as_ref(), self.settings.streams);
        let (standing, receipt) = entry.take(rule, streams, now).map_err(|spent| match spent {
            Spent::Requests(standing) => Refused { cause: Cause::Requests, standing },
            Spent::Streams => self.too_many_streams(),
        })?;
        let is_stream = streams.is_some();
        let mut permit = Permit { policy: Arc::clone(self), entry, standing, is_stream, lease: None };
        permit.standing = permit.standing.or_else(|| self.stream_standing(permit.entry.streams().into())).or(quota);
        let Some(shared) = self.shared.as_ref().filter(|_| rule.is_some() || streams.is_some()) else {
            return Ok(permit);
        };
        // Before the call: however that ends, the permit's end ends the lease.
        permit.lease = is_stream.then(|| shared.lease(&self.settings.name, &permit.entry.subject));
        let question = self.question(&permit.entry.subject, now);
        let Ok(answer) = shared.take(&question, permit.lease).await else { return Ok(permit) };
        match (answer.verdict, rule) {
            (Verdict::Granted, Some(_)) => permit.standing = Some(answer.requests),
            (Verdict::Granted, None) => permit.standing = self.stream_standing(answer.streams),
            (Verdict::TooManyRequests, Some(rule)) => {
                let until = now + u64::try_from(answer.requests.reset.as_millis()).unwrap_or(0);
                permit.entry.refused(rule, receipt, until);
                return Err(Refused { cause: Cause::Requests, standing: answer.requests });
            }
            (Verdict::TooManyStreams | Verdict::TooManyRequests, rule) => {
                if let Some(rule) = rule {
                    permit.entry.refused(rule, receipt, 0);
                }
                return Err(self.too_many_streams());
            }
        }
        Ok(permit)
    }

    /// How `subject` stands; nothing is taken.
    pub async fn usage(&self, subject: &str) -> Usage {
        let now = self.now();
        let entry = self.entry(subject, now);
        let rule = self.settings.requests.as_ref();
        let mut requests = rule.map(|rule| entry.standing(rule, now));
        let mut under_way = u64::from(entry.streams());
        if let (Some(shared), true) = (&self.shared, rule.is_some() || self.settings.streams.is_some())
            && let Ok(answer) = shared.look(&self.question(&entry.subject, now)).await
        {
            requests = rule.map(|_| answer.requests);
            under_way = answer.streams;
        }
        Usage {
            requests,
            streams: self.settings.streams.map(|most| (under_way, most)),
            egress: self.egress(&entry, now).await,
            bytes_per_second: self.settings.bandwidth.map(|bandwidth| bandwidth.rate),
        }
    }

    /// How `entry` stands with its quota; what other nodes have counted is asked for now and again.
    async fn egress(&self, entry: &Entry, now: u64) -> Option<(Standing, u64)> {
        let quota = self.settings.egress.as_ref()?;
        if entry.egress.is_due(quota, now) {
            self.keeper.read(&self.account(&entry.subject, now)?, &entry.egress, now).await;
        }
        let used = entry.egress.used(quota, now);
        let reset = Duration::from_millis(egress::ends(quota, now) - now);
        Some((Standing { limit: quota.bytes, remaining: quota.bytes.saturating_sub(used), reset }, used))
    }

    /// The account of `subject` in the period of `now`.
    pub fn account(&self, subject: &Arc<str>, now: u64) -> Option<Account> {
        let quota = self.settings.egress.as_ref()?;
        Some(Account {
            policy: Arc::clone(&self.settings.name),
            subject: Arc::clone(subject),
            period: egress::period(quota, now),
            ends: egress::ends(quota, now),
            left: egress::ends(quota, now) - now,
        })
    }

    fn question<'a>(&'a self, subject: &'a str, now: u64) -> Question<'a> {
        let settings = &self.settings;
        Question { policy: &settings.name, subject, rule: settings.requests.as_ref(), streams: settings.streams, now }
    }

    fn entry(&self, subject: &str, now: u64) -> Arc<Entry> {
        let keeps = self.keeper.keeps();
        let egress = |egress: &Egress| match &self.settings.egress {
            None => true,
            Some(quota) => egress.unsaved(egress::period(quota, now)) == 0 && (keeps || egress.used(quota, now) == 0),
        };
        let idle = Idle { rule: self.settings.requests.as_ref(), now, nanos: self.nanos(), egress: &egress };
        self.table.entry(subject, &idle)
    }

    fn stream_standing(&self, under_way: u64) -> Option<Standing> {
        let limit = u64::from(self.settings.streams?);
        Some(Standing { limit, remaining: limit.saturating_sub(under_way), reset: Duration::ZERO })
    }

    fn too_many_streams(&self) -> Refused {
        let limit = self.settings.streams.unwrap_or(0).into();
        Refused { cause: Cause::Streams, standing: Standing { limit, remaining: 0, reset: STREAM_WAIT } }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.clock.unix_millis().cast_unsigned()
    }

    /// Nanoseconds since the start: what is paced must not jump.
    fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Permit {
    /// What the answer says of the limit: of requests, else of streams, else of the quota; `None` where the policy has none
    /// of them.
    pub fn standing(&self) -> Option<Standing> {
        self.standing
    }

    /// Whether it has to be kept to the end of the answer's body.
    pub fn outlives_head(&self) -> bool {
        self.is_stream || self.policy.settings.bandwidth.is_some() || self.policy.settings.egress.is_some()
    }

    /// Counts `bytes` of the answer's body that were sent.
    pub fn sent(&self, bytes: u64) {
        let (Some(quota), keeper) = (&self.policy.settings.egress, &self.policy.keeper) else { return };
        if self.entry.egress.sent(quota, bytes, self.policy.now(), keeper.keeps()) {
            keeper.save(&self.policy, &self.entry);
        }
    }

    /// Takes the time that `bytes` need at the subject's speed; how long to wait before they are sent.
    pub fn pace(&self, bytes: u64) -> Option<Duration> {
        let wait = self.entry.pace.take(self.policy.settings.bandwidth.as_ref()?, bytes, self.policy.nanos());
        (!wait.is_zero()).then_some(wait)
    }

    /// Bytes that are sent at once where the subject has a speed: a tenth of a second's, so that they flow evenly.
    pub fn piece(&self) -> Option<usize> {
        let rate = self.policy.settings.bandwidth.as_ref()?.rate;
        Some(usize::try_from(rate / 10).unwrap_or(usize::MAX).clamp(SMALLEST_PIECE, LARGEST_PIECE))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_stream {
            self.entry.end_stream();
        }
        if let Some(lease) = self.lease {
            self.policy.keeper.release(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use prometheus::{IntCounter, Registry};

    use super::*;
    use crate::limit::metrics::LimitMetrics;
    use crate::limit::settings::{EgressQuota, Partition};

    const PERIOD: Duration = Duration::from_secs(60);

    fn quota(clock: &Clock, ledger: Option<Arc<dyn egress::Ledger>>) -> Arc<Policy> {
        let settings = settings::Policy {
            name: "quota".into(),
            requests: None,
            streams: None,
            bandwidth: None,
            egress: Some(EgressQuota { bytes: 1000, period: PERIOD }),
            partition: Partition::User,
        };
        let failures = IntCounter::new("failures", "for the test").expect("a counter");
        let (keeper, _worker) = Keeper::new(ledger, None, clock.clone(), failures);
        let metrics = LimitMetrics::new(&Registry::new()).expect("they register").policy("quota");
        let policy = Policy::new(settings, clock.clone(), None, keeper, metrics);
        Arc::new(Policy { table: Table::with_room(64), ..policy })
    }

    #[tokio::test]
    async fn a_subject_is_forgotten_once_its_period_is_over() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_040));
        let policy = quota(&clock, None);
        for number in 0..1000 {
            if let Ok(permit) = policy.admit(&format!("u:{number}")).await {
                permit.sent(10);
            }
        }
        let is_kept = |subject: &str| *policy.entry(subject, policy.now()).subject == *subject;
        assert!(!is_kept("u:new"), "there is no room");
        clock.advance(PERIOD);
        assert!(is_kept("u:new") && is_kept("u:another"));
    }

    /// A ledger that cannot be reached.
    struct Away;

    #[async_trait::async_trait]
    impl egress::Ledger for Away {
        async fn read(&self, _: &Account) -> Result<u64, egress::Unavailable> {
            Err(egress::Unavailable("a test".to_owned()))
        }

        async fn add(&self, _: &[(Account, u64)]) -> Result<Vec<u64>, egress::Unavailable> {
            Err(egress::Unavailable("a test".to_owned()))
        }

        async fn forget(&self, _: u64) -> Result<(), egress::Unavailable> {
            Err(egress::Unavailable("a test".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_quota_that_is_used_up_begins_anew_while_the_ledger_is_away() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_040));
        let policy = quota(&clock, Some(Arc::new(Away)));
        policy.admit("u:alice").await.expect("nothing is used").sent(1000);
        assert_eq!(policy.admit("u:alice").await.err().map(|refused| refused.cause), Some(Cause::Egress));
        for _ in 0..3 {
            clock.advance(PERIOD);
            policy.admit("u:alice").await.expect("the period is new").sent(1000);
        }
    }
}
