//! The event ids that players gave of late, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// An id as one user gave it.
pub type UserEventId = (u64, Uuid);

/// The ids that are remembered, and those whose events are being published now.
pub struct EventIdRegistry {
    hasher: RandomState,
    state: Mutex<RegistryState>,
    /// Tells whoever waits that an id is no longer being published.
    released: Notify,
}

struct RegistryState {
    seen: RecentEventIds,
    under_way: HashSet<UserEventId>,
}

/// Ids of one report. Nobody else publishes those that are fresh as long as this lives.
pub struct EventIdClaim<'a> {
    ids: &'a EventIdRegistry,
    given: Vec<UserEventId>,
    fresh: HashSet<UserEventId>,
}

impl EventIdRegistry {
    /// Remembers each id for `span` at least, if fewer than `most` come in that time.
    pub fn new(most: usize, span: Duration) -> Self {
        let state = RegistryState { seen: RecentEventIds::new(most, span), under_way: HashSet::new() };
        Self { hasher: RandomState::new(), state: Mutex::new(state), released: Notify::new() }
    }

    /// What stands for `id` as `user` gave it.
    pub fn key(&self, user: &str, id: Uuid) -> UserEventId {
        (self.hasher.hash_one(user), id)
    }

    /// Claims those of the keys that are not remembered, all at once: two reports that share ids never wait for each
    /// other. Waits while one of them is being published.
    pub async fn claim(&self, keys: impl Iterator<Item = UserEventId>) -> EventIdClaim<'_> {
        let given: Vec<UserEventId> = keys.collect();
        loop {
            // Made before the look, so that no release is missed.
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
    /// Whether its event was not published before.
    pub fn is_fresh(&self, key: UserEventId) -> bool {
        self.fresh.contains(&key)
    }

    /// Remembers the ids: their events are kept.
    pub fn commit(self, now: SystemTime) {
        self.ids.state.lock().seen.remember(&self.given, now);
    }
}

impl Drop for EventIdClaim<'_> {
    fn drop(&mut self) {
        let mut state = self.ids.state.lock();
        for key in &self.fresh {
            state.under_way.remove(key);
        }
        drop(state);
        self.ids.released.notify_waiters();
    }
}

/// Two generations of ids; the older one goes when the younger one is full or old.
struct RecentEventIds {
    young: HashSet<UserEventId>,
    old: HashSet<UserEventId>,
    since: SystemTime,
    most: usize,
    span: Duration,
}

impl RecentEventIds {
    fn new(most: usize, span: Duration) -> Self {
        let since = SystemTime::UNIX_EPOCH;
        Self { young: HashSet::new(), old: HashSet::new(), since, most, span }
    }

    /// Whether it is remembered.
    fn contains(&self, key: UserEventId) -> bool {
        self.young.contains(&key) || self.old.contains(&key)
    }

    /// Remembers `keys`.
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
