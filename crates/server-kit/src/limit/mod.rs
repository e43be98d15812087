//! Limits on who asks: requests in a time, streams at once, bytes a second, bytes in a period.
//!
//! Owns the policies and what they have counted, in memory or shared through Redis. Knows nothing of routes, statuses or
//! HTTP: a [`rate_limiter::LimitRejection`] is turned into an answer by the caller, in the proxy and in the API alike. Redis and the
//! database are known by the adapters `shared_limits` and `egress_store` only. Semantics: .NET's
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
pub mod subject;
mod subject_table;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use invalid_tokens::InvalidTokenCounter;
pub use request_counter::RateLimitStatus;
pub use worker::LimitWorker;

use crate::redis::Redis;
use egress::EgressStore;
use metrics::LimitMetrics;
use primitives::clock::Clock;
use rate_limiter::RateLimiter;
use settings::Settings;
use shared_limits::SharedLimits;
use worker::LimitWorkerHandle;

/// All policies.
pub struct RateLimiters {
    policies: BTreeMap<Arc<str>, Arc<RateLimiter>>,
    invalid_tokens: InvalidTokenCounter,
}

impl RateLimiters {
    /// The policies of `settings`, shared through Redis where there is one, which has so long to
    /// answer; egress is kept in `ledger`. The worker has
    /// to be run.
    pub fn new(
        settings: &Settings,
        clock: &Clock,
        redis: Option<(Redis, Duration)>,
        ledger: Option<Arc<dyn EgressStore>>,
        metrics: &LimitMetrics,
    ) -> (Self, LimitWorker) {
        let shared = redis.map(|(redis, budget)| Arc::new(SharedLimits::new(redis, budget, metrics.shared())));
        let (keeper, worker) =
            LimitWorkerHandle::new(ledger, shared.clone(), clock.clone(), metrics.egress_store_failures().clone());
        let policy = |settings: &settings::RateLimitPolicy| {
            let (name, counters) = (Arc::clone(&settings.name), metrics.policy(&settings.name));
            let policy = RateLimiter::new(settings.clone(), clock.clone(), shared.clone(), keeper.clone(), counters);
            (name, Arc::new(policy))
        };
        (
            Self {
                policies: settings.iter().map(policy).collect(),
                invalid_tokens: InvalidTokenCounter::new(clock.clone()),
            },
            worker,
        )
    }

    /// The policy of that name.
    pub fn limiter(&self, name: &str) -> Option<&Arc<RateLimiter>> {
        self.policies.get(name)
    }

    /// All policies, by name.
    pub fn limiters(&self) -> impl Iterator<Item = &Arc<RateLimiter>> {
        self.policies.values()
    }

    /// Tokens that were not valid.
    pub fn invalid_tokens(&self) -> &InvalidTokenCounter {
        &self.invalid_tokens
    }
}
