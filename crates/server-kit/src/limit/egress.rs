//! Bytes that a subject was sent in a period. They are counted as they are sent, saved in the egress store every half
//! second if there is one, and read from it while a subject sends requests: other nodes may have sent it more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::request_counter;
use super::settings::EgressQuota;
use primitives::unix_time::UnixMillis;

/// Time for which a total of the store is used.
pub const TOTAL_TTL: Duration = Duration::from_millis(400);

/// Account of one subject in one period.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EgressAccount {
    /// The policy.
    pub policy: Arc<str>,
    /// The subject.
    pub subject: Arc<str>,
    /// The number of the period, counted from 1970.
    pub period: u64,
    /// End of the period.
    pub ends: UnixMillis,
    /// Time until its end.
    pub left: Duration,
}

/// Failure of the egress store; its text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EgressStoreError(pub String);

/// Store of the bytes sent, for all nodes.
#[async_trait]
pub trait EgressStore: Send + Sync {
    /// Returns the bytes of the account.
    async fn read(&self, account: &EgressAccount) -> Result<u64, EgressStoreError>;
    /// Adds to the accounts; returns the new total of each, `None` for one that the store can never accept. All of
    /// them, or an error.
    async fn add(&self, entries: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, EgressStoreError>;
    /// Deletes the periods that have ended at `now`.
    async fn delete_ended(&self, now: UnixMillis) -> Result<(), EgressStoreError>;
}

/// Bytes that one subject was sent in a period, as far as this node knows.
#[derive(Debug, Default)]
pub struct EgressCounter(Mutex<EgressCounts>);

#[derive(Debug, Default)]
struct EgressCounts {
    period: u64,
    /// Time of the last read from the store, if there was one in this period.
    read_at: Option<UnixMillis>,
    /// Bytes that the store has; without a store, all bytes.
    saved: u64,
    /// Bytes that are not saved yet.
    unsaved: u64,
}

impl EgressCounter {
    /// Returns the bytes of the period of `now`.
    pub fn used(&self, quota: &EgressQuota, now: UnixMillis) -> u64 {
        let mut counted = self.0.lock();
        counted.roll_period(quota, now);
        counted.saved.saturating_add(counted.unsaved)
    }

    /// Counts sent bytes; returns true for the first since they were last saved, if there is a store (`kept`).
    pub fn add_sent(&self, quota: &EgressQuota, bytes: u64, now: UnixMillis, kept: bool) -> bool {
        let mut counted = self.0.lock();
        counted.roll_period(quota, now);
        if !kept {
            counted.saved = counted.saved.saturating_add(bytes);
            return false;
        }
        let is_first = bytes > 0 && counted.unsaved == 0;
        counted.unsaved = counted.unsaved.saturating_add(bytes);
        is_first
    }

    /// Returns true if the caller has to read the store: in a new period every caller, and then one of them now and
    /// again.
    pub fn claim_refresh(&self, quota: &EgressQuota, now: UnixMillis) -> bool {
        let mut counted = self.0.lock();
        counted.roll_period(quota, now);
        // There is none until an answer has come: nobody goes on without the total of a new period.
        let Some(read_at) = counted.read_at else { return true };
        // A clock that was put back is a reason to read as well.
        let is_due = now.abs_diff(read_at) >= TOTAL_TTL;
        if is_due {
            counted.read_at = Some(now);
        }
        is_due
    }

    /// Returns the bytes of this period that have to be saved; 0 for a period that has ended.
    pub fn unsaved(&self, period: u64) -> u64 {
        let counted = self.0.lock();
        if counted.period == period { counted.unsaved } else { 0 }
    }

    /// Notes that the store has `total` for this period at `now`, `saved` of which were unsaved before. Ignored if that
    /// period has ended meanwhile.
    pub fn mark_saved(&self, period: u64, saved: u64, total: u64, now: UnixMillis) {
        let mut counted = self.0.lock();
        if counted.period != period {
            return;
        }
        // An older total may arrive after a newer one.
        counted.saved = counted.saved.max(total);
        counted.unsaved = counted.unsaved.saturating_sub(saved);
        counted.read_at = Some(now);
    }

