//! Table of the subjects that a policy counts: sharded, bounded, and without those that have nothing counted. If it is
//! full, new ones share one count until there is room: the strictest limit, never none. A subject costs the same
//! however many there are.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::egress::EgressCounter;
use super::pacer::BandwidthPacer;
use super::request_counter::{RateLimitStatus, RefundReceipt, RequestCounter};
use super::settings::RequestLimit;
use primitives::unix_time::UnixMillis;

/// Shards, so that requests seldom wait for each other.
const SHARDS: usize = 64;
/// Most subjects of one policy, some hundred bytes each.
const MAX_SUBJECTS: usize = 1 << 18;
/// Subjects that are checked for each new one, so that idle ones are forgotten: more than one, or they would stay as
/// many as ever came at once. The cost of a new subject does not depend on their number.
const LOOKS: usize = 8;

/// Counters of one subject.
pub struct SubjectCounters {
    /// Its name.
    pub subject: Arc<str>,
    requests: Mutex<SubjectRequests>,
    streams: AtomicU32,
    /// Pacing of its responses.
    pub pacer: BandwidthPacer,
    /// Bytes that it was sent.
    pub egress: EgressCounter,
}

struct SubjectRequests {
    /// State, once a limit has looked at it.
    state: Option<RequestCounter>,
    /// Time until which the shared count has nothing left, whatever is counted here.
    refused_until: UnixMillis,
}

/// Limit that is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExhaustedLimit {
    /// Its requests.
    Requests(RateLimitStatus),
    /// Its streams.
    Streams,
}

impl SubjectCounters {
    fn new(subject: &str) -> Self {
        let requests = Mutex::new(SubjectRequests { state: None, refused_until: UnixMillis::EPOCH });
        let (pace, egress) = (BandwidthPacer::default(), EgressCounter::default());
        Self { subject: subject.into(), requests, streams: AtomicU32::new(0), pacer: pace, egress }
    }

    /// Takes a request and a stream, both or none.
    pub fn take(
        &self,
        rule: Option<&RequestLimit>,
        streams: Option<u32>,
        now: UnixMillis,
    ) -> Result<(Option<RateLimitStatus>, Option<RefundReceipt>), ExhaustedLimit> {
        // Held to the end: request and stream are taken together or not at all.
        let mut requests = self.requests.lock();
        let standing = rule.map(|rule| requests.status(rule, now));
        if let Some(standing) = standing.filter(|standing| standing.remaining == 0) {
            return Err(ExhaustedLimit::Requests(standing));
        }
        let more = |most: u32| {
            let next = |count: u32| (count < most).then(|| count + 1);
            self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        };
        if streams.is_some_and(|most| more(most).is_err()) {
            return Err(ExhaustedLimit::Streams);
        }
        let receipt = rule.map(|rule| requests.state(rule).take(rule));
        Ok((rule.map(|rule| requests.status(rule, now)), receipt))
    }

    /// Returns the status of its requests.
    pub fn request_status(&self, rule: &RequestLimit, now: UnixMillis) -> RateLimitStatus {
        self.requests.lock().status(rule, now)
    }

    /// Notes that the shared count refuses until `until`: the permit is given back, and Redis is not asked before.
    pub fn mark_refused(&self, rule: &RequestLimit, receipt: Option<RefundReceipt>, until: UnixMillis) {
        let mut requests = self.requests.lock();
        if let Some(receipt) = receipt {
            requests.state(rule).give_back(rule, receipt);
        }
        // The last answer counts: what a clock that was ahead has left here must not outlast it.
        if until > UnixMillis::EPOCH {
            requests.refused_until = until;
        }
    }

    /// Counts the end of a stream.
    pub fn end_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the streams under way on this node.
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Returns true if forgetting it changes nothing.
    fn is_idle(&self, idle: &IdleCriteria<'_>) -> bool {
        let mut requests = self.requests.lock();
        self.streams() == 0
            && idle.rule.is_none_or(|rule| {
                requests.refused_for(rule, idle.now).is_zero() && requests.state(rule).is_unused(rule, idle.now)
            })
            && self.pacer.is_idle(idle.nanos)
            && (idle.egress)(&self.egress)
    }
}

impl SubjectRequests {
    fn state(&mut self, rule: &RequestLimit) -> &mut RequestCounter {
        self.state.get_or_insert_with(|| RequestCounter::new(rule))
    }

