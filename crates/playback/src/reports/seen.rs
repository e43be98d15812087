//! The event ids that players gave of late, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// An id as one user gave it.
pub type Key = (u64, Uuid);

/// The ids that are remembered, and those whose events are being published now.
pub struct Ids {
    hasher: RandomState,
    state: Mutex<State>,
    /// Tells whoever waits that an id is no longer being published.
    released: Notify,
}

struct State {
    seen: Seen,
    under_way: HashSet<Key>,
}

/// Ids of one report. Nobody else publishes those that are fresh as long as this lives.
pub struct Claim<'a> {
    ids: &'a Ids,
    given: Vec<Key>,
    fresh: HashSet<Key>,
}

impl Ids {
    /// Remembers each id for `span` at least, if fewer than `most` come in that time.
    pub fn new(most: usize, span: Duration) -> Self {
        let state = State { seen: Seen::new(most, span), under_way: HashSet::new() };
        Self { hasher: RandomState::new(), state: Mutex::new(state), released: Notify::new() }
    }

    /// What stands for `id` as `user` gave it.
    pub fn key(&self, user: &str, id: Uuid) -> Key {
        (self.hasher.hash_one(user), id)
    }

    /// Claims those of the keys that are not remembered, all at once: two reports that share ids never wait for each
    /// other. Waits while one of them is being published.
    pub async fn claim(&self, keys: impl Iterator<Item = Key>) -> Claim<'_> {
        let given: Vec<Key> = keys.collect();
        loop {
            // Made before the look, so that no release is missed.
            let released = self.released.notified();
            {
                let mut state = self.state.lock();
                let fresh: HashSet<Key> = given.iter().copied().filter(|key| !state.seen.has(*key)).collect();
                if fresh.is_disjoint(&state.under_way) {
                    state.under_way.extend(&fresh);
                    return Claim { ids: self, given, fresh };
                }
            }
            released.await;
        }
    }
}

impl Claim<'_> {
    /// Whether its event was not published before.
    pub fn is_fresh(&self, key: Key) -> bool {
        self.fresh.contains(&key)
    }

    /// Remembers the ids: their events are kept.
    pub fn keep(self, now: SystemTime) {
        self.ids.state.lock().seen.remember(&self.given, now);
    }
}

impl Drop for Claim<'_> {
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
struct Seen {
    young: HashSet<Key>,
    old: HashSet<Key>,
    since: SystemTime,
    most: usize,
    span: Duration,
}

impl Seen {
    fn new(most: usize, span: Duration) -> Self {
        let since = SystemTime::UNIX_EPOCH;
        Self { young: HashSet::new(), old: HashSet::new(), since, most, span }
    }

    /// Whether it is remembered.
    fn has(&self, key: Key) -> bool {
        self.young.contains(&key) || self.old.contains(&key)
    }

    /// Remembers `keys`.
    fn remember(&mut self, keys: &[Key], now: SystemTime) {
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
        let mut seen = Seen::new(100, span);
        let key = (1, Uuid::from_u128(1));
        assert!(!seen.has(key));
        seen.remember(&[key], begin);
        seen.remember(&[], begin + span);
        assert!(seen.has(key));
        assert!(!seen.has((2, Uuid::from_u128(1))), "ids are each user's own");
        seen.remember(&[], begin + span * 2);
        assert!(!seen.has(key));
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Seen::new(10, Duration::from_secs(10));
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for number in 0..1000 {
            seen.remember(&[(1, Uuid::from_u128(number))], begin);
        }
        assert!(seen.young.len() + seen.old.len() <= 20);
    }
}
