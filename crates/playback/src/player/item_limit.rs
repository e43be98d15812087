//! Limit of the items that a user's players begin: each has the database asked, and is told to all listeners. Reports of an item
//! that plays already cost little, and are not counted here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use primitives::ids::UserId;

/// Items that a user may begin at once: more than somebody who skips through an album.
const MAX_ITEMS: u32 = 120;
/// Time in which as many may be begun again: one a second.
const PERIOD: Duration = Duration::from_secs(120);
/// Most users in one generation, some 2 MB; there are two. Beyond it the older one is forgotten sooner.
const MAX_USERS: usize = 1 << 14;

/// Items of all users on this node, counted by GCRA (ITU-T I.371): the time until which what was begun counts.
#[derive(Default)]
pub struct ItemLimit(Mutex<ItemGenerations>);

#[derive(Default)]
struct ItemGenerations {
    newer: HashMap<UserId, Instant>,
    older: HashMap<UserId, Instant>,
    began: Option<Instant>,
}

impl ItemLimit {
    /// Counts an item that the user begins at `now`; fails with the time after which it may be begun.
    pub fn count(&self, user: &UserId, now: Instant) -> Result<(), Duration> {
        let mut generations = self.0.lock();
        let is_old = generations.began.is_none_or(|began| now.saturating_duration_since(began) > PERIOD);
        if is_old || generations.newer.len() >= MAX_USERS {
            generations.older = std::mem::take(&mut generations.newer);
            generations.began = Some(now);
        }
        let counted = generations.newer.get(user).or_else(|| generations.older.get(user)).copied();
        let until = counted.map_or(now, |until| until.max(now)) + PERIOD / MAX_ITEMS;
        let wait = until.saturating_duration_since(now + PERIOD);
        if !wait.is_zero() {
            return Err(wait);
        }
        generations.newer.insert(user.clone(), until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    #[test]
    fn a_user_begins_so_many_items_at_once_and_one_a_second_after_that() {
        let (limit, now) = (ItemLimit::default(), monotonic_now());
        let user = |name: &str| UserId::parse(name).expect("an id");
        for _ in 0..MAX_ITEMS {
            assert_eq!(limit.count(&user("a"), now), Ok(()));
        }
        let second = Duration::from_secs(1);
        assert_eq!(limit.count(&user("a"), now), Err(second));
        assert_eq!(limit.count(&user("b"), now), Ok(()), "another user has the own ones");
        assert_eq!(limit.count(&user("a"), now + second), Ok(()));
        assert_eq!(limit.count(&user("a"), now + second), Err(second));
        // The generation changes, and what counts still counts.
        let later = now + PERIOD + 2 * second;
        for _ in 0..MAX_ITEMS {
            assert_eq!(limit.count(&user("a"), later), Ok(()));
        }
        assert!(limit.count(&user("a"), later).is_err());
        for number in 0..3 * MAX_USERS {
            limit.count(&user(&number.to_string()), later).expect("the first one");
        }
        let generations = limit.0.lock();
        assert!(generations.newer.len() <= MAX_USERS && generations.older.len() <= MAX_USERS);
    }
}
