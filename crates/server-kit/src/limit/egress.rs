//! How much a subject was sent in a period. It is counted as it is sent; what was counted is saved every half second where
//! there is a ledger, and read from it while a subject asks: other nodes may have sent it more.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::request_counter;
use super::settings::EgressQuota;

/// How long what the ledger said is believed, in milliseconds.
pub const TOTAL_TTL_MILLIS: u64 = 400;

/// One subject's account of one period.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EgressAccount {
    /// The policy.
    pub policy: Arc<str>,
    /// The subject.
    pub subject: Arc<str>,
    /// The number of the period, counted from 1970.
    pub period: u64,
    /// When it ends, in milliseconds since the Unix epoch.
    pub ends: u64,
    /// How long that is from now, in milliseconds.
    pub left: u64,
}

/// The ledger does not answer, for this reason; its text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EgressStoreError(pub String);

/// Keeps what was sent, for all nodes.
#[async_trait]
pub trait EgressStore: Send + Sync {
    /// What the account has.
    async fn read(&self, account: &EgressAccount) -> Result<u64, EgressStoreError>;
    /// Adds to the accounts; what each of them has then, `None` for one that the ledger can never take. All of them, or an
    /// error.
    async fn add(&self, entries: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, EgressStoreError>;
    /// Forgets the periods that have ended at `now`.
    async fn delete_ended(&self, now: u64) -> Result<(), EgressStoreError>;
}

/// The bytes that one subject was sent in a period, as far as they are known here.
#[derive(Debug, Default)]
pub struct EgressCounter(Mutex<EgressCounts>);

#[derive(Debug, Default)]
struct EgressCounts {
    period: u64,
    /// When the ledger was asked last, in milliseconds since the Unix epoch; 0: not yet in this period.
    read_at: u64,
    /// Bytes that the ledger has; without a ledger, all.
    saved: u64,
    /// Bytes that the ledger is to be told of.
    unsaved: u64,
}

impl EgressCounter {
    /// The bytes of the period of `now`.
    pub fn used(&self, quota: &EgressQuota, now: u64) -> u64 {
        let mut counted = self.0.lock();
        counted.roll_period(quota, now);
        counted.saved.saturating_add(counted.unsaved)
    }

    /// Counts what is sent; true for the first since the last saving, where there is a ledger to save it in (`kept`).
    pub fn add_sent(&self, quota: &EgressQuota, bytes: u64, now: u64, kept: bool) -> bool {
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

    /// Whether the caller has to ask the ledger: in a new period everybody, and then one of them now and again.
    pub fn claim_refresh(&self, quota: &EgressQuota, now: u64) -> bool {
        let mut counted = self.0.lock();
        counted.roll_period(quota, now);
        if counted.read_at == 0 {
            return true;
        }
        let is_due = now >= counted.read_at.saturating_add(TOTAL_TTL_MILLIS);
        if is_due {
            counted.read_at = now;
        }
        is_due
    }

    /// Bytes of this period that have to be saved; of one that has ended, none.
    pub fn unsaved(&self, period: u64) -> u64 {
        let counted = self.0.lock();
        if counted.period == period { counted.unsaved } else { 0 }
    }

    /// The ledger has `total` of this period at `now`, in which `saved` is what was not saved before. Where that period has
    /// ended meanwhile, it says nothing of the one that began.
    pub fn mark_saved(&self, period: u64, saved: u64, total: u64, now: u64) {
        let mut counted = self.0.lock();
        if counted.period != period {
            return;
        }
        // An older total may come behind a newer one.
        counted.saved = counted.saved.max(total);
        counted.unsaved = counted.unsaved.saturating_sub(saved);
        counted.read_at = now;
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
    /// A new period begins with nothing: nobody asks for what has not been saved of one that has ended.
    fn roll_period(&mut self, quota: &EgressQuota, now: u64) {
        let period = period(quota, now);
        if self.period != period {
            *self = Self { period, ..Self::default() };
        }
    }
}

/// The number of the period of `now`.
pub fn period(quota: &EgressQuota, now: u64) -> u64 {
    now / request_counter::millis(quota.period)
}

/// When the period of `now` ends.
pub fn period_end(quota: &EgressQuota, now: u64) -> u64 {
    (period(quota, now) + 1) * request_counter::millis(quota.period)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_period_ends_and_what_was_sent_in_it_is_forgotten() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = EgressCounter::default();
        assert!(egress.claim_refresh(&quota, 1_000_000) && egress.claim_refresh(&quota, 1_000_000));
        egress.mark_saved(100, 0, 30, 1_000_000);
        assert!(!egress.claim_refresh(&quota, 1_000_399));
        assert!(
            egress.claim_refresh(&quota, 1_000_400) && !egress.claim_refresh(&quota, 1_000_400),
            "one asks for all"
        );
        let sent = |bytes, now| egress.add_sent(&quota, bytes, now, true);
        assert!(sent(20, 1_000_400) && !sent(5, 1_000_400) && !sent(0, 1_000_400));
        assert_eq!(egress.used(&quota, 1_009_999), 55);
        egress.mark_saved(100, 25, 60, 1_009_999);
        assert_eq!((egress.used(&quota, 1_009_999), egress.unsaved(100)), (60, 0));
        assert_eq!(period_end(&quota, 1_009_999), 1_010_000);
        assert_eq!(egress.used(&quota, 1_010_000), 0);
        assert!(egress.claim_refresh(&quota, 1_010_000));
    }

    #[test]
    fn without_a_ledger_nothing_waits_to_be_saved_and_a_period_begins_with_nothing() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = EgressCounter::default();
        assert!(!egress.add_sent(&quota, 70, 1_000_000, false) && !egress.add_sent(&quota, 50, 1_009_999, false));
        assert_eq!((egress.used(&quota, 1_009_999), egress.unsaved(100)), (120, 0));
        egress.add_sent(&quota, 30, 1_010_000, false);
        assert_eq!(egress.used(&quota, 1_010_000), 30);
        assert_eq!(egress.used(&quota, 1_020_000), 0);
    }

    #[test]
    fn nothing_of_a_period_that_has_ended_counts_in_the_next_one() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = EgressCounter::default();
        assert!(egress.add_sent(&quota, 90, 1_009_999, true));
        assert_eq!((egress.used(&quota, 1_010_000), egress.unsaved(100), egress.unsaved(101)), (0, 0, 0));
        assert!(egress.add_sent(&quota, 5, 1_010_000, true), "that is saved anew");
        // What the ledger was told before comes back late.
        egress.mark_saved(100, 90, 190, 1_010_001);
        assert_eq!((egress.used(&quota, 1_010_001), egress.unsaved(101)), (5, 5));
        egress.mark_saved(101, 5, 7, 1_010_002);
        assert_eq!((egress.used(&quota, 1_010_002), egress.unsaved(101)), (7, 0));
    }
}
