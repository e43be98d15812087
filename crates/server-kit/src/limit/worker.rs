//! What limits do beside requests, in two tasks: leases of streams are ended and renewed in one, egress is saved in the
//! other, so that a ledger that does not answer holds up no lease.

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

/// Between two savings; with [`super::egress::TOTAL_TTL_MILLIS`] it is how late another node hears of what was sent. Also between two
/// looks at whether leases have to be renewed.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// Between two renewals of the leases, which last three times as long, in milliseconds.
const RENEWAL_INTERVAL_MILLIS: u64 = 20_000;
/// Between two looks for periods that have ended, in milliseconds.
const CLEANUP_INTERVAL_MILLIS: u64 = 3_600_000;
/// Jobs taken at once.
const BATCH: usize = 512;

/// Takes jobs, and reads the ledger for those who wait for it.
#[derive(Clone)]
pub struct LimitWorkerHandle {
    ended: UnboundedSender<u64>,
    unsaved: UnboundedSender<UnsavedEgress>,
    store: Option<Arc<dyn EgressStore>>,
    retry_gate: Arc<RetryGate>,
    failures: IntCounter,
}

/// A subject that was sent something under a policy.
type UnsavedEgress = (Arc<RateLimiter>, Arc<SubjectCounters>);
/// A policy's and a subject's name.
type PolicyAndSubject = (Arc<str>, Arc<str>);

/// Does the jobs.
pub struct LimitWorker {
    leases: LeaseWorker,
    savings: EgressWorker,
}

/// Ends and renews leases.
struct LeaseWorker {
    ended: UnboundedReceiver<u64>,
    shared: Option<Arc<SharedLimits>>,
    clock: Clock,
    /// Ended, and Redis has not been told yet.
    unreported: Vec<EndedLease>,
    renewed: u64,
}

/// Saves egress.
struct EgressWorker {
    jobs: UnboundedReceiver<UnsavedEgress>,
    handle: LimitWorkerHandle,
    clock: Clock,
    /// What has to be saved, by policy and subject.
    unsaved: HashMap<PolicyAndSubject, UnsavedEgress>,
    cleaned_up_at: u64,
}

impl LimitWorkerHandle {
    /// A keeper over `ledger`, and the worker that has to be run.
    pub fn new(
        ledger: Option<Arc<dyn EgressStore>>,
        shared: Option<Arc<SharedLimits>>,
        clock: Clock,
        failures: IntCounter,
    ) -> (Self, LimitWorker) {
        let ((ended, leases), (unsaved, jobs)) = (unbounded_channel(), unbounded_channel());
        let keeper = Self { ended, unsaved, store: ledger, retry_gate: Arc::default(), failures };
        let renewed = now(&clock);
        let leases = LeaseWorker { ended: leases, shared, clock: clock.clone(), unreported: Vec::new(), renewed };
        let savings = EgressWorker { jobs, handle: keeper.clone(), clock, unsaved: HashMap::new(), cleaned_up_at: 0 };
        (keeper, LimitWorker { leases, savings })
    }

    /// Whether there is a ledger.
    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// Has the stream's lease ended.
    pub fn release(&self, lease: u64) {
        // The worker is gone only when the process ends.
        let _ = self.ended.send(lease);
    }

    /// Has saved what the subject was sent, where there is a ledger.
    pub fn save(&self, policy: &Arc<RateLimiter>, entry: &Arc<SubjectCounters>) {
        if self.has_store() {
            let _ = self.unsaved.send((Arc::clone(policy), Arc::clone(entry)));
        }
    }

    /// Reads what `account` has into `egress`; without an answer what is counted here has to do.
    pub async fn read(&self, account: &EgressAccount, egress: &EgressCounter, now: u64) {
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

    fn record_failure(&self, now: u64, error: &EgressStoreError) {
        self.failures.inc();
        if self.retry_gate.record_failure(now) {
            tracing::warn!(%error, "egress cannot be read or saved at the moment; it is counted on this node");
        }
    }
}

impl LimitWorker {
    /// Works until `stopping` resolves, and then does what is left.
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
        while let Ok(lease) = self.ended.try_recv() {
            batch.push(lease);
        }
        self.release(&shared, &mut batch).await;
    }

    async fn release(&mut self, shared: &SharedLimits, batch: &mut Vec<u64>) {
        let now = now(&self.clock);
        self.unreported.extend(shared.end(batch.drain(..), now));
        shared.release(&mut self.unreported, now).await;
    }

    /// By the clock, and not by how often it was looked at: a lease ends by the clock too. What failed is tried again at
    /// the next look.
    async fn renew(&mut self, shared: &SharedLimits) {
        let now = now(&self.clock);
        // A clock that was put back is a reason to renew as well.
        if now.abs_diff(self.renewed) >= RENEWAL_INTERVAL_MILLIS && shared.renew(now).await {
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
        for (policy, entry) in batch.drain(..) {
            let name = (Arc::clone(&policy.settings().name), Arc::clone(&entry.subject));
            self.unsaved.insert(name, (policy, entry));
        }
    }

    async fn delete_ended(&mut self) {
        let now = now(&self.clock);
        if let Some(ledger) =
            self.handle.store.as_ref().filter(|_| now.abs_diff(self.cleaned_up_at) >= CLEANUP_INTERVAL_MILLIS)
        {
            self.cleaned_up_at = now;
            // What is not forgotten now is an hour later.
            let _ = ledger.delete_ended(now).await;
        }
    }

    async fn save(&mut self) {
        let (Some(ledger), false) = (&self.handle.store, self.unsaved.is_empty()) else { return };
        let now = now(&self.clock);
        let mut open: Vec<_> = self.unsaved.values().cloned().collect();
        // In one order on all nodes, or their transactions would wait for each other.
        open.sort_by(|(_, one), (_, other)| one.subject.cmp(&other.subject));
        for chunk in open.chunks(BATCH) {
            let owed = chunk.iter().filter_map(|counted| {
                let (policy, entry) = counted;
                let account = policy.account(&entry.subject, now)?;
                let amount = entry.egress.unsaved(account.period);
                (amount > 0).then_some((counted, (account, amount)))
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
                if policy.account(&entry.subject, now).is_none_or(|account| entry.egress.unsaved(account.period) == 0) {
                    self.unsaved.remove(&(Arc::clone(&policy.settings().name), Arc::clone(&entry.subject)));
                }
            }
        }
    }
}

fn save_ticks() -> Interval {
    let mut ticks = interval(SAVE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn now(clock: &Clock) -> u64 {
    clock.unix_millis().cast_unsigned()
}
