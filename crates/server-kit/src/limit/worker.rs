//! Background work of limits, in two tasks: one ends and renews leases of streams, the other saves egress, so that a
//! store that does not answer delays no lease.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use prometheus::IntCounter;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::egress::{EgressAccount, EgressCounter, EgressStore, EgressStoreError};
use super::rate_limiter::RateLimiter;
use super::retry_gate::RetryGate;
use super::shared_limits::{EndedLease, SharedLimits};
use super::subject_table::SubjectCounters;
use primitives::clock::Clock;
use primitives::unix_time::UnixMillis;

/// Interval of saving; with [`super::egress::TOTAL_TTL`] it is the delay after which another node knows of sent
/// bytes. Also the interval between two checks of the leases.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of renewing leases, which last three times as long.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(20);
/// Interval of deleting ended periods.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3_600);
/// Jobs per batch.
const BATCH: usize = 512;
/// Most subjects that wait to be saved, some hundred bytes each. The store must be away for long to see so many; further
/// ones are counted on this node.
const MAX_UNSAVED: usize = 1 << 18;

/// Handle that queues jobs, and reads the store for callers that wait for it.
#[derive(Clone)]
pub struct LimitWorkerHandle {
    ended: UnboundedSender<u64>,
    unsaved: UnboundedSender<UnsavedEgress>,
    store: Option<Arc<dyn EgressStore>>,
    retry_gate: Arc<RetryGate>,
    failures: IntCounter,
}

/// Subject with unsaved bytes under a policy.
type UnsavedEgress = (Arc<RateLimiter>, Arc<SubjectCounters>);
/// Worker of the jobs.
pub struct LimitWorker {
    leases: LeaseWorker,
    savings: EgressWorker,
}

/// Worker that ends and renews leases.
struct LeaseWorker {
    ended: UnboundedReceiver<u64>,
    shared: Option<Arc<SharedLimits>>,
    clock: Clock,
    /// Ended leases that Redis still has.
    unreported: Vec<EndedLease>,
    renewed: UnixMillis,
}

/// Worker that saves egress.
struct EgressWorker {
    jobs: UnboundedReceiver<UnsavedEgress>,
    handle: LimitWorkerHandle,
    clock: Clock,
    /// Unsaved egress, by the address of its counters, which are held here. Not by policy and subject: after a reload there
    /// are those of streams that began before it and others of the same name.
    unsaved: HashMap<usize, UnsavedEgress>,
    max_unsaved: usize,
    cleaned_up_at: UnixMillis,
}

impl LimitWorkerHandle {
    /// Creates a handle over `ledger`, and the worker that has to be run.
    pub fn new(
        ledger: Option<Arc<dyn EgressStore>>,
        shared: Option<Arc<SharedLimits>>,
        clock: Clock,
        failures: IntCounter,
    ) -> (Self, LimitWorker) {
        let ((ended, leases), (unsaved, jobs)) = (unbounded_channel(), unbounded_channel());
        let keeper = Self { ended, unsaved, store: ledger, retry_gate: Arc::default(), failures };
        let renewed = clock.unix_millis();
        let leases = LeaseWorker { ended: leases, shared, clock: clock.clone(), unreported: Vec::new(), renewed };
        let savings = EgressWorker {
            jobs,
            handle: keeper.clone(),
            clock,
            unsaved: HashMap::new(),
            max_unsaved: MAX_UNSAVED,
            cleaned_up_at: UnixMillis::EPOCH,
        };
        (keeper, LimitWorker { leases, savings })
    }

    /// Returns true if there is an egress store.
    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// Queues the end of a stream's lease.
    pub fn release(&self, lease: u64) {
        // The worker is gone only when the process ends.
        let _ = self.ended.send(lease);
    }

    /// Queues saving of the subject's bytes, if there is a store.
    pub fn save(&self, policy: &Arc<RateLimiter>, entry: &Arc<SubjectCounters>) {
        if self.has_store() {
            let _ = self.unsaved.send((Arc::clone(policy), Arc::clone(entry)));
        }
    }

    /// Reads the total of `account` into `egress`; without an answer the local count is used.
    pub async fn read(&self, account: &EgressAccount, egress: &EgressCounter, now: UnixMillis) {
        let Some(ledger) = &self.store else { return };
        if !self.retry_gate.may_try(now) {
            return;
        }
        match ledger.read(account).await {
            Ok(total) => {
                self.retry_gate.record_success();
                egress.mark_saved(account.period, 0, total, now);
            }
            Err(error) => self.record_failure(now, &error),
        }
    }

