//! Answers that cost a question, kept for a short time: bounded, asked for once however many wait, and kept in use
//! while nobody answers. It must not know what is asked, or whom.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use foyer::{Cache, CacheBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// After a question in vain, what is kept is given out for this long without asking again.
const TROUBLE: Duration = Duration::from_secs(1);
/// Bytes that an answer takes besides its key and what it holds, nearly.
const ENTRY_OVERHEAD: usize = 192;
/// Questions under way past which abandoned ones are swept out.
const SWEEP: usize = 1024;

type Key = Box<str>;
type Asking<V> = BoxFuture<'static, Option<V>>;

/// Kept answers.
pub struct Memo<V: Send + Sync + 'static> {
    kept: Cache<Key, Kept<V>>,
    under_way: Mutex<HashMap<Key, WeakShared<Asking<V>>>>,
    trouble_until: Mutex<Option<Instant>>,
    fresh: Duration,
    stale: bool,
}

#[derive(Clone)]
struct Kept<V> {
    value: V,
    until: Instant,
}

impl<V: Clone + Send + Sync + 'static> Memo<V> {
    /// About `bytes` of answers at most, of which one holds as many as `holds` says beyond its own size. Each is believed for
    /// `fresh`; with `stale`, for longer while nobody answers.
    pub fn new(bytes: usize, fresh: Duration, stale: bool, holds: fn(&V) -> usize) -> Self {
        let weight =
            move |key: &Key, kept: &Kept<V>| ENTRY_OVERHEAD + size_of::<Kept<V>>() + key.len() + holds(&kept.value);
        let kept = CacheBuilder::new(bytes).with_shards(8).with_weighter(weight).build();
        Self { kept, under_way: Mutex::default(), trouble_until: Mutex::default(), fresh, stale }
    }

    /// The answer for `key`: the one that is kept, else what `ask` resolves to. `None`: asked in vain, and none is kept.
    pub async fn get<F>(&self, key: &str, ask: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let kept = self.kept.get(key).map(|entry| entry.value().clone());
        let stale = match kept {
            Some(kept) if Instant::now() < kept.until => return Some(kept.value),
            Some(kept) if self.stale => Some(kept.value),
            _ => None,
        };
        if stale.is_some() && self.trouble_until.lock().is_some_and(|until| Instant::now() < until) {
            return stale;
        }
        let asking = self.part(key, ask);
        let answer = asking.clone().await;
        if let Some(value) = &answer {
            self.keep(key, &asking, value);
        } else {
            *self.trouble_until.lock() = Some(Instant::now() + TROUBLE);
        }
        answer.or(stale)
    }

    /// Drops the answer for `key`; one that is under way is not kept either.
    pub fn forget(&self, key: &str) {
        self.under_way.lock().remove(key);
        self.kept.remove(key);
    }

    /// As [`Memo::forget`], for all.
    pub fn clear(&self) {
        self.under_way.lock().clear();
        self.kept.clear();
    }

    /// The question that is under way, or a new one.
    fn part<F>(&self, key: &str, ask: impl FnOnce() -> F) -> Shared<Asking<V>>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(asking) = under_way.get(key).and_then(WeakShared::upgrade) {
            return asking;
        }
        if under_way.len() >= SWEEP {
            under_way.retain(|_, asking| asking.upgrade().is_some());
        }
        let asking = ask().boxed().shared();
        if let Some(weak) = asking.downgrade() {
            under_way.insert(key.into(), weak);
        }
        asking
    }

    /// Keeps an answer, unless its question was forgotten meanwhile.
    fn keep(&self, key: &str, asking: &Shared<Asking<V>>, value: &V) {
        let mut under_way = self.under_way.lock();
        let current = under_way.get(key).and_then(WeakShared::upgrade);
        if current.is_some_and(|current| current.ptr_eq(asking)) {
            under_way.remove(key);
            self.kept.insert(key.into(), Kept { value: value.clone(), until: Instant::now() + self.fresh });
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
        let memo = Memo::new(BYTES, Duration::from_secs(60), true, |text: &Arc<str>| text.len());
        let answer: Arc<str> = "x".repeat(10_000).into();
        for number in 0..1000 {
            let (key, answer) = (format!("{number}{}", "x".repeat(10_000)), Arc::clone(&answer));
            memo.get(&key, || async { Some(answer) }).await;
        }
        let used = memo.kept.usage();
        assert!((BYTES / 4..=BYTES).contains(&used), "{used}");
        assert!(memo.kept.entries() * 20_000 <= BYTES, "{} entries", memo.kept.entries());
    }

    #[tokio::test]
    async fn many_askers_cost_one_question() {
        let memo = Memo::new(BYTES, Duration::from_secs(60), true, |_| 0);
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
        let memo = Memo::new(BYTES, Duration::ZERO, true, |_| 0);
        assert_eq!(memo.get("a", || async { None }).await, None);
        assert_eq!(memo.get("a", || async { Some(1) }).await, Some(1));
        assert_eq!(memo.get("a", || async { None }).await, Some(1));
        let strict = Memo::new(BYTES, Duration::ZERO, false, |_| 0);
        assert_eq!(strict.get("a", || async { Some(1) }).await, Some(1));
        assert_eq!(strict.get("a", || async { None }).await, None);
    }

    #[tokio::test]
    async fn an_answer_to_a_forgotten_question_is_not_kept() {
        let memo = Arc::new(Memo::new(BYTES, Duration::from_secs(60), true, |_| 0));
        let inner = Arc::clone(&memo);
        let first = memo.get("a", || async move {
            inner.forget("a");
            Some(1)
        });
        assert_eq!(first.await, Some(1));
        assert_eq!(memo.get("a", || async { Some(2) }).await, Some(2));
    }
}