    fn status(&mut self, rule: &RequestLimit, now: UnixMillis) -> RateLimitStatus {
        let standing = self.state(rule).status(rule, now);
        let wait = self.refused_for(rule, now);
        if wait.is_zero() { standing } else { RateLimitStatus { remaining: 0, reset: wait, ..standing } }
    }

    /// Returns the time for which the shared count has nothing left. A time that is longer than the rule's own was set by
    /// a clock that has been put back since, and counts for nothing.
    fn refused_for(&self, rule: &RequestLimit, now: UnixMillis) -> Duration {
        let wait = self.refused_until - now;
        if wait > rule.longest_wait() { Duration::ZERO } else { wait }
    }
}

/// Criteria by which a subject is idle.
pub struct IdleCriteria<'a> {
    /// The policy's rule.
    pub rule: Option<&'a RequestLimit>,
    /// Time of the check.
    pub now: UnixMillis,
    /// Nanoseconds of the pacer.
    pub nanos: u64,
    /// Returns true if this account can be forgotten.
    pub egress: &'a dyn Fn(&EgressCounter) -> bool,
}

/// The subjects of one policy.
pub struct SubjectTable {
    hasher: RandomState,
    shards: Vec<Mutex<SubjectShard>>,
    max_per_shard: usize,
    /// Shared counters while the table is full.
    overflow: Arc<SubjectCounters>,
}

#[derive(Default)]
struct SubjectShard {
    entries: HashMap<Arc<str>, Arc<SubjectCounters>>,
    /// The same subjects in a ring.
    ring: Vec<Arc<SubjectCounters>>,
    /// Position in the ring of the next check.
    hand: usize,
}

impl SubjectShard {
    /// Checks the next few subjects and forgets the idle ones.
    fn forget_idle(&mut self, idle: &IdleCriteria<'_>) {
        for _ in 0..LOOKS.min(self.ring.len()) {
            self.hand %= self.ring.len();
            let entry = &self.ring[self.hand];
            // A third reference means that a request uses the entry; no new one can appear while the shard is locked.
            if Arc::strong_count(entry) > 2 || !entry.is_idle(idle) {
                self.hand += 1;
                continue;
            }
            self.entries.remove(&entry.subject);
            // The last one moves to this position and is checked next, so the hand stays.
            self.ring.swap_remove(self.hand);
        }
    }
}

impl Default for SubjectTable {
    fn default() -> Self {
        Self::with_room(MAX_SUBJECTS)
    }
}

impl SubjectTable {
    /// Creates a table for about `most` subjects.
    pub fn with_room(most: usize) -> Self {
        let most = most.div_ceil(SHARDS);
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        // No request can have this name: the subjects of requests begin with a letter and `:` or `#`, or are `-`.
        let overflow = Arc::new(SubjectCounters::new("crowd"));
        Self { hasher: RandomState::new(), shards, max_per_shard: most, overflow }
    }

    /// Returns the counters of `subject`, created if there are none.
    pub fn get_or_insert(&self, subject: &str, idle: &IdleCriteria<'_>) -> Arc<SubjectCounters> {
        let mut shard = self.shard(subject).lock();
        if let Some(entry) = shard.entries.get(subject) {
            return Arc::clone(entry);
        }
        shard.forget_idle(idle);
        if shard.ring.len() >= self.max_per_shard {
            return Arc::clone(&self.overflow);
        }
        let entry = Arc::new(SubjectCounters::new(subject));
        shard.entries.insert(Arc::clone(&entry.subject), Arc::clone(&entry));
        shard.ring.push(Arc::clone(&entry));
        entry
    }

