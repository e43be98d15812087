//! Limits on who asks: requests in a time, streams at once, bytes a second, bytes in a period.
//!
//! Owns the policies and what they have counted, in memory or shared through Redis. Knows nothing of routes, statuses or
//! HTTP: a [`policy::Refused`] is turned into an answer by the caller, in the proxy and in the API alike. Redis and the
//! database are known by the adapters `shared` and `ledger` only. Semantics: .NET's
//! `System.Threading.RateLimiting`, whose names the configuration has.

pub mod egress;
mod guesses;
mod keeper;
pub mod ledger;
pub mod metrics;
mod pace;
pub mod policy;
mod rest;
mod rule;
pub mod settings;
mod shared;
pub mod subject;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use guesses::Guesses;
pub use keeper::Worker;
pub use rule::Standing;

use crate::redis::Redis;
use egress::Ledger;
use keeper::Keeper;
use metrics::LimitMetrics;
use policy::Policy;
use primitives::clock::Clock;
use settings::Settings;
use shared::Shared;

/// All policies.
pub struct Limits {
    policies: BTreeMap<Arc<str>, Arc<Policy>>,
    guesses: Guesses,
}

impl Limits {
    /// The policies of `settings`, shared through Redis where there is one, which has so long to
    /// answer; egress is kept in `ledger`. The worker has
    /// to be run.
    pub fn new(
        settings: &Settings,
        clock: &Clock,
        redis: Option<(Redis, Duration)>,
        ledger: Option<Arc<dyn Ledger>>,
        metrics: &LimitMetrics,
    ) -> (Self, Worker) {
        let shared = redis.map(|(redis, budget)| Arc::new(Shared::new(redis, budget, metrics.shared())));
        let (keeper, worker) = Keeper::new(ledger, shared.clone(), clock.clone(), metrics.ledger().clone());
        let policy = |settings: &settings::Policy| {
            let (name, counters) = (Arc::clone(&settings.name), metrics.policy(&settings.name));
            let policy = Policy::new(settings.clone(), clock.clone(), shared.clone(), keeper.clone(), counters);
            (name, Arc::new(policy))
        };
        (Self { policies: settings.iter().map(policy).collect(), guesses: Guesses::new(clock.clone()) }, worker)
    }

    /// The policy of that name.
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }

    /// All policies, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// Tokens that were not valid.
    pub fn guesses(&self) -> &Guesses {
        &self.guesses
    }
}
