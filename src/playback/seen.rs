//! The event ids that players gave of late, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// An id as one user gave it.
pub type Key = (u64, Uuid);

/// Two generations of ids; the older one goes when the younger one is full or old.
pub struct Seen {
    hasher: RandomState,
    young: HashSet<Key>,
    old: HashSet<Key>,
    since: SystemTime,
    most: usize,
    span: Duration,
}

impl Seen {
    /// Remembers each id for `span` at least, if fewer than `most` come in that time.
    pub fn new(most: usize, span: Duration) -> Self {
        let since = SystemTime::UNIX_EPOCH;
        Self { hasher: RandomState::new(), young: HashSet::new(), old: HashSet::new(), since, most, span }
    }

    /// What stands for `id` as `user` gave it.
    pub fn key(&self, user: &str, id: Uuid) -> Key {
        (self.hasher.hash_one(user), id)
    }

    /// Whether it is remembered.
    pub fn has(&self, key: Key) -> bool {
        self.young.contains(&key) || self.old.contains(&key)
    }

    /// Remembers `keys`.
    pub fn remember(&mut self, keys: &[Key], now: SystemTime) {
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
        let key = seen.key("alice", Uuid::from_u128(1));
        assert!(!seen.has(key));
        seen.remember(&[key], begin);
        seen.remember(&[], begin + span);
        assert!(seen.has(key));
        assert!(!seen.has(seen.key("bob", Uuid::from_u128(1))), "ids are each user's own");
        seen.remember(&[], begin + span * 2);
        assert!(!seen.has(key));
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Seen::new(10, Duration::from_secs(10));
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for number in 0..1000 {
            let key = seen.key("alice", Uuid::from_u128(number));
            seen.remember(&[key], begin);
        }
        assert!(seen.young.len() + seen.old.len() <= 20);
    }
}
