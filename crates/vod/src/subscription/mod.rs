//! Subscriptions: whether a user may watch, as a service of the operator's says.
//!
//! A yes is believed for minutes, a no for seconds. While the service does not answer, the last yes counts for a day.
//! However many requests of a user wait, the service is asked once.

mod breaker;
mod cache;
mod client;
pub mod purge_message;

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::VodMetrics;
use crate::settings::SubscriptionSettings;
use cache::{SubscriptionAnswer, SubscriptionCache};
use client::{Asked, SubscriptionClient};
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::loading_cache::LoadingCache;
use server_kit::redis::Redis;

/// Memory for questions that are under way, in bytes.
const IN_FLIGHT_BYTES: usize = 4 << 20;

/// Service of subscriptions. Clones share it.
#[derive(Clone)]
pub struct SubscriptionService(Arc<SubscriptionState>);

struct SubscriptionState {
    settings: SubscriptionSettings,
    client: SubscriptionClient,
    cache: SubscriptionCache,
    in_flight: LoadingCache<bool>,
    clock: Clock,
    metrics: VodMetrics,
}

impl SubscriptionService {
    /// Creates the service, which asks with `client` and shares its answers in `redis`.
    pub fn new(
        settings: SubscriptionSettings,
        client: reqwest::Client,
        redis: Option<Redis>,
        clock: Clock,
        metrics: VodMetrics,
    ) -> Self {
        let client = SubscriptionClient::new(&settings, client);
        let cache = SubscriptionCache::new(redis);
        // Answers are kept by `cache`; this one only has concurrent questions asked once.
        let in_flight = LoadingCache::new(IN_FLIGHT_BYTES, Duration::ZERO, false, |_| 0);
        Self(Arc::new(SubscriptionState { settings, client, cache, in_flight, clock, metrics }))
    }

    /// Returns true if `user` has an active subscription; `None` if nobody can tell now.
    pub async fn is_active(&self, user: &UserId) -> Option<bool> {
        let (state, asked) = (Arc::clone(&self.0), user.clone());
        self.0.in_flight.get(user.as_str(), || async move { state.look_up(&asked).await }).await
    }

    /// Forgets the answer about `user`; false if the shared cache does not answer.
    pub async fn purge(&self, user: &UserId) -> bool {
        self.0.in_flight.invalidate(user.as_str());
        self.0.cache.remove(user, self.0.clock.unix_millis()).await
    }
}

impl SubscriptionState {
    async fn look_up(&self, user: &UserId) -> Option<bool> {
        let now = self.clock.unix_millis();
        let known = self.cache.get(user).await;
        let believed = |answer: &SubscriptionAnswer| {
            let life = if answer.is_active { self.settings.cache_for } else { self.settings.deny_cache_for };
            now < answer.checked_at + life
        };
        if let Some(answer) = known.filter(believed) {
            self.metrics.count_subscription_check("cached");
            return Some(answer.is_active);
        }
        // A user about whom the service says nothing of use has it asked as seldom as one without a subscription.
        if !self.cache.is_unusable(user, now) {
            match self.client.ask(user).await {
                Asked::Answered(is_active) => {
                    let answer = SubscriptionAnswer { is_active, checked_at: now };
                    // Only a yes is of use beyond its time.
                    let (deny, allow) = (self.settings.deny_cache_for, self.settings.cache_for);
                    let life = if is_active { self.settings.grace.max(allow) } else { deny };
                    self.cache.put(user, answer, life).await;
                    self.metrics.count_subscription_check(if is_active { "active" } else { "inactive" });
                    return Some(is_active);
                }
                Asked::Unusable => self.cache.note_unusable(user, now + self.settings.deny_cache_for),
                Asked::Unavailable => {}
            }
        }
        let is_honoured = known.is_some_and(|last| last.is_active && now < last.checked_at + self.settings.grace);
        self.metrics.count_subscription_check(if is_honoured { "grace" } else { "unavailable" });
        is_honoured.then_some(true)
    }
}

#[cfg(test)]
mod tests;
