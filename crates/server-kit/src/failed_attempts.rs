//! Failed attempts by client network, so that guessing a secret costs. Exact for each network, with bounded memory; it
//! must not know what was guessed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use http_semantics::client_ip::client_network;
use primitives::unix_time::UnixMillis;

/// Most networks in one generation, some 4 MB; there are two. Whoever guesses from more networks gains nothing by being
/// forgotten: the unused ones allow as many attempts.
const MAX_NETWORKS: usize = 1 << 16;

/// Counter of all networks: each may fail so often at once, and gets those attempts back evenly within a period (GCRA,
/// ITU-T I.371).
pub struct FailedAttempts {
    /// Cost of an attempt: the time after which it is forgotten.
    cost: Duration,
    period: Duration,
    generations: Mutex<AttemptGenerations>,
    /// Time until which any network may have something counted, in milliseconds since the Unix epoch: mostly nobody
    /// guesses, and no lock is taken.
    until: AtomicI64,
}

/// Times until which attempts are counted, by network. Nothing is ever searched: when the newer generation is full, or
/// as old as anything is counted, it replaces the older one.
struct AttemptGenerations {
    newer: HashMap<IpAddr, UnixMillis>,
    older: HashMap<IpAddr, UnixMillis>,
    began: UnixMillis,
}

impl FailedAttempts {
    /// Creates a counter by which each network may fail `most` times at once, and as often in each `period`.
    pub fn new(most: u32, period: Duration) -> Self {
        let generations = AttemptGenerations { newer: HashMap::new(), older: HashMap::new(), began: UnixMillis::EPOCH };
        let cost = period / most.max(1);
        Self { cost, period, generations: Mutex::new(generations), until: AtomicI64::new(0) }
    }

    /// Counts an attempt that failed at `now` against the network of `address` (IPv6: /64). If it is one too many, it is
    /// not counted; returns the time for which further ones are refused.
    pub fn record(&self, address: IpAddr, now: UnixMillis) -> Option<Duration> {
        let refused = self.refused_for(address, now);
        if refused.is_some() {
            return refused;
        }
        let mut generations = self.generations.lock();
        if generations.newer.len() >= MAX_NETWORKS || generations.began.abs_diff(now) > self.period {
            generations.older = std::mem::take(&mut generations.newer);
            generations.began = now;
        }
        let network = client_network(address);
        // A time of the past counts from now; one of a clock that was ahead counts as full.
        let until = generations.until(&network).clamp(now, now + self.period);
        let until = (until + self.cost).min(now + self.period);
        generations.newer.insert(network, until);
        // Relaxed: a reader that misses it lets one attempt more through.
        self.until.fetch_max(until.as_millis(), Ordering::Relaxed);
        None
    }

    /// Returns the time for which attempts from the network of `address` are refused at `now`; `None` if they are not.
    pub fn refused_for(&self, address: IpAddr, now: UnixMillis) -> Option<Duration> {
        if self.until.load(Ordering::Relaxed) <= now.as_millis() {
            return None;
        }
        // A clock that was far ahead and has been put right refuses nobody for longer than a period.
        let until = self.generations.lock().until(&client_network(address)).min(now + self.period);
        let wait = until + self.cost - (now + self.period);
        (!wait.is_zero()).then_some(wait)
    }
}

impl AttemptGenerations {
    fn until(&self, network: &IpAddr) -> UnixMillis {
        self.newer.get(network).or_else(|| self.older.get(network)).copied().unwrap_or(UnixMillis::EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: UnixMillis = UnixMillis::new(1_700_000_000_000);

    fn v4(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn v6(network: u64, host: u64) -> IpAddr {
        Ipv6Addr::from((u128::from(network) << 64) | u128::from(host)).into()
    }

    #[test]
    fn only_the_network_that_guesses_is_refused_and_gets_its_attempts_back_evenly() {
        let attempts = FailedAttempts::new(20, MINUTE);
        for _ in 0..20 {
            assert_eq!(attempts.refused_for(v4(1), NOW), None);
            assert_eq!(attempts.record(v4(1), NOW), None);
        }
        assert_eq!(attempts.refused_for(v4(1), NOW), Some(Duration::from_secs(3)));
        assert_eq!(attempts.record(v4(1), NOW), Some(Duration::from_secs(3)), "and it is not counted");
        assert_eq!(attempts.refused_for(v4(2), NOW), None);
        assert_eq!(
            attempts.refused_for("::ffff:192.0.2.1".parse().expect("an address"), NOW),
            Some(Duration::from_secs(3))
        );
        assert!(attempts.refused_for(v4(1), NOW + Duration::from_millis(2_999)).is_some());
        assert_eq!(attempts.refused_for(v4(1), NOW + Duration::from_millis(3_000)), None);
        attempts.record(v4(1), NOW + Duration::from_millis(3_000));
        assert_eq!(attempts.refused_for(v4(1), NOW + Duration::from_millis(3_000)), Some(Duration::from_secs(3)));
        let later = NOW + Duration::from_millis(63_001);
        assert_eq!((0..25).filter(|_| attempts.record(v4(1), later).is_none()).count(), 20);
    }

    #[test]
    fn of_ipv6_a_64_is_one_network() {
        let attempts = FailedAttempts::new(20, MINUTE);
        for host in 0..20 {
            let _ = attempts.record(v6(7, host), NOW);
        }
        assert!(attempts.refused_for(v6(7, 1 << 40), NOW).is_some());
        assert_eq!(attempts.refused_for(v6(8, 0), NOW), None);
    }

    #[test]
    fn networks_beyond_number_are_not_kept_and_a_guesser_is_not_forgotten_for_a_few() {
        let attempts = FailedAttempts::new(20, MINUTE);
        for _ in 0..20 {
            let _ = attempts.record(v4(1), NOW);
        }
        assert_eq!(2 * MAX_NETWORKS, 131_072, "docs/limits.md says how many are remembered");
        let networks = u64::try_from(MAX_NETWORKS).expect("it is small");
        for number in 0..networks {
            let _ = attempts.record(v6(number, 0), NOW);
        }
        assert!(attempts.refused_for(v4(1), NOW).is_some());
        for number in 0..10 * networks {
            let _ = attempts.record(v6(number, 0), NOW);
        }
        let generations = attempts.generations.lock();
        assert!(generations.newer.len() <= MAX_NETWORKS && generations.older.len() <= MAX_NETWORKS);
    }

    #[test]
    fn time_alone_forgets_and_a_clock_put_right_blocks_nobody() {
        let attempts = FailedAttempts::new(20, MINUTE);
        for _ in 0..20 {
            let _ = attempts.record(v4(1), NOW);
        }
        attempts.record(v4(2), NOW + Duration::from_millis(60_001));
        attempts.record(v4(2), NOW + Duration::from_millis(120_002));
        assert!(!attempts.generations.lock().older.contains_key(&v4(1)));
        let back = NOW - Duration::from_millis(86_400_000);
        assert!(attempts.refused_for(v4(2), back).is_none_or(|wait| wait <= Duration::from_secs(3)));
        assert_eq!(attempts.refused_for(v4(3), back), None);
    }
}