    /// Counts `amount` of this period on this node only: the store will never take it.
    pub fn mark_unsavable(&self, period: u64, amount: u64) {
        let mut counted = self.0.lock();
        if counted.period == period {
            counted.saved = counted.saved.saturating_add(amount);
            counted.unsaved = counted.unsaved.saturating_sub(amount);
        }
    }
}

impl EgressCounts {
    /// Starts a new period with nothing: nobody needs the unsaved bytes of one that has ended.
    fn roll_period(&mut self, quota: &EgressQuota, now: UnixMillis) {
        let period = period(quota, now);
        if self.period != period {
            *self = Self { period, ..Self::default() };
        }
    }
}

/// Returns the number of the period of `now`.
pub fn period(quota: &EgressQuota, now: UnixMillis) -> u64 {
    request_counter::period_number(quota.period, now)
}

/// Returns the end of the period of `now`.
pub fn period_end(quota: &EgressQuota, now: UnixMillis) -> UnixMillis {
    request_counter::period_start(quota.period, period(quota, now) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn a_period_ends_and_what_was_sent_in_it_is_forgotten() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = EgressCounter::default();
        assert!(egress.claim_refresh(&quota, at(1_000_000)) && egress.claim_refresh(&quota, at(1_000_000)));
        egress.mark_saved(100, 0, 30, at(1_000_000));
        assert!(!egress.claim_refresh(&quota, at(1_000_399)));
        assert!(
            egress.claim_refresh(&quota, at(1_000_400)) && !egress.claim_refresh(&quota, at(1_000_400)),
            "one asks for all"
        );
        let sent = |bytes, now| egress.add_sent(&quota, bytes, now, true);
        assert!(sent(20, at(1_000_400)) && !sent(5, at(1_000_400)) && !sent(0, at(1_000_400)));
        assert_eq!(egress.used(&quota, at(1_009_999)), 55);
        egress.mark_saved(100, 25, 60, at(1_009_999));
        assert_eq!((egress.used(&quota, at(1_009_999)), egress.unsaved(100)), (60, 0));
        assert_eq!(period_end(&quota, at(1_009_999)), at(1_010_000));
        assert_eq!(egress.used(&quota, at(1_010_000)), 0);
        assert!(egress.claim_refresh(&quota, at(1_010_000)));
    }

    #[test]
    fn a_clock_that_is_put_back_stops_no_reading_of_the_ledger() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(86_400) };
        let (egress, now, millisecond) = (EgressCounter::default(), at(1_700_000_040_000), Duration::from_millis(1));
        egress.claim_refresh(&quota, now);
        egress.mark_saved(period(&quota, now), 0, 30, now);
        assert!(!egress.claim_refresh(&quota, now + millisecond));
        let back = now - Duration::from_secs(3_600);
        assert!(egress.claim_refresh(&quota, back) && !egress.claim_refresh(&quota, back + millisecond));
    }

    #[test]
    fn without_a_ledger_nothing_waits_to_be_saved_and_a_period_begins_with_nothing() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = EgressCounter::default();
        assert!(
            !egress.add_sent(&quota, 70, at(1_000_000), false) && !egress.add_sent(&quota, 50, at(1_009_999), false)
        );
        assert_eq!((egress.used(&quota, at(1_009_999)), egress.unsaved(100)), (120, 0));
        egress.add_sent(&quota, 30, at(1_010_000), false);
        assert_eq!(egress.used(&quota, at(1_010_000)), 30);
        assert_eq!(egress.used(&quota, at(1_020_000)), 0);
    }

    #[test]
    fn nothing_of_a_period_that_has_ended_counts_in_the_next_one() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = EgressCounter::default();
        assert!(egress.add_sent(&quota, 90, at(1_009_999), true));
        assert_eq!((egress.used(&quota, at(1_010_000)), egress.unsaved(100), egress.unsaved(101)), (0, 0, 0));
        assert!(egress.add_sent(&quota, 5, at(1_010_000), true), "that is saved anew");
        // What the ledger was told before comes back late.
        egress.mark_saved(100, 90, 190, at(1_010_001));
        assert_eq!((egress.used(&quota, at(1_010_001)), egress.unsaved(101)), (5, 5));
        egress.mark_saved(101, 5, 7, at(1_010_002));
        assert_eq!((egress.used(&quota, at(1_010_002)), egress.unsaved(101)), (7, 0));
    }
}
