//! Values that are loaded on demand and kept for a short time: bounded, loaded once however many wait, and used on
//! while the source does not answer. Must not know what is loaded, or from where.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::clock::monotonic_now;
use foyer::{Cache, CacheBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// Time for which a kept value is used on without loading it again, after its load failed.
const FAILURE_BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait for a load where a value is kept, for as long after any load failed: the source may be away, or only
/// that one load may fail, so that others are still tried.
const HURRY: Duration = Duration::from_millis(100);
/// Approximate bytes of an entry besides its key and its value.
const ENTRY_OVERHEAD: usize = 192;
/// Number of loads under way from which abandoned ones are swept out.
const SWEEP_THRESHOLD: usize = 1024;

type CacheKey = Box<str>;
type LoadFuture<V> = BoxFuture<'static, Option<V>>;

/// A cache of values that are loaded on demand.
pub struct LoadingCache<V: Send + Sync + 'static> {
    cached: Cache<CacheKey, CachedValue<V>>,
    in_flight: Mutex<HashMap<CacheKey, WeakShared<LoadFuture<V>>>>,
    backoff_until: Mutex<Option<Instant>>,
    fresh: Duration,
    stale: bool,
}

#[derive(Clone)]
struct CachedValue<V> {
    value: V,
    /// Time from which it is loaded again.
    fresh_until: Instant,
}

/// Step to a value that was not kept when it was looked for.
enum LoadStep<V: Send + Sync + 'static> {
    /// It is by now.
    Kept(V),
    /// It is being loaded.
    UnderWay(Shared<LoadFuture<V>>),
}

