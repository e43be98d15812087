//! Pacing of one subject's responses, all of them together: a virtual time that runs ahead of the real one by what may
//! be sent (GCRA, ITU-T I.371). One atomic operation for each buffer, no lock, and nobody waits in a loop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::settings::BandwidthLimit;

/// Time at which everything taken has gone out at the given rate, in nanoseconds.
#[derive(Debug, Default)]
pub struct BandwidthPacer(AtomicU64);

impl BandwidthPacer {
    /// Reserves the time for `bytes` at `now` (nanoseconds since any fixed moment); returns the wait before they are
    /// sent.
    pub fn reserve(&self, bandwidth: &BandwidthLimit, bytes: u64, now: u64) -> Duration {
        let cost = nanos(bytes, bandwidth.rate);
        let next = |before: u64| before.max(now).saturating_add(cost);
        // The closure always gives a value: the previous one comes back either way.
        let before = match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(next(before))) {
            Ok(before) | Err(before) => before,
        };
        let ahead = next(before) - now;
        Duration::from_nanos(ahead.saturating_sub(nanos(bandwidth.burst, bandwidth.rate)))
    }

    /// Returns true if all reserved bytes may have been sent at `now`, in nanoseconds.
    pub fn is_idle(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

/// Returns the time that `bytes` take at `rate`, in nanoseconds.
fn nanos(bytes: u64, rate: u64) -> u64 {
    // 128 bits: bytes times 10^9 overflows 64 bits at 18 GB.
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn after_the_burst_every_byte_takes_its_time() {
        let (pace, speed) = (BandwidthPacer::default(), BandwidthLimit { rate: 1000, burst: 500 });
        for (now, bytes, millis) in
            [(0, 500, 0), (0, 100, 100), (SECOND / 10, 100, 100), (SECOND, 0, 0), (10 * SECOND, 1500, 1000)]
        {
            assert_eq!(pace.reserve(&speed, bytes, now).as_millis(), millis, "{bytes} bytes at {now}");
        }
        assert!(!pace.is_idle(11 * SECOND) && pace.is_idle(12 * SECOND));
    }

    proptest! {
        #[test]
        fn who_waits_as_told_stays_within_the_speed(
            sizes in prop::collection::vec(1_u64..300_000, 1..100), rate in 1_000_u64..10_000_000, burst in 0_u64..1_000_000,
        ) {
            let (pace, speed) = (BandwidthPacer::default(), BandwidthLimit { rate, burst });
            let (mut now, mut sent) = (0, 0_u64);
            for size in sizes {
                now += u64::try_from(pace.reserve(&speed, size, now).as_nanos()).expect("a time that fits");
                sent += size;
                let allowed = u128::from(now) * u128::from(rate) / u128::from(SECOND) + u128::from(burst);
                // One byte for each division that rounded down.
                prop_assert!(u128::from(sent) <= allowed + 200, "{sent} of {allowed}");
            }
        }
    }
}
