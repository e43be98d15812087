//! Questions that could not be answered a moment ago, so that the sources are not asked them again at once.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use primitives::clock::monotonic_now;

/// Most questions that are remembered, some 200 KiB: of more the oldest are forgotten.
const MAX_QUESTIONS: usize = 4096;

/// Questions that failed less than a time ago, by hashes with a key of this process.
pub struct RecentFailures {
    time: Duration,
    hashes: RandomState,
    table: Mutex<FailureTable>,
}

#[derive(Default)]
struct FailureTable {
    until: HashMap<u64, Instant>,
    /// The same in the order of their times; those that were forgotten or have failed again are there twice.
    order: VecDeque<(u64, Instant)>,
}

impl FailureTable {
    fn drop_oldest(&mut self) {
        if let Some((question, until)) = self.order.pop_front()
            && self.until.get(&question) == Some(&until)
        {
            self.until.remove(&question);
        }
    }
}

impl RecentFailures {
    /// Creates a memory in which each question stays for `time`.
    pub fn new(time: Duration) -> Self {
        Self { time, hashes: RandomState::new(), table: Mutex::default() }
    }

    /// Remembers that a question failed now.
    pub fn record(&self, question: &str) {
        let (question, now) = (self.hashes.hash_one(question), monotonic_now());
        let mut table = self.table.lock();
        while table.order.front().is_some_and(|(_, until)| *until <= now) || table.order.len() >= MAX_QUESTIONS {
            table.drop_oldest();
        }
        table.until.insert(question, now + self.time);
        table.order.push_back((question, now + self.time));
    }

    /// Forgets a question that was answered.
    pub fn forget(&self, question: &str) {
        self.table.lock().until.remove(&self.hashes.hash_one(question));
    }

    /// Returns true where the question failed less than the time ago.
    pub fn is_recent(&self, question: &str) -> bool {
        let until = self.table.lock().until.get(&self.hashes.hash_one(question)).copied();
        until.is_some_and(|until| monotonic_now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_for_its_time_and_in_bounds() {
        let time = Duration::from_secs(60);
        let failures = RecentFailures::new(time);
        failures.record("a");
        failures.record("b");
        failures.forget("b");
        assert_eq!(["a", "b", "c"].map(|question| failures.is_recent(question)), [true, false, false]);
        tokio::time::advance(time / 2).await;
        failures.record("a");
        tokio::time::advance(time / 2).await;
        failures.record("c");
        assert!(failures.is_recent("a"), "it failed again");
        tokio::time::advance(time / 2).await;
        assert!(!failures.is_recent("a"));
        for number in 0..3 * MAX_QUESTIONS {
            failures.record(&number.to_string());
        }
        let table = failures.table.lock();
        assert_eq!((table.until.len(), table.order.len()), (MAX_QUESTIONS, MAX_QUESTIONS));
    }
}
