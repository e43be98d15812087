//! The subjects that a policy counts: sharded, bounded, and without those that have nothing counted. Where there is no
//! room for another one, new ones share one count until there is: the strictest bucket, never none.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::egress::Egress;
use super::pace::Pace;
use super::rule::{Receipt, Standing, State};
use super::settings::Rule;

/// So that requests seldom wait for each other.
const SHARDS: usize = 64;
/// Subjects of one policy, some hundred bytes each.
const MAX_SUBJECTS: usize = 1 << 18;
/// Subjects in a shard before it is looked through for the first time.
const FEW: usize = 64;

/// One subject.
pub struct Entry {
    /// Its name.
    pub subject: Arc<str>,
    requests: Mutex<Requests>,
    streams: AtomicU32,
    /// How fast it is sent.
    pub pace: Pace,
    /// How much it was sent.
    pub egress: Egress,
}

struct Requests {
    /// There once a rule has looked at it.
    state: Option<State>,
    /// Until then, in milliseconds, the shared count has nothing left, whatever is counted here.
    refused_until: u64,
}

/// Why an entry gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its requests.
    Requests(Standing),
    /// Its streams.
    Streams,
}

impl Entry {
    fn new(subject: &str) -> Self {
        let requests = Mutex::new(Requests { state: None, refused_until: 0 });
        let (pace, egress) = (Pace::default(), Egress::default());
        Self { subject: subject.into(), requests, streams: AtomicU32::new(0), pace, egress }
    }

    /// Takes a request and a stream, both or none.
    pub fn take(
        &self,
        rule: Option<&Rule>,
        streams: Option<u32>,
        now: u64,
    ) -> Result<(Option<Standing>, Option<Receipt>), Spent> {
        let mut requests = self.requests.lock();
        let standing = rule.map(|rule| requests.standing(rule, now));
        if let Some(standing) = standing.filter(|standing| standing.remaining == 0) {
            return Err(Spent::Requests(standing));
        }
        let more = |most: u32| {
            let next = |count: u32| (count < most).then(|| count + 1);
            self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        };
        if streams.is_some_and(|most| more(most).is_err()) {
            return Err(Spent::Streams);
        }
        let receipt = rule.map(|rule| requests.state(rule).take(rule));
        Ok((rule.map(|rule| requests.standing(rule, now)), receipt))
    }

    /// How its requests stand.
    pub fn standing(&self, rule: &Rule, now: u64) -> Standing {
        self.requests.lock().standing(rule, now)
    }

    /// The shared count refuses until `until`: what was taken is given back, and nothing is asked before.
    pub fn refused(&self, rule: &Rule, receipt: Option<Receipt>, until: u64) {
        let mut requests = self.requests.lock();
        if let Some(receipt) = receipt {
            requests.state(rule).give_back(rule, receipt);
        }
        requests.refused_until = requests.refused_until.max(until);
    }

    /// A stream ends.
    pub fn end_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Streams under way here.
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether forgetting it changes nothing.
    fn is_idle(&self, idle: &Idle<'_>) -> bool {
        let mut requests = self.requests.lock();
        self.streams() == 0
            && requests.refused_until <= idle.now
            && idle.rule.is_none_or(|rule| requests.state(rule).is_fresh(rule, idle.now))
            && self.pace.is_idle(idle.nanos)
            && (idle.egress)(&self.egress)
    }
}

impl Requests {
    fn state(&mut self, rule: &Rule) -> &mut State {
        self.state.get_or_insert_with(|| State::new(rule))
    }

    fn standing(&mut self, rule: &Rule, now: u64) -> Standing {
        let standing = self.state(rule).standing(rule, now);
        match self.refused_until.checked_sub(now) {
            None | Some(0) => standing,
            Some(wait) => Standing { remaining: 0, reset: std::time::Duration::from_millis(wait), ..standing },
        }
    }
}

/// What being idle means for a policy.
pub struct Idle<'a> {
    /// The policy's rule.
    pub rule: Option<&'a Rule>,
    /// Milliseconds since the Unix epoch.
    pub now: u64,
    /// The same for the pace.
    pub nanos: u64,
    /// Whether this account can be forgotten.
    pub egress: &'a dyn Fn(&Egress) -> bool,
}

