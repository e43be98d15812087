//! Recently seen addresses in bounded memory, without a look at all of them: two sets, of which the older is dropped
//! when the younger is full or has lasted its time.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use primitives::unix_time::UnixMillis;

/// Recently seen addresses. One is known for at least the set's time after it was noted, and at most twice as long;
/// where there are more than fit, for less.
pub struct RecentAddresses {
    life: Duration,
    capacity: usize,
    young: HashSet<IpAddr>,
    old: HashSet<IpAddr>,
    turned_at: UnixMillis,
}

impl RecentAddresses {
    /// Creates an empty set: addresses are known for `lasts`, and `most` of them always.
    pub fn new(lasts: Duration, most: usize) -> Self {
        Self { life: lasts, capacity: most, young: HashSet::new(), old: HashSet::new(), turned_at: UnixMillis::EPOCH }
    }

    /// Notes that `address` was seen.
    pub fn note(&mut self, address: IpAddr, now: UnixMillis) {
        self.expire(now);
        if self.young.len() >= self.capacity && !self.young.contains(&address) {
            self.rotate(now);
        }
        self.young.insert(address);
    }

    /// Returns whether `address` was seen lately.
    pub fn contains(&mut self, address: &IpAddr, now: UnixMillis) -> bool {
        self.expire(now);
        self.young.contains(address) || self.old.contains(address)
    }

    fn expire(&mut self, now: UnixMillis) {
        match now - self.turned_at {
            age if age >= 2 * self.life => {
                self.rotate(now);
                self.old.clear();
            }
            age if age >= self.life => self.rotate(now),
            _ => {}
        }
    }

    fn rotate(&mut self, now: UnixMillis) {
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
        let mut recent = RecentAddresses::new(Duration::from_secs(1), 10);
        recent.note(address(1), UnixMillis::new(100_000));
        assert!(recent.contains(&address(1), UnixMillis::new(101_000)));
        assert!(!recent.contains(&address(2), UnixMillis::new(101_000)));
        recent.note(address(1), UnixMillis::new(101_500));
        assert!(recent.contains(&address(1), UnixMillis::new(102_400)), "it was noted again");
        assert!(!recent.contains(&address(1), UnixMillis::new(110_000)));
    }

    #[test]
    fn there_are_never_more_than_twice_as_many() {
        let mut recent = RecentAddresses::new(Duration::from_secs(1), 4);
        for number in 0..100 {
            recent.note(address(number), UnixMillis::new(5_000));
            assert!(recent.young.len() + recent.old.len() <= 8);
            assert!(
                (0..4).all(|before| recent.contains(&address(number.saturating_sub(before)), UnixMillis::new(5_000)))
            );
        }
    }
}
