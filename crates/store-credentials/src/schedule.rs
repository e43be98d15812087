//! Times of renewals, pure.

use std::time::Duration;

/// Keys are renewed this long before they end, or after two thirds of what is left of their life: Amazon's instance and
/// container endpoints have new ones five minutes before the old ones end.
const LEAD: Duration = Duration::from_secs(600);
/// Time after which keys without an end are read again: somebody may have written others into the file.
const REREAD: Duration = Duration::from_secs(60);
/// Shortest time between two renewals.
const LEAST: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
const MOST_RETRY: Duration = Duration::from_secs(15);
/// Longest time between two renewals, whatever end a provider names.
const MOST: Duration = Duration::from_secs(12 * 3600);

/// Returns the time at `now` (Unix seconds) until keys that end at `expires_at` are renewed.
pub(crate) fn until_renewal(now: u64, expires_at: Option<u64>) -> Duration {
    let Some(end) = expires_at else { return REREAD };
    let left = Duration::from_secs(end.saturating_sub(now));
    left.saturating_sub(LEAD).max(left * 2 / 3).clamp(LEAST, MOST)
}

/// Returns the wait after this many failures in a row, from 1.
pub(crate) fn until_retry(failures: u32) -> Duration {
    let doubled = LEAST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MOST_RETRY)
}

/// Takes up to a tenth away from `pause`, by `random` from 0 to 1, so that nodes that started together do not ask together.
pub(crate) fn with_jitter(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(1.0 - random.clamp(0.0, 1.0) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_renewed_before_they_end() {
        for (left, pause) in [
            (12 * 3600, 12 * 3600 - 600),
            (3600, 3000),
            (1800, 1200),
            (900, 600),
            (300, 200),
            (3, 2),
            (1, 1),
            (0, 1),
            (u64::MAX / 2, 12 * 3600),
        ] {
            assert_eq!(until_renewal(1_000, Some(1_000 + left)), Duration::from_secs(pause), "{left}");
        }
        assert_eq!(until_renewal(1_000, Some(5)), LEAST, "they have ended");
        assert_eq!(until_renewal(1_000, None), REREAD);
    }

    #[test]
    fn failures_are_tried_again_after_longer_and_longer_pauses() {
        let pauses: Vec<u64> = (1..=6).map(|failures| until_retry(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        assert_eq!(until_retry(u32::MAX), MOST_RETRY);
        assert_eq!(with_jitter(REREAD, 0.0), REREAD);
        assert_eq!(with_jitter(REREAD, 1.0), Duration::from_secs(54));
    }
}