/// The subjects of one policy.
pub struct Table {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    most: usize,
    /// Who came when there was no room.
    crowd: Arc<Entry>,
}

struct Shard {
    entries: HashMap<Arc<str>, Arc<Entry>>,
    /// Entries at which it is looked through.
    full: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_room(MAX_SUBJECTS)
    }
}

impl Table {
    /// Room for `most` subjects, about.
    pub fn with_room(most: usize) -> Self {
        let most = most.div_ceil(SHARDS);
        let shard = || Mutex::new(Shard { entries: HashMap::new(), full: FEW.min(most) });
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self { hasher: RandomState::new(), shards, most, crowd: Arc::new(Entry::new("crowd")) }
    }

    /// The entry of `subject`, made where there is none.
    pub fn entry(&self, subject: &str, idle: &Idle<'_>) -> Arc<Entry> {
        let mut shard = self.shard(subject).lock();
        if let Some(entry) = shard.entries.get(subject) {
            return Arc::clone(entry);
        }
        if shard.entries.len() >= shard.full {
            // Whoever holds an entry still uses it; nobody can get hold of one while the shard is locked.
            shard.entries.retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.is_idle(idle));
            if shard.entries.len() >= self.most {
                return Arc::clone(&self.crowd);
            }
            shard.full = (shard.entries.len() * 2).clamp(FEW.min(self.most), self.most);
        }
        let entry = Arc::new(Entry::new(subject));
        shard.entries.insert(Arc::clone(&entry.subject), Arc::clone(&entry));
        entry
    }

    fn shard(&self, subject: &str) -> &Mutex<Shard> {
        let number = usize::try_from(self.hasher.hash_one(subject) % SHARDS as u64).expect("it is less than a usize");
        &self.shards[number]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: Rule = Rule::Window { permits: 2, segment: Duration::from_secs(60), segments: 1 };

    fn idle(now: u64) -> Idle<'static> {
        Idle { rule: Some(&RULE), now, nanos: 0, egress: &|_| true }
    }

    #[test]
    fn a_full_table_forgets_the_idle_and_lets_nobody_past_uncounted() {
        let table = Table::with_room(SHARDS * 4);
        let mut refused = 0;
        for number in 0..10_000 {
            let entry = table.entry(&format!("u:{number}"), &idle(60_000));
            refused += usize::from(entry.take(Some(&RULE), None, 60_000).is_err());
        }
        let kept: usize = table.shards.iter().map(|shard| shard.lock().entries.len()).sum();
        assert_eq!(kept, SHARDS * 4);
        assert_eq!(refused, 10_000 - kept - 2, "all that found no room share one count");
        // In the next window all are idle, and there is room again.
        for number in 0..100 {
            let entry = table.entry(&format!("new:{number}"), &idle(120_000));
            assert_eq!(*entry.subject, *format!("new:{number}"));
        }
    }

    #[test]
    fn who_has_something_counted_is_not_forgotten() {
        let table = Table::with_room(SHARDS * 4);
        let held = table.entry("u:alice", &idle(60_000));
        held.take(None, Some(1), 60_000).expect("the first stream");
        drop(held);
        for number in 0..10_000 {
            table.entry(&format!("u:{number}"), &idle(60_000));
        }
        let again = table.entry("u:alice", &idle(60_000));
        assert_eq!(again.take(None, Some(1), 60_000), Err(Spent::Streams));
        again.end_stream();
        assert!(again.take(None, Some(1), 60_000).is_ok());
    }

    #[test]
    fn a_request_and_a_stream_are_taken_both_or_not_at_all() {
        let entry = Entry::new("u:alice");
        entry.take(Some(&RULE), Some(1), 60_000).expect("one of each");
        assert_eq!(entry.take(Some(&RULE), Some(1), 60_000), Err(Spent::Streams));
        assert_eq!(entry.standing(&RULE, 60_000).remaining, 1, "the refused one is not counted");
        entry.end_stream();
        entry.take(Some(&RULE), Some(1), 60_000).expect("the second");
        entry.end_stream();
        assert!(matches!(entry.take(Some(&RULE), Some(1), 60_000), Err(Spent::Requests(_))));
        assert_eq!(entry.streams(), 0);
    }
}
