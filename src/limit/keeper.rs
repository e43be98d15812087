//! What limits do beside requests: leases of streams are ended and renewed, egress is saved.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use super::egress::{Account, Egress, Ledger};
use super::policy::Policy;
use super::rest::Rest;
use super::shared::Shared;
use super::table::Entry;
use crate::clock::Clock;

/// Between two savings; with [`super::egress::FRESH`] it is how late another node hears of what was sent.
const SAVING: Duration = Duration::from_millis(500);
/// Savings between two renewals of the leases, which last three times as long.
const RENEWAL: u64 = 40;
/// Savings between two looks for periods that have ended.
const FORGETTING: u64 = 7200;
/// Jobs taken at once.
const BATCH: usize = 512;

/// Something to be done soon.
pub enum Job {
    /// A stream has ended.
    Release(u64),
    /// A subject was sent something.
    Save(Arc<Policy>, Arc<Entry>),
}

/// Takes jobs, and reads the ledger for those who wait for it.
#[derive(Clone)]
pub struct Keeper {
    jobs: UnboundedSender<Job>,
    ledger: Option<Arc<dyn Ledger>>,
    rest: Arc<Rest>,
    failures: IntCounter,
}

/// A policy's and a subject's name.
type Name = (Arc<str>, Arc<str>);

/// Does the jobs.
pub struct Worker {
    jobs: UnboundedReceiver<Job>,
    keeper: Keeper,
    shared: Option<Arc<Shared>>,
    clock: Clock,
    /// What has to be saved, by policy and subject.
    unsaved: HashMap<Name, (Arc<Policy>, Arc<Entry>)>,
}

impl Keeper {
    /// A keeper over `ledger`, and the worker that has to be run.
    pub fn new(
        ledger: Option<Arc<dyn Ledger>>,
        shared: Option<Arc<Shared>>,
        clock: Clock,
        failures: IntCounter,
    ) -> (Self, Worker) {
        let (sender, jobs) = unbounded_channel();
        let keeper = Self { jobs: sender, ledger, rest: Arc::default(), failures };
        let worker = Worker { jobs, keeper: keeper.clone(), shared, clock, unsaved: HashMap::new() };
        (keeper, worker)
    }

    /// Whether there is a ledger.
    pub fn keeps(&self) -> bool {
        self.ledger.is_some()
    }

    /// Has `job` done, where there is anything to be done.
    pub fn ask(&self, job: Job) {
        if matches!(job, Job::Release(_)) || self.keeps() {
            // The worker is gone only when the process ends.
            let _ = self.jobs.send(job);
        }
    }

    /// Reads what `account` has into `egress`; without an answer what is counted here has to do.
    pub async fn read(&self, account: &Account, egress: &Egress, now: u64) {
        let Some(ledger) = &self.ledger else { return };
        if !self.rest.may_try(now) {
            return;
        }
        match ledger.read(account).await {
            Ok(total) => {
                self.rest.worked();
                egress.is_saved(0, total, now);
            }
            Err(_) => self.failed(now),
        }
    }

    fn failed(&self, now: u64) {
        self.failures.inc();
        if self.rest.failed(now) {
            tracing::warn!("egress cannot be read or saved at the moment; it is counted on this node");
        }
    }
}

impl Worker {
    /// Works until `stopping` resolves, and then saves what is left.
    pub async fn run(mut self, stopping: impl Future<Output = ()>) {
        let mut ticks = interval(SAVING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut round, mut batch) = (0_u64, Vec::with_capacity(BATCH));
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                () = &mut stopping => break,
                _ = self.jobs.recv_many(&mut batch, BATCH) => self.take(&mut batch).await,
                _ = ticks.tick() => {
                    self.save().await;
                    self.tidy(round).await;
                    round += 1;
                }
            }
        }
        while let Ok(job) = self.jobs.try_recv() {
            batch.push(job);
        }
        self.take(&mut batch).await;
        self.save().await;
    }

    async fn take(&mut self, batch: &mut Vec<Job>) {
        let mut ended = Vec::new();
        for job in batch.drain(..) {
            match job {
                Job::Release(lease) => ended.push(lease),
                Job::Save(policy, entry) => {
                    let key = (Arc::clone(&policy.settings().name), Arc::clone(&entry.subject));
                    self.unsaved.insert(key, (policy, entry));
                }
            }
        }
        if let (Some(shared), false) = (&self.shared, ended.is_empty()) {
            shared.release(&ended, self.now()).await;
        }
    }

    async fn tidy(&self, round: u64) {
        let now = self.now();
        if let Some(shared) = self.shared.as_ref().filter(|_| round.is_multiple_of(RENEWAL)) {
            shared.renew(now).await;
        }
        if let Some(ledger) = self.keeper.ledger.as_ref().filter(|_| round.is_multiple_of(FORGETTING)) {
            // What is not forgotten now is an hour later.
            let _ = ledger.forget(now).await;
        }
    }

    async fn save(&mut self) {
        let (Some(ledger), false) = (&self.keeper.ledger, self.unsaved.is_empty()) else { return };
        let now = self.now();
        let mut open: Vec<_> = self.unsaved.values().cloned().collect();
        // In one order on all nodes, or their transactions would wait for each other.
        open.sort_by(|(_, one), (_, other)| one.subject.cmp(&other.subject));
        for chunk in open.chunks(BATCH) {
            let amounts: Vec<(Account, u64)> = chunk
                .iter()
                .filter_map(|(policy, entry)| Some((policy.account(&entry.subject, now)?, entry.egress.unsaved())))
                .collect();
            let Ok(totals) = ledger.add(&amounts).await else { return self.keeper.failed(now) };
            self.keeper.rest.worked();
            for (((policy, entry), (_, amount)), total) in chunk.iter().zip(&amounts).zip(totals) {
                entry.egress.is_saved(*amount, total, now);
                if entry.egress.unsaved() == 0 {
                    self.unsaved.remove(&(Arc::clone(&policy.settings().name), Arc::clone(&entry.subject)));
                }
            }
        }
    }

    fn now(&self) -> u64 {
        self.clock.unix_millis().cast_unsigned()
    }
}