    fn record_failure(&self, now: UnixMillis, error: &EgressStoreError) {
        self.failures.inc();
        if self.retry_gate.record_failure(now) {
            tracing::warn!(%error, "egress cannot be read or saved at the moment; it is counted on this node");
        }
    }
}

impl LimitWorker {
    /// Works until `stopping` resolves, and then does the remaining jobs.
    pub async fn run(self, stopping: impl Future<Output = ()> + Send) {
        let stopping = stopping.shared();
        tokio::join!(self.leases.run(stopping.clone()), self.savings.run(stopping));
    }
}

impl LeaseWorker {
    async fn run(mut self, stopping: impl Future<Output = ()>) {
        let Some(shared) = self.shared.take() else { return };
        let (mut ticks, mut batch) = (save_ticks(), Vec::with_capacity(BATCH));
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                () = &mut stopping => break,
                count = self.ended.recv_many(&mut batch, BATCH) => match count {
                    0 => break,
                    _ => self.release(&shared, &mut batch).await,
                },
                _ = ticks.tick() => {
                    self.release(&shared, &mut batch).await;
                    self.renew(&shared).await;
                }
            }
        }
        // Jobs that were queued before the stop are still done.
        while let Ok(lease) = self.ended.try_recv() {
            batch.push(lease);
        }
        self.release(&shared, &mut batch).await;
    }

    async fn release(&mut self, shared: &SharedLimits, batch: &mut Vec<u64>) {
        let now = self.clock.unix_millis();
        self.unreported.extend(shared.end(batch.drain(..), now));
        shared.release(&mut self.unreported, now).await;
    }

    /// Renews the leases if it is time, by the clock and not by the number of checks: a lease expires by the clock too.
    /// A failure is tried again at the next check.
    async fn renew(&mut self, shared: &SharedLimits) {
        let now = self.clock.unix_millis();
        // A clock that was put back is a reason to renew as well.
        if now.abs_diff(self.renewed) >= RENEWAL_INTERVAL && shared.renew(now).await {
            self.renewed = now;
        }
    }
}

impl EgressWorker {
    async fn run(mut self, stopping: impl Future<Output = ()>) {
        let (mut ticks, mut batch) = (save_ticks(), Vec::with_capacity(BATCH));
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                () = &mut stopping => break,
                _ = self.jobs.recv_many(&mut batch, BATCH) => self.take(&mut batch),
                _ = ticks.tick() => {
                    self.save().await;
                    self.delete_ended().await;
                }
            }
        }
        while let Ok(job) = self.jobs.try_recv() {
            batch.push(job);
        }
        self.take(&mut batch);
        self.save().await;
    }

    fn take(&mut self, batch: &mut Vec<UnsavedEgress>) {
        let now = self.clock.unix_millis();
        for (policy, entry) in batch.drain(..) {
            let counters = Arc::as_ptr(&entry).addr();
            if self.unsaved.len() >= self.max_unsaved && !self.unsaved.contains_key(&counters) {
                if let Some((account, amount)) = unsaved_amount(&policy, &entry, now) {
                    entry.egress.mark_unsavable(account.period, amount);
                }
                continue;
            }
            // One entry per counters, however often they were queued.
            self.unsaved.insert(counters, (policy, entry));
        }
    }

    async fn delete_ended(&mut self) {
        let now = self.clock.unix_millis();
        if let Some(ledger) =
            self.handle.store.as_ref().filter(|_| now.abs_diff(self.cleaned_up_at) >= CLEANUP_INTERVAL)
        {
            self.cleaned_up_at = now;
            // A failure is ignored: the next run is in an hour.
            let _ = ledger.delete_ended(now).await;
        }
    }

    async fn save(&mut self) {
        let now = self.clock.unix_millis();
        // Also while the store is away: what was sent in a period that has ended is no more asked for.
        self.unsaved.retain(|_, (policy, entry)| unsaved_amount(policy, entry, now).is_some());
        let (Some(ledger), false) = (&self.handle.store, self.unsaved.is_empty()) else { return };
        let mut open: Vec<_> = self.unsaved.values().cloned().collect();
        // In one order on all nodes, or their transactions would wait for each other.
        open.sort_by(|(_, one), (_, other)| one.subject.cmp(&other.subject));
        for chunk in open.chunks(BATCH) {
            let owed = chunk.iter().filter_map(|counted| {
                let (policy, entry) = counted;
                Some((counted, unsaved_amount(policy, entry, now)?))
            });
            let (entries, amounts): (Vec<&_>, Vec<(EgressAccount, u64)>) = owed.unzip();
            if !amounts.is_empty() {
                let totals = match ledger.add(&amounts).await {
                    Ok(totals) => totals,
                    Err(error) => return self.handle.record_failure(now, &error),
                };
                self.handle.retry_gate.record_success();
                for (((policy, entry), (account, amount)), total) in entries.into_iter().zip(&amounts).zip(totals) {
                    match total {
                        Some(total) => entry.egress.mark_saved(account.period, *amount, total, now),
                        None => {
                            let (policy, subject) = (&policy.settings().name, &entry.subject);
                            tracing::warn!(%policy, ?subject, "egress of this subject cannot be saved; it is counted on this node");
                            entry.egress.mark_unsavable(account.period, *amount);
                        }
                    }
                }
            }
            for (policy, entry) in chunk {
                if unsaved_amount(policy, entry, now).is_none() {
                    self.unsaved.remove(&Arc::as_ptr(entry).addr());
                }
            }
        }
    }
}