impl<V: Clone + Send + Sync + 'static> LoadingCache<V> {
    /// Makes a cache of about `bytes` at most; `holds` returns the bytes of a value beyond its own size. A value is
    /// used for `fresh`; with `stale`, for longer while loads fail.
    pub fn new(bytes: usize, fresh: Duration, stale: bool, holds: fn(&V) -> usize) -> Self {
        let weight = move |key: &CacheKey, kept: &CachedValue<V>| {
            ENTRY_OVERHEAD + size_of::<CachedValue<V>>() + key.len() + holds(&kept.value)
        };
        let kept = CacheBuilder::new(bytes).with_shards(8).with_weighter(weight).build();
        Self { cached: kept, in_flight: Mutex::default(), backoff_until: Mutex::default(), fresh, stale }
    }

    /// Returns the value for `key`: the kept one while it is fresh, else what `ask` resolves to. `ask` is called only
    /// where no load of `key` is under way. `None` where the load failed and no older value may be used.
    pub async fn get<F>(&self, key: &str, ask: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let kept = self.cached.get(key).map(|entry| entry.value().clone());
        let stale = match kept {
            Some(kept) if monotonic_now() < kept.fresh_until => return Some(kept.value),
            Some(kept) if self.stale => Some(kept.value),
            _ => None,
        };
        let asking = match self.join_or_start(key, ask) {
            LoadStep::Kept(value) => return Some(value),
            LoadStep::UnderWay(asking) => asking,
        };
        let is_hurried = stale.is_some() && self.backoff_until.lock().is_some_and(|until| monotonic_now() < until);
        // `None`: a source that answers, but slowly. It has not failed: nobody else is hurried for it, so that the next
        // load after the backoff may take its time, and no value is used on for ever.
        let answer = match is_hurried {
            true => tokio::time::timeout(HURRY, asking.clone()).await.ok(),
            false => Some(asking.clone().await),
        };
        if let Some(Some(value)) = &answer {
            self.insert_loaded(key, &asking, value, self.fresh);
            return answer.flatten();
        }
        if answer.is_some() {
            *self.backoff_until.lock() = Some(monotonic_now() + FAILURE_BACKOFF);
        }
        // Fresh for the backoff time only: the source is not asked for this key again before.
        if let Some(value) = &stale {
            self.insert_loaded(key, &asking, value, FAILURE_BACKOFF);
        }
        stale
    }

    /// Drops the value for `key`. A load under way still answers those who wait for it, but is not kept.
    pub fn invalidate(&self, key: &str) {
        // First the load: it could otherwise end in between, and an outdated value would be kept.
        self.in_flight.lock().remove(key);
        self.cached.remove(key);
    }

    /// Drops all values, as [`LoadingCache::invalidate`] drops one.
    pub fn clear(&self) {
        self.in_flight.lock().clear();
        self.cached.clear();
    }

    /// Returns the load of `key` that is under way, or starts one, unless one has ended since the caller looked.
    fn join_or_start<F>(&self, key: &str, ask: impl FnOnce() -> F) -> LoadStep<V>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let mut under_way = self.in_flight.lock();
        if let Some(asking) = under_way.get(key).and_then(WeakShared::upgrade) {
            return LoadStep::UnderWay(asking);
        }
        // Under the lock under which values are kept.
        let kept = self.cached.get(key).map(|entry| entry.value().clone());
        if let Some(kept) = kept.filter(|kept| monotonic_now() < kept.fresh_until) {
            return LoadStep::Kept(kept.value);
        }
        // A load that all its callers abandoned never ends, and leaves its weak entry behind.
        if under_way.len() >= SWEEP_THRESHOLD {
            under_way.retain(|_, asking| asking.upgrade().is_some());
        }
        let asking = ask().boxed().shared();
        if let Some(weak) = asking.downgrade() {
            under_way.insert(key.into(), weak);
        }
        LoadStep::UnderWay(asking)
    }

    /// Keeps a value, unless its load was invalidated meanwhile or another caller has kept it already.
    fn insert_loaded(&self, key: &str, asking: &Shared<LoadFuture<V>>, value: &V, fresh: Duration) {
        let mut under_way = self.in_flight.lock();
        let current = under_way.get(key).and_then(WeakShared::upgrade);
        if current.is_some_and(|current| current.ptr_eq(asking)) {
            under_way.remove(key);
            self.cached.insert(key.into(), CachedValue { value: value.clone(), fresh_until: monotonic_now() + fresh });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const BYTES: usize = 1 << 20;

    #[tokio::test]
    async fn long_keys_and_large_answers_leave_room_for_few() {
        let memo = LoadingCache::new(BYTES, Duration::from_secs(60), true, |text: &Arc<str>| text.len());
        let answer: Arc<str> = "x".repeat(10_000).into();
        for number in 0..1000 {
            let (key, answer) = (format!("{number}{}", "x".repeat(10_000)), Arc::clone(&answer));
            memo.get(&key, || async { Some(answer) }).await;
        }
        let used = memo.cached.usage();
        assert!((BYTES / 4..=BYTES).contains(&used), "{used}");
        assert!(memo.cached.entries() * 20_000 <= BYTES, "{} entries", memo.cached.entries());
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_believed_for_its_time_and_no_longer() {
        let fresh = Duration::from_millis(500);
        let memo = LoadingCache::new(BYTES, fresh, true, |_| 0);
        assert_eq!(memo.get("key", || async { Some(1) }).await, Some(1));
        tokio::time::advance(fresh - Duration::from_millis(1)).await;
        assert_eq!(memo.get("key", || async { Some(2) }).await, Some(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(memo.get("key", || async { Some(2) }).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_failed_once_and_is_slow_then_is_not_hurried_for_ever() {
        let memo = LoadingCache::new(BYTES, Duration::ZERO, true, |_: &u32| 0);
        assert_eq!(memo.get("key", || async { Some(1) }).await, Some(1));
        assert_eq!(memo.get("key", || async { None }).await, Some(1), "it failed: the old value");
        let slow = || async {
            tokio::time::sleep(2 * HURRY).await;
            Some(2)
        };
        let begun = monotonic_now();
        // Others ask all the time, of another key; the backoff of one second must end all the same.
        memo.get("other", || async { Some(1) }).await;
        while memo.get("key", slow).await != Some(2) {
            assert!(monotonic_now() - begun < 5 * FAILURE_BACKOFF, "the old value is used on");
            memo.get("other", slow).await;
            // What is answered from memory waits for nothing, and a paused clock would stand still.
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn many_askers_cost_one_question() {
        let memo = LoadingCache::new(BYTES, Duration::from_secs(60), true, |_| 0);
        let asked = Arc::new(AtomicU32::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let ask = || {
            let (asked, mut gate) = (Arc::clone(&asked), gate.clone());
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                gate.wait_for(|open| *open).await.ok().map(|_| 7)
            }
        };
        let all = futures::future::join_all((0..50).map(|_| memo.get("a", ask)));
        let (answers, ()) = tokio::join!(all, async {
            open.send_replace(true);
        });
        assert!(answers.into_iter().all(|answer| answer == Some(7)));
        assert_eq!(memo.get("a", ask).await, Some(7));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_asks_while_a_load_ends_loads_nothing_again() {
        let memo = Arc::new(LoadingCache::new(BYTES, Duration::from_secs(60), true, |_| 0));
        let asked = Arc::new(AtomicU32::new(0));
        for round in 0..2000_u32 {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let (memo, asked) = (Arc::clone(&memo), Arc::clone(&asked));
                tasks.spawn(async move {
                    let load = || async move { Some(asked.fetch_add(1, Ordering::Relaxed)) };
                    memo.get(&round.to_string(), load).await
                });
            }
            let answers = tasks.join_all().await;
            assert!(answers.iter().all(|answer| *answer == Some(round)), "round {round}: {answers:?}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_serves_on_while_nobody_answers() {
        let memo = LoadingCache::new(BYTES, Duration::ZERO, true, |_| 0);
        assert_eq!(memo.get("a", || async { None }).await, None);
        assert_eq!(memo.get("a", || async { Some(1) }).await, Some(1));
        assert_eq!(memo.get("a", || async { None }).await, Some(1));
        let strict = LoadingCache::new(BYTES, Duration::ZERO, false, |_| 0);
        assert_eq!(strict.get("a", || async { Some(1) }).await, Some(1));
        assert_eq!(strict.get("a", || async { None }).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_in_vain_holds_up_no_other() {
        let memo = LoadingCache::new(BYTES, Duration::ZERO, true, |_| 0);
        assert_eq!(memo.get("a", || async { Some(1) }).await, Some(1));
        assert_eq!(memo.get("b", || async { Some(1) }).await, Some(1));
        for next in 2..5 {
            assert_eq!(memo.get("bad", || async { None }).await, None);
            assert_eq!(memo.get("a", || async move { Some(next) }).await, Some(next), "it is asked for all the same");
        }
        assert_eq!(memo.get("a", || async { None }).await, Some(4));
        assert_eq!(memo.get("a", || async { Some(9) }).await, Some(4), "it was asked for in vain a moment ago");
        // Where nobody answers, who comes next does not wait for long.
        let begun = monotonic_now();
        assert_eq!(memo.get("b", std::future::pending::<Option<i32>>).await, Some(1));
        assert_eq!(monotonic_now() - begun, HURRY);
    }

    #[tokio::test]
    async fn an_answer_to_a_forgotten_question_is_not_kept() {
        let memo = Arc::new(LoadingCache::new(BYTES, Duration::from_secs(60), true, |_| 0));
        let inner = Arc::clone(&memo);
        let first = memo.get("a", || async move {
            inner.invalidate("a");
            Some(1)
        });
        assert_eq!(first.await, Some(1));
        assert_eq!(memo.get("a", || async { Some(2) }).await, Some(2));
    }
}
