//! Answers that cost a question, kept for a short time: bounded, asked for once however many wait, and kept in use
//! while nobody answers. It must not know what is asked, or whom.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use foyer::{Cache, CacheBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// After a question in vain, what is kept for it is given out for this long without asking again.
const FAILURE_BACKOFF: Duration = Duration::from_secs(1);
/// For as long, others are asked still, but where something is kept nobody waits for more than this: all of them may be in
/// vain, or just that one.
const HURRY: Duration = Duration::from_millis(100);
/// Bytes that an answer takes besides its key and what it holds, nearly.
const ENTRY_OVERHEAD: usize = 192;
/// Questions under way past which abandoned ones are swept out.
const SWEEP_THRESHOLD: usize = 1024;

type CacheKey = Box<str>;
type LoadFuture<V> = BoxFuture<'static, Option<V>>;

/// Kept answers.
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
    /// Then it is asked for again.
    fresh_until: Instant,
}

impl<V: Clone + Send + Sync + 'static> LoadingCache<V> {
    /// About `bytes` of answers at most, of which one holds as many as `holds` says beyond its own size. Each is believed for
    /// `fresh`; with `stale`, for longer while nobody answers.
    pub fn new(bytes: usize, fresh: Duration, stale: bool, holds: fn(&V) -> usize) -> Self {
        let weight = move |key: &CacheKey, kept: &CachedValue<V>| {
            ENTRY_OVERHEAD + size_of::<CachedValue<V>>() + key.len() + holds(&kept.value)
        };
        let kept = CacheBuilder::new(bytes).with_shards(8).with_weighter(weight).build();
        Self { cached: kept, in_flight: Mutex::default(), backoff_until: Mutex::default(), fresh, stale }
    }

    /// The answer for `key`: the one that is kept, else what `ask` resolves to. `None`: asked in vain, and none is kept.
    pub async fn get<F>(&self, key: &str, ask: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let kept = self.cached.get(key).map(|entry| entry.value().clone());
        let stale = match kept {
            Some(kept) if Instant::now() < kept.fresh_until => return Some(kept.value),
            Some(kept) if self.stale => Some(kept.value),
            _ => None,
        };
        let asking = self.join_or_start(key, ask);
        let is_hurried = stale.is_some() && self.backoff_until.lock().is_some_and(|until| Instant::now() < until);
        let answer = match is_hurried {
            true => tokio::time::timeout(HURRY, asking.clone()).await.ok().flatten(),
            false => asking.clone().await,
        };
        if let Some(value) = &answer {
            self.insert_loaded(key, &asking, value, self.fresh);
            return answer;
        }
        *self.backoff_until.lock() = Some(Instant::now() + FAILURE_BACKOFF);
        if let Some(value) = &stale {
            self.insert_loaded(key, &asking, value, FAILURE_BACKOFF);
        }
        stale
    }

    /// Drops the answer for `key`; one that is under way is not kept either.
    pub fn invalidate(&self, key: &str) {
        self.in_flight.lock().remove(key);
        self.cached.remove(key);
    }

    /// As [`LoadingCache::invalidate`], for all.
    pub fn clear(&self) {
        self.in_flight.lock().clear();
        self.cached.clear();
    }

    /// The question that is under way, or a new one.
    fn join_or_start<F>(&self, key: &str, ask: impl FnOnce() -> F) -> Shared<LoadFuture<V>>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let mut under_way = self.in_flight.lock();
        if let Some(asking) = under_way.get(key).and_then(WeakShared::upgrade) {
            return asking;
        }
        if under_way.len() >= SWEEP_THRESHOLD {
            under_way.retain(|_, asking| asking.upgrade().is_some());
        }
        let asking = ask().boxed().shared();
        if let Some(weak) = asking.downgrade() {
            under_way.insert(key.into(), weak);
        }
        asking
    }

    /// Keeps an answer, unless its question was forgotten meanwhile.
    fn insert_loaded(&self, key: &str, asking: &Shared<LoadFuture<V>>, value: &V, fresh: Duration) {
        let mut under_way = self.in_flight.lock();
        let current = under_way.get(key).and_then(WeakShared::upgrade);
        if current.is_some_and(|current| current.ptr_eq(asking)) {
            under_way.remove(key);
            self.cached.insert(key.into(), CachedValue { value: value.clone(), fresh_until: Instant::now() + fresh });
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

    #[tokio::test]
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
        let begun = Instant::now();
        assert_eq!(memo.get("b", std::future::pending::<Option<i32>>).await, Some(1));
        assert!(begun.elapsed() < FAILURE_BACKOFF);
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
