//! Recently seen addresses in bounded memory, without a look at all of them: two sets, of which the older is dropped
//! when the younger is full or has lasted its time.

use std::collections::HashSet;
use std::net::IpAddr;

/// Recently seen addresses. One is known for at least the set's time after it was noted, and at most twice as long;
/// where there are more than fit, for less.
pub struct RecentAddresses {
    life_millis: i64,
    capacity: usize,
    young: HashSet<IpAddr>,
    old: HashSet<IpAddr>,
    turned_at: i64,
}

impl RecentAddresses {
    /// Creates an empty set: addresses are known for `lasts` milliseconds, and `most` of them always.
    pub fn new(lasts: i64, most: usize) -> Self {
        Self { life_millis: lasts, capacity: most, young: HashSet::new(), old: HashSet::new(), turned_at: 0 }
    }

    /// Notes that `address` was seen.
    pub fn note(&mut self, address: IpAddr, now: i64) {
        self.expire(now);
        if self.young.len() >= self.capacity && !self.young.contains(&address) {
            self.rotate(now);
        }
        self.young.insert(address);
    }

    /// Returns whether `address` was seen lately.
    pub fn contains(&mut self, address: &IpAddr, now: i64) -> bool {
        self.expire(now);
        self.young.contains(address) || self.old.contains(address)
    }

    fn expire(&mut self, now: i64) {
        match now.saturating_sub(self.turned_at) {
            age if age >= 2 * self.life_millis => {
                self.rotate(now);
                self.old.clear();
            }
            age if age >= self.life_millis => self.rotate(now),
            _ => {}
        }
    }

    fn rotate(&mut self, now: i64) {
        self.old = std::mem::take(&mut self.young);
        self.turned_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    #[test]
    fn what_is_noted_is_known_for_a_while() {
        let mut recent = RecentAddresses::new(1_000, 10);
        recent.note(address(1), 100_000);
        assert!(recent.contains(&address(1), 101_000));
        assert!(!recent.contains(&address(2), 101_000));
        recent.note(address(1), 101_500);
        assert!(recent.contains(&address(1), 102_400), "it was noted again");
        assert!(!recent.contains(&address(1), 110_000));
    }

    #[test]
    fn there_are_never_more_than_twice_as_many() {
        let mut recent = RecentAddresses::new(1_000, 4);
        for number in 0..100 {
            recent.note(address(number), 5_000);
            assert!(recent.young.len() + recent.old.len() <= 8);
            assert!((0..4).all(|before| recent.contains(&address(number.saturating_sub(before)), 5_000)));
        }
    }
}
