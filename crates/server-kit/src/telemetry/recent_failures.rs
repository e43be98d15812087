//! The last failures, for the operator: so many and no more, and nothing in them that a client sent.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use http_semantics::error_codes::{ErrorCode, ErrorLevel};
use primitives::unix_time::UnixMillis;

/// Failures that are kept of each kind.
const KEPT: usize = 50;

/// A request that failed or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRecord {
    /// Time when its answer was over.
    pub at: UnixMillis,
    /// Its code.
    pub code: ErrorCode,
    /// Id of its route; `None` where none took it.
    pub route: Option<Arc<str>>,
    /// Id of the request.
    pub request_id: Box<str>,
}

/// The last failures. Those that an operator should look at have a place of their own, so that refusals, which clients can
/// cause as many of as they like, do not push them out.
#[derive(Debug, Default)]
pub struct RecentFailures {
    troubles: Mutex<VecDeque<FailureRecord>>,
    refusals: Mutex<VecDeque<FailureRecord>>,
}

impl RecentFailures {
    /// Records a failure.
    pub fn record(&self, failure: FailureRecord) {
        let mut kept = match failure.code.level() {
            // A flood of refusals makes nobody wait; that one of them is missing matters to nobody.
            ErrorLevel::Info => match self.refusals.try_lock() {
                Some(kept) => kept,
                None => return,
            },
            ErrorLevel::Warn | ErrorLevel::Error => self.troubles.lock(),
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(failure);
    }

    /// Returns all that are kept, the latest first.
    pub fn all(&self) -> Vec<FailureRecord> {
        let mut all: Vec<FailureRecord> = self.troubles.lock().iter().cloned().collect();
        all.extend(self.refusals.lock().iter().cloned());
        all.sort_by_key(|failure| std::cmp::Reverse(failure.at));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at: i64, code: ErrorCode) -> FailureRecord {
        FailureRecord { at: UnixMillis::new(at), code, route: None, request_id: "1".into() }
    }

    #[test]
    fn refusals_push_no_trouble_out_and_all_are_bounded() {
        let recent = RecentFailures::default();
        recent.record(failure(0, ErrorCode::BadGateway));
        for at in 1..1000 {
            recent.record(failure(at, ErrorCode::NoRoute));
        }
        let all = recent.all();
        assert_eq!(all.len(), KEPT + 1);
        assert_eq!((all[0].at, all[KEPT].code), (UnixMillis::new(999), ErrorCode::BadGateway));
        for at in 1000..2000 {
            recent.record(failure(at, ErrorCode::Internal));
        }
        assert_eq!(recent.all().len(), 2 * KEPT);
    }
}