/// Returns the account and the bytes of a subject that are to be saved in the period of `now`; `None` if there are none.
fn unsaved_amount(policy: &RateLimiter, entry: &SubjectCounters, now: UnixMillis) -> Option<(EgressAccount, u64)> {
    let account = policy.account(&entry.subject, now)?;
    let amount = entry.egress.unsaved(account.period);
    (amount > 0).then_some((account, amount))
}

fn save_ticks() -> Interval {
    let mut ticks = interval(SAVE_INTERVAL);
    // One run is enough after a delay: it does all that has gathered.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use prometheus::Registry;

    use super::*;
    use crate::limit::metrics::LimitMetrics;
    use crate::limit::settings::{EgressQuota, RateLimitPolicy};

    const PERIOD: Duration = Duration::from_secs(60);

    /// A ledger that cannot be reached.
    struct Away;

    #[async_trait::async_trait]
    impl EgressStore for Away {
        async fn read(&self, _: &EgressAccount) -> Result<u64, EgressStoreError> {
            Err(EgressStoreError("a test".to_owned()))
        }

        async fn add(&self, _: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, EgressStoreError> {
            Err(EgressStoreError("a test".to_owned()))
        }

        async fn delete_ended(&self, _: UnixMillis) -> Result<(), EgressStoreError> {
            Err(EgressStoreError("a test".to_owned()))
        }
    }

    /// A policy over a ledger that is away, and the worker that is to save what it counts.
    fn away(clock: &Clock) -> (Arc<RateLimiter>, EgressWorker) {
        let failures = IntCounter::new("failures", "for the test").expect("a counter");
        let (handle, worker) = LimitWorkerHandle::new(Some(Arc::new(Away)), None, clock.clone(), failures);
        let settings = RateLimitPolicy::quota(EgressQuota { bytes: 1000, period: PERIOD });
        let metrics = LimitMetrics::new(&Registry::new()).expect("they register").policy("quota");
        (Arc::new(RateLimiter::new(settings, clock.clone(), None, handle, metrics)), worker.savings)
    }

    async fn send(policy: &Arc<RateLimiter>, worker: &mut EgressWorker, subjects: std::ops::Range<usize>) {
        for number in subjects {
            policy.admit(&format!("u:{number}")).await.expect("nothing is used up").record_sent(10);
        }
        let mut batch = Vec::new();
        while let Ok(job) = worker.jobs.try_recv() {
            batch.push(job);
        }
        worker.take(&mut batch);
        worker.save().await;
    }

    #[tokio::test]
    async fn while_the_ledger_is_away_nothing_waits_for_it_longer_than_its_period() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_040));
        let (policy, mut worker) = away(&clock);
        for _ in 0..3 {
            send(&policy, &mut worker, 0..1000).await;
            assert_eq!(worker.unsaved.len(), 1000);
            clock.advance(PERIOD);
        }
        send(&policy, &mut worker, 0..1).await;
        assert_eq!(worker.unsaved.len(), 1);
    }

    #[tokio::test]
    async fn of_more_subjects_than_can_wait_the_others_are_counted_here() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_040));
        let (policy, mut worker) = away(&clock);
        worker.max_unsaved = 100;
        send(&policy, &mut worker, 0..1000).await;
        assert_eq!(worker.unsaved.len(), 100);
        for number in [0, 999] {
            let used = policy.usage(&format!("u:{number}")).await.egress.map(|(_, used)| used);
            assert_eq!(used, Some(10), "{number}");
        }
    }
}
