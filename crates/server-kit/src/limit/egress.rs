//! How much a subject was sent in a period. It is counted as it is sent; what was counted is saved every half second where
//! there is a ledger, and read from it while a subject asks: other nodes may have sent it more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::rule;
use super::settings::EgressQuota;

/// How long what the ledger said is believed, in milliseconds.
pub const FRESH: u64 = 400;

/// One subject's account of one period.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
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
pub struct Unavailable(pub String);

/// Keeps what was sent, for all nodes.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// What the account has.
    async fn read(&self, account: &Account) -> Result<u64, Unavailable>;
    /// Adds to the accounts; what each of them has then. All of it, or an error.
    async fn add(&self, entries: &[(Account, u64)]) -> Result<Vec<u64>, Unavailable>;
    /// Forgets the periods that have ended at `now`.
    async fn forget(&self, now: u64) -> Result<(), Unavailable>;
}

/// What is known here of one subject.
#[derive(Debug, Default)]
pub struct Egress {
    period: AtomicU64,
    /// When the ledger was asked last, in milliseconds since the Unix epoch; 0: not yet in this period.
    known: AtomicU64,
    /// Bytes of this period that the ledger has; without a ledger, all.
    saved: AtomicU64,
    /// Bytes that the ledger is to be told of.
    unsaved: AtomicU64,
}

impl Egress {
    /// What is used in the period of `now`.
    pub fn used(&self, quota: &EgressQuota, now: u64) -> u64 {
        self.begin(quota, now);
        self.saved.load(Ordering::Relaxed).saturating_add(self.unsaved.load(Ordering::Relaxed))
    }

    /// Counts what is sent; true for the first since the last saving, where there is a ledger to save it in (`kept`).
    pub fn sent(&self, quota: &EgressQuota, bytes: u64, now: u64, kept: bool) -> bool {
        self.begin(quota, now);
        if !kept {
            self.saved.fetch_add(bytes, Ordering::Relaxed);
            return false;
        }
        bytes > 0 && self.unsaved.fetch_add(bytes, Ordering::Relaxed) == 0
    }

    /// Whether the caller has to ask the ledger: in a new period everybody, and then one of them now and again.
    pub fn is_due(&self, quota: &EgressQuota, now: u64) -> bool {
        self.begin(quota, now);
        let known = self.known.load(Ordering::Relaxed);
        let next = |known| self.known.compare_exchange(known, now, Ordering::Relaxed, Ordering::Relaxed);
        known == 0 || (now >= known.saturating_add(FRESH) && next(known).is_ok())
    }

    /// What has to be saved.
    pub fn unsaved(&self) -> u64 {
        self.unsaved.load(Ordering::Relaxed)
    }

    /// The ledger has `total` at `now`, in which `saved` is what was not saved before.
    pub fn is_saved(&self, saved: u64, total: u64, now: u64) {
        // In this order: in between it is too much, never too little. An older total may come behind a newer one.
        self.saved.fetch_max(total, Ordering::Relaxed);
        self.unsaved.fetch_sub(saved, Ordering::Relaxed);
        self.known.store(now, Ordering::Relaxed);
    }

    /// A new period begins with what has not been saved of the old one's last second.
    fn begin(&self, quota: &EgressQuota, now: u64) {
        let period = period(quota, now);
        if self.period.swap(period, Ordering::Relaxed) != period {
            self.saved.store(0, Ordering::Relaxed);
            self.known.store(0, Ordering::Relaxed);
        }
    }
}

/// The number of the period of `now`.
pub fn period(quota: &EgressQuota, now: u64) -> u64 {
    now / rule::millis(quota.period)
}

/// When the period of `now` ends.
pub fn ends(quota: &EgressQuota, now: u64) -> u64 {
    (period(quota, now) + 1) * rule::millis(quota.period)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_period_ends_and_what_was_sent_in_it_is_forgotten() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = Egress::default();
        assert!(egress.is_due(&quota, 1_000_000) && egress.is_due(&quota, 1_000_000));
        egress.is_saved(0, 30, 1_000_000);
        assert!(!egress.is_due(&quota, 1_000_399));
        assert!(egress.is_due(&quota, 1_000_400) && !egress.is_due(&quota, 1_000_400), "one asks for all");
        let sent = |bytes, now| egress.sent(&quota, bytes, now, true);
        assert!(sent(20, 1_000_400) && !sent(5, 1_000_400) && !sent(0, 1_000_400));
        assert_eq!(egress.used(&quota, 1_009_999), 55);
        egress.is_saved(25, 60, 1_009_999);
        assert_eq!((egress.used(&quota, 1_009_999), egress.unsaved()), (60, 0));
        assert_eq!(ends(&quota, 1_009_999), 1_010_000);
        assert_eq!(egress.used(&quota, 1_010_000), 0);
        assert!(egress.is_due(&quota, 1_010_000));
    }

    #[test]
    fn without_a_ledger_nothing_waits_to_be_saved_and_a_period_begins_with_nothing() {
        let quota = EgressQuota { bytes: 100, period: Duration::from_secs(10) };
        let egress = Egress::default();
        assert!(!egress.sent(&quota, 70, 1_000_000, false) && !egress.sent(&quota, 50, 1_009_999, false));
        assert_eq!((egress.used(&quota, 1_009_999), egress.unsaved()), (120, 0));
        egress.sent(&quota, 30, 1_010_000, false);
        assert_eq!(egress.used(&quota, 1_010_000), 30);
        assert_eq!(egress.used(&quota, 1_020_000), 0);
    }
}
