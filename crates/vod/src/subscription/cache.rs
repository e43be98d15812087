//! Last answers about subscriptions: in Redis for all nodes, and in this process for one node and for the time without
//! Redis.

use std::time::Duration;

use foyer::{Cache, CacheBuilder};
use fred::interfaces::KeysInterface;
use fred::types::Expiration;

use primitives::ids::UserId;
use primitives::unix_time::{UnixMillis, whole_millis};
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// Timeout of a command: whoever starts a film waits for it.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(200);
/// Memory for answers in this process, in bytes.
const MEMORY_BYTES: usize = 32 << 20;
/// Memory for the users about whom the service has no usable answer, and as much for those whose answer was removed, in
/// bytes.
const TIMES_BYTES: usize = 4 << 20;
/// Approximate bytes of an answer besides the user's id.
const ENTRY_OVERHEAD: usize = 192;

/// Answer about a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionAnswer {
    /// True if there is an active subscription.
    pub is_active: bool,
    /// Time of the answer.
    pub checked_at: UnixMillis,
}

/// Answers by user.
pub struct SubscriptionCache {
    redis: Option<Redis>,
    memory: Cache<String, SubscriptionAnswer>,
    /// Users about whom the service has no usable answer, each until it is asked again.
    unusable: Cache<String, UnixMillis>,
    /// Times at which answers were removed: one that was asked for before is not stored afterwards.
    removed: Cache<String, UnixMillis>,
}

impl SubscriptionCache {
    /// Creates the cache over `redis`, or over memory alone.
    pub fn new(redis: Option<Redis>) -> Self {
        let weight = |user: &String, _: &SubscriptionAnswer| ENTRY_OVERHEAD + user.len();
        let memory = CacheBuilder::new(MEMORY_BYTES).with_weighter(weight).build();
        let weight = |user: &String, _: &UnixMillis| ENTRY_OVERHEAD + user.len();
        let times = || CacheBuilder::new(TIMES_BYTES).with_weighter(weight).build();
        Self { redis, memory, unusable: times(), removed: times() }
    }

    /// Returns true if the service had no usable answer about `user` a moment ago.
    pub fn is_unusable(&self, user: &UserId, now: UnixMillis) -> bool {
        self.unusable.get(user.as_str()).is_some_and(|until| now < *until.value())
    }

    /// Notes until `until` that the service has no usable answer about `user`.
    pub fn note_unusable(&self, user: &UserId, until: UnixMillis) {
        self.unusable.insert(user.as_str().to_owned(), until);
    }

    /// Returns the last answer about `user`, however old.
    pub async fn get(&self, user: &UserId) -> Option<SubscriptionAnswer> {
        if let Some(redis) = &self.redis {
            let client = redis.client_with_timeout(COMMAND_TIMEOUT);
            let read = client.get::<Option<String>, _>(key(redis, user));
            // What Redis says counts, also where it has nothing: another node may have purged the answer.
            if let Ok(text) = redis.run_with_timeout(COMMAND_TIMEOUT, read).await {
                return text.as_deref().and_then(parse);
            }
        }
        self.memory.get(user.as_str()).map(|entry| *entry.value())
    }

    /// Stores an answer for `life`, unless it was removed since it was asked for.
    pub async fn put(&self, user: &UserId, answer: SubscriptionAnswer, life: Duration) {
        if self.removed.get(user.as_str()).is_some_and(|at| *at.value() >= answer.checked_at) {
            return;
        }
        self.memory.insert(user.as_str().to_owned(), answer);
        let Some(redis) = &self.redis else { return };
        let client = redis.client_with_timeout(COMMAND_TIMEOUT);
        let life = Some(Expiration::PX(whole_millis(life).max(1)));
        let text = format!("{} {}", u8::from(answer.is_active), answer.checked_at);
        // If it fails the service is asked again.
        let _: Result<(), _> =
            redis.run_with_timeout(COMMAND_TIMEOUT, client.set(key(redis, user), text, life, None, false)).await;
    }

    /// Removes the answer about `user`; false if Redis does not answer.
    pub async fn remove(&self, user: &UserId, now: UnixMillis) -> bool {
        self.removed.insert(user.as_str().to_owned(), now);
        self.memory.remove(user.as_str());
        self.unusable.remove(user.as_str());
        let Some(redis) = &self.redis else { return true };
        let client = redis.client_with_timeout(COMMAND_TIMEOUT);
        redis.run_with_timeout(COMMAND_TIMEOUT, client.del::<(), _>(key(redis, user))).await.is_ok()
    }
}

fn key(redis: &Redis, user: &UserId) -> String {
    redis.key(RedisKey::Subscription { user: user.as_str() })
}

fn parse(text: &str) -> Option<SubscriptionAnswer> {
    let (flag, at) = text.split_once(' ')?;
    Some(SubscriptionAnswer { is_active: flag == "1", checked_at: UnixMillis::new(at.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_was_on_its_way_when_it_was_removed_is_not_stored() {
        let cache = SubscriptionCache::new(None);
        let user = UserId::parse("ada").expect("an id");
        let answer = |at| SubscriptionAnswer { is_active: false, checked_at: UnixMillis::new(at) };
        cache.put(&user, answer(1), Duration::from_secs(1)).await;
        assert!(cache.remove(&user, UnixMillis::new(5)).await);
        cache.put(&user, answer(4), Duration::from_secs(1)).await;
        assert_eq!(cache.get(&user).await, None);
        cache.put(&user, answer(6), Duration::from_secs(1)).await;
        assert_eq!(cache.get(&user).await, Some(answer(6)));
    }
}
