//! Event ids that players sent recently, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// Event id of one user: a hash of the user, and the id.
pub type UserEventId = (u64, Uuid);

/// Registry of recent ids, and of those whose events are being published now.
pub struct EventIdRegistry {
    hasher: RandomState,
    state: Mutex<RegistryState>,
    /// Notifies waiting reports that an id is no longer being published.
    released: Notify,
}

struct RegistryState {
    seen: RecentEventIds,
    under_way: HashSet<UserEventId>,
}

/// Claim on the ids of one report. While it lives, no other report publishes its fresh ids.
pub struct EventIdClaim<'a> {
    ids: &'a EventIdRegistry,
    given: Vec<UserEventId>,
    fresh: HashSet<UserEventId>,
}

impl EventIdRegistry {
    /// Creates a registry that remembers each id for at least `span`, if fewer than `most` arrive in that time.
    pub fn new(most: usize, span: Duration) -> Self {
        let state = RegistryState { seen: RecentEventIds::new(most, span), under_way: HashSet::new() };
        Self { hasher: RandomState::new(), state: Mutex::new(state), released: Notify::new() }
    }

    /// Returns the key of `id` for `user`, which is of use in this registry only.
    pub fn key(&self, user: &str, id: Uuid) -> UserEventId {
        // A hash instead of the user's id bounds the memory of one entry. Its seed is random, so nobody can aim at a
        // collision.
        (self.hasher.hash_one(user), id)
    }

    /// Claims those keys that are not remembered, all at once: two reports that share ids never wait for each other.
    /// Waits while one of them is being published.
    pub async fn claim(&self, keys: impl Iterator<Item = UserEventId>) -> EventIdClaim<'_> {
        let given: Vec<UserEventId> = keys.collect();
        loop {
            // Created before the check, so that no release is missed.
            let released = self.released.notified();
            {
                let mut state = self.state.lock();
                let fresh: HashSet<UserEventId> =
                    given.iter().copied().filter(|key| !state.seen.contains(*key)).collect();
                if fresh.is_disjoint(&state.under_way) {
                    state.under_way.extend(&fresh);
                    return EventIdClaim { ids: self, given, fresh };
                }
            }
            released.await;
        }
    }
}

impl EventIdClaim<'_> {
    /// Returns true if the key is in this claim and its event was not published before.
    pub fn is_fresh(&self, key: UserEventId) -> bool {
        self.fresh.contains(&key)
    }

    /// Remembers the ids: their events are safely stored.
    pub fn commit(self, now: SystemTime) {
        self.ids.state.lock().seen.remember(&self.given, now);
    }
}

impl Drop for EventIdClaim<'_> {
    fn drop(&mut self) {
        // Also after `commit`, and when a request is cancelled: whoever waits must not wait for ever.
        let mut state = self.ids.state.lock();
        for key in &self.fresh {
            state.under_way.remove(key);
        }
        // The lock is released first, since those who are woken take it at once.
        drop(state);
        self.ids.released.notify_waiters();
    }
}

/// Two generations of ids: the older one is dropped when the younger one is full or old enough.
struct RecentEventIds {
    young: HashSet<UserEventId>,
    old: HashSet<UserEventId>,
    since: SystemTime,
    most: usize,
    span: Duration,
}

impl RecentEventIds {
    fn new(most: usize, span: Duration) -> Self {
        // The first ids find an old, empty generation, which is then replaced; no special case is needed.
        let since = SystemTime::UNIX_EPOCH;
        Self { young: HashSet::new(), old: HashSet::new(), since, most, span }
    }

    /// Returns true if the key is remembered.
    fn contains(&self, key: UserEventId) -> bool {
        self.young.contains(&key) || self.old.contains(&key)
    }

    /// Adds `keys` to the younger generation.
    fn remember(&mut self, keys: &[UserEventId], now: SystemTime) {
        let is_old = now.duration_since(self.since).is_ok_and(|age| age >= self.span);
        if is_old || self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        self.young.extend(keys.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_remembered_for_its_span_and_forgotten_after_two() {
        let (span, begin) = (Duration::from_secs(10), SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        let mut seen = RecentEventIds::new(100, span);
        let key = (1, Uuid::from_u128(1));
        assert!(!seen.contains(key));
        seen.remember(&[key], begin);
        seen.remember(&[], begin + span);
        assert!(seen.contains(key));
        assert!(!seen.contains((2, Uuid::from_u128(1))), "ids are each user's own");
        seen.remember(&[], begin + span * 2);
        assert!(!seen.contains(key));
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = RecentEventIds::new(10, Duration::from_secs(10));
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for number in 0..1000 {
            seen.remember(&[(1, Uuid::from_u128(number))], begin);
        }
        assert!(seen.young.len() + seen.old.len() <= 20);
    }
}
