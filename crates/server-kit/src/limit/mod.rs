//! Limits of a subject: requests in a time, streams at once, bytes per second, bytes in a period.
//!
//! Owns the policies and their counts, in memory or shared through Redis. Knows nothing of routes, statuses or HTTP:
//! the caller turns a [`rate_limiter::LimitRejection`] into a response, in the proxy and in the API alike. Redis and
//! the database are known by the adapters `shared_limits` and `egress_store` only. Semantics: .NET's
//! `System.Threading.RateLimiting`, whose names the configuration has.

pub mod egress;
pub mod egress_store;
mod invalid_tokens;
pub mod metrics;
mod pacer;
pub mod rate_limiter;
mod request_counter;
mod retry_gate;
pub mod settings;
mod shared_limits;
pub mod stream_limits;
pub mod subject;
mod subject_table;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

pub use invalid_tokens::InvalidTokenCounter;
pub use request_counter::RateLimitStatus;
pub use worker::LimitWorker;

use crate::redis::Redis;
use egress::EgressStore;
use metrics::LimitMetrics;
use primitives::clock::Clock;
use rate_limiter::RateLimiter;
use settings::{RateLimitPolicy, Settings};
use shared_limits::SharedLimits;
use worker::LimitWorkerHandle;

/// Rate limiters by the names of their policies.
pub type RateLimitersByName = BTreeMap<Arc<str>, Arc<RateLimiter>>;

/// Rate limiters of all policies. They outlive the settings that named them, so that no count begins anew.
pub struct RateLimiters {
    factory: LimiterFactory,
    by_policy: ArcSwap<RateLimitersByName>,
    invalid_tokens: InvalidTokenCounter,
}

/// Dependencies of a new rate limiter.
struct LimiterFactory {
    clock: Clock,
    shared: Option<Arc<SharedLimits>>,
    worker: LimitWorkerHandle,
    metrics: LimitMetrics,
}

impl RateLimiters {
    /// Creates the rate limiters of `settings`, shared through Redis if there is one, with its timeout; egress is
    /// stored in `ledger`. The worker has to be run.
    pub fn new(
        settings: &Settings,
        clock: &Clock,
        redis: Option<(Redis, Duration)>,
        ledger: Option<Arc<dyn EgressStore>>,
        metrics: &LimitMetrics,
    ) -> (Self, LimitWorker) {
        let shared = redis.map(|(redis, budget)| Arc::new(SharedLimits::new(redis, budget, metrics.shared())));
        let (handle, worker) =
            LimitWorkerHandle::new(ledger, shared.clone(), clock.clone(), metrics.egress_store_failures().clone());
        let factory = LimiterFactory { clock: clock.clone(), shared, worker: handle, metrics: metrics.clone() };
        let invalid_tokens = InvalidTokenCounter::new(clock.clone());
        let limiters = Self { factory, by_policy: ArcSwap::default(), invalid_tokens };
        limiters.replace(limiters.prepare(settings));
        (limiters, worker)
    }

    /// Returns rate limiters for `settings`. A policy that has not changed keeps its limiter, and so its counts.
    pub fn prepare(&self, settings: &[RateLimitPolicy]) -> Arc<RateLimitersByName> {
        let known = self.by_policy.load();
        let limiter = |policy: &RateLimitPolicy| {
            let unchanged = known.get(&policy.name).filter(|limiter| limiter.settings() == policy);
            let limiter = unchanged.cloned().unwrap_or_else(|| Arc::new(self.factory.build(policy)));
            (Arc::clone(&policy.name), limiter)
        };
        Arc::new(settings.iter().map(limiter).collect())
    }

    /// Uses `limiters` from now on.
    pub fn replace(&self, limiters: Arc<RateLimitersByName>) {
        self.by_policy.store(limiters);
    }

    /// Returns the rate limiter of the policy of that name, if there is one.
    pub fn limiter(&self, name: &str) -> Option<Arc<RateLimiter>> {
        self.by_policy.load().get(name).cloned()
    }

    /// Returns true where there is a policy of that name.
    pub fn has_limiter(&self, name: &str) -> bool {
        self.by_policy.load().contains_key(name)
    }

    /// Returns all rate limiters, by the names of their policies.
    pub fn limiters(&self) -> Vec<Arc<RateLimiter>> {
        self.by_policy.load().values().cloned().collect()
    }

    /// Returns the counter of invalid tokens.
    pub fn invalid_tokens(&self) -> &InvalidTokenCounter {
        &self.invalid_tokens
    }
}

impl LimiterFactory {
    fn build(&self, policy: &RateLimitPolicy) -> RateLimiter {
        let (shared, worker) = (self.shared.clone(), self.worker.clone());
        RateLimiter::new(policy.clone(), self.clock.clone(), shared, worker, self.metrics.policy(&policy.name))
    }
}
