//! Which backups expire, and when the next one is due; pure.

use std::time::Duration;

use uuid::Uuid;

use primitives::unix_time::UnixMillis;

/// Longest time between a backup that failed and the next try.
const RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Returns the verified backups, of which the newest is first, that are older than `keep_for`, except the newest
/// `keep_at_least`.
pub fn expired(verified: &[(Uuid, UnixMillis)], now: UnixMillis, keep_for: Duration, keep_at_least: u32) -> Vec<Uuid> {
    let kept = usize::try_from(keep_at_least).unwrap_or(usize::MAX).max(1);
    let old = verified.iter().skip(kept).filter(|(_, created_at)| now - *created_at > keep_for);
    old.map(|(id, _)| *id).collect()
}

/// Returns the time from which on the next backup is due: `every` after the newest verified one began, but not at once after one
/// that failed.
pub fn due_at(every: Duration, newest_verified: Option<UnixMillis>, newest: Option<UnixMillis>) -> UnixMillis {
    let by_timetable = newest_verified.map_or(UnixMillis::EPOCH, |began| began + every);
    let after_failure = newest.filter(|newest| newest_verified.is_none_or(|verified| *newest > verified));
    after_failure.map_or(by_timetable, |failed| by_timetable.max(failed + every.min(RETRY_AFTER)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(day: i64) -> UnixMillis {
        UnixMillis::new(day * 86_400_000)
    }

    #[test]
    fn verified_ones_expire_by_age_and_the_newest_stay() {
        let of_days =
            |days: &[i64]| -> Vec<_> { days.iter().map(|day| (Uuid::from_u128(*day as u128), at(*day))).collect() };
        for (days, keep_at_least, gone) in [
            (&[100, 99, 98, 97][..], 3, &[][..]),
            (&[100, 69, 68, 67], 3, &[67]),
            (&[100, 99, 70, 69], 3, &[69]),
            (&[100, 99, 71, 70], 3, &[]),
            (&[60, 59, 58], 3, &[]),
            (&[60, 59, 58], 1, &[59, 58]),
            (&[60, 59, 58], 0, &[59, 58]),
            (&[], 0, &[]),
        ] {
            let found = expired(&of_days(days), at(100), 30 * DAY, keep_at_least);
            let gone: Vec<_> = gone.iter().map(|day| Uuid::from_u128(*day as u128)).collect();
            assert_eq!(found, gone, "{days:?} {keep_at_least}");
        }
    }

    proptest! {
        #[test]
        fn the_newest_verified_one_never_expires(
            mut days in proptest::collection::vec(0_i64..200, 1..20), now in 0_i64..400, keep in 0_u32..5,
        ) {
            days.sort_unstable_by(|one, other| other.cmp(one));
            let verified: Vec<_> = days.iter().enumerate().map(|(number, day)| (Uuid::from_u128(number as u128), at(*day))).collect();
            let gone = expired(&verified, at(now), 30 * DAY, keep);
            prop_assert!(!gone.contains(&verified[0].0));
            prop_assert!(verified.len() - gone.len() >= verified.len().min(keep as usize));
        }
    }

    #[test]
    fn the_next_is_due_by_the_last_verified_one_and_not_at_once_after_a_failure() {
        assert_eq!(due_at(DAY, None, None), UnixMillis::EPOCH);
        assert_eq!(due_at(DAY, Some(at(5)), Some(at(5))), at(6));
        let hour = Duration::from_secs(3600);
        assert_eq!(due_at(DAY, Some(at(5)), Some(at(6))), at(6) + hour, "one failed");
        assert_eq!(due_at(DAY, Some(at(5)), Some(at(5) + hour)), at(6), "one by hand failed");
        assert_eq!(due_at(hour / 6, None, Some(at(5))), at(5) + hour / 6);
    }
}