    fn shard(&self, subject: &str) -> &Mutex<SubjectShard> {
        let number = usize::try_from(self.hasher.hash_one(subject) % SHARDS as u64).expect("it is less than a usize");
        &self.shards[number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RequestLimit = RequestLimit::Window { permits: 2, segment: Duration::from_secs(60), segments: 1 };

    /// Start of a window.
    const NOW: UnixMillis = UnixMillis::new(60_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn idle(now: UnixMillis) -> IdleCriteria<'static> {
        IdleCriteria { rule: Some(&RULE), now, nanos: 0, egress: &|_| true }
    }

    #[test]
    fn a_full_table_forgets_the_idle_and_lets_nobody_past_uncounted() {
        let table = SubjectTable::with_room(SHARDS * 4);
        let mut refused = 0;
        for number in 0..10_000 {
            let entry = table.get_or_insert(&format!("u:{number}"), &idle(NOW));
            refused += usize::from(entry.take(Some(&RULE), None, NOW).is_err());
        }
        let kept: usize = table.shards.iter().map(|shard| shard.lock().entries.len()).sum();
        assert_eq!(kept, SHARDS * 4);
        assert_eq!(refused, 10_000 - kept - 2, "all that found no room share one count");
        // In the next window all are idle, and there is room again.
        for number in 0..100 {
            let entry = table.get_or_insert(&format!("new:{number}"), &idle(NOW + MINUTE));
            assert_eq!(*entry.subject, *format!("new:{number}"));
        }
    }

    #[test]
    fn a_new_subject_costs_the_same_however_full_the_table_is() {
        let table = SubjectTable::with_room(SHARDS * 1000);
        let looks = std::cell::Cell::new(0);
        let busy = |_: &EgressCounter| {
            looks.set(looks.get() + 1);
            false
        };
        for number in 0..SHARDS * 1100 {
            table
                .get_or_insert(&format!("u:{number}"), &IdleCriteria { rule: None, now: NOW, nanos: 0, egress: &busy });
        }
        assert!(looks.get() <= SHARDS * 1100 * LOOKS, "{} looks", looks.get());
    }

    #[test]
    fn the_idle_are_forgotten_long_before_the_table_is_full() {
        let table = SubjectTable::with_room(SHARDS * 1000);
        for number in 0..100_000_u64 {
            table.get_or_insert(&format!("u:{number}"), &idle(NOW + Duration::from_millis(number)));
        }
        let kept: usize = table.shards.iter().map(|shard| shard.lock().ring.len()).sum();
        assert!(kept <= SHARDS * LOOKS, "{kept} are kept");
    }

    #[test]
    fn who_has_something_counted_is_not_forgotten() {
        let table = SubjectTable::with_room(SHARDS * 4);
        let held = table.get_or_insert("u:alice", &idle(NOW));
        held.take(None, Some(1), NOW).expect("the first stream");
        drop(held);
        for number in 0..10_000 {
            table.get_or_insert(&format!("u:{number}"), &idle(NOW));
        }
        let again = table.get_or_insert("u:alice", &idle(NOW));
        assert_eq!(again.take(None, Some(1), NOW), Err(ExhaustedLimit::Streams));
        again.end_stream();
        assert!(again.take(None, Some(1), NOW).is_ok());
    }

    #[test]
    fn a_refusal_by_the_shared_count_ends_with_its_window_though_the_clock_is_put_back() {
        let (entry, now) = (SubjectCounters::new("u:alice"), UnixMillis::new(1_700_000_040_000));
        let (_, receipt) = entry.take(Some(&RULE), None, now).expect("the first");
        entry.mark_refused(&RULE, receipt, now + Duration::from_millis(50_000));
        let last = now + Duration::from_millis(49_999);
        assert!(matches!(entry.take(Some(&RULE), None, last), Err(ExhaustedLimit::Requests(_))));
        for back in [Duration::from_secs(3_600), Duration::from_secs(86_400)] {
            assert!(entry.take(Some(&RULE), None, now - back).is_ok(), "{back:?} back");
            assert!(entry.is_idle(&idle(now - back + 2 * MINUTE)), "{back:?} back");
        }
    }

    #[test]
    fn a_request_and_a_stream_are_taken_both_or_not_at_all() {
        let entry = SubjectCounters::new("u:alice");
        entry.take(Some(&RULE), Some(1), NOW).expect("one of each");
        assert_eq!(entry.take(Some(&RULE), Some(1), NOW), Err(ExhaustedLimit::Streams));
        assert_eq!(entry.request_status(&RULE, NOW).remaining, 1, "the refused one is not counted");
        entry.end_stream();
        entry.take(Some(&RULE), Some(1), NOW).expect("the second");
        entry.end_stream();
        assert!(matches!(entry.take(Some(&RULE), Some(1), NOW), Err(ExhaustedLimit::Requests(_))));
        assert_eq!(entry.streams(), 0);
    }
}
