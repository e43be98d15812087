//! Calls that block, with a time limit: a file system that hangs must not hold up who asks it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Blocking calls under way at most, where no other number is given. One that hangs keeps its thread until it ends; beyond this number no more are
/// begun.
const MOST_CALLS: usize = 4;

/// Blocking calls of one part of the program, each in a thread of its own.
#[derive(Debug)]
pub struct BlockingCalls {
    limit: Duration,
    permits: Arc<Semaphore>,
}

/// Failure of a call to give an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockingCallError {
    /// It was not done in time.
    TimedOut,
    /// It panicked, which is logged elsewhere.
    Panicked,
}

impl BlockingCalls {
    /// Creates calls that are waited for `limit` long.
    pub fn new(limit: Duration) -> Self {
        Self::with_most(limit, MOST_CALLS)
    }

    /// Creates calls that are waited for `limit` long, `most` of them at once.
    pub fn with_most(limit: Duration, most: usize) -> Self {
        Self { limit, permits: Arc::new(Semaphore::new(most)) }
    }

    /// Returns the time for which a call is waited for.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs `call` and returns its answer. Fails where it is not there in time; the call then goes on, and its answer is
    /// dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingCallError> {
        let permits = Arc::clone(&self.permits);
        let answer = async move {
            // The semaphore is never closed.
            let permit = permits.acquire_owned().await.map_err(|_| BlockingCallError::Panicked)?;
            let run = move || {
                let answer = call();
                drop(permit);
                answer
            };
            tokio::task::spawn_blocking(run).await.map_err(|_| BlockingCallError::Panicked)
        };
        timeout(self.limit, answer).await.unwrap_or(Err(BlockingCallError::TimedOut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_that_hang_hold_up_nobody_and_are_a_few_at_most() {
        let calls = BlockingCalls::new(Duration::from_millis(20));
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(parking_lot::Mutex::new(wait));
        assert_eq!(calls.run(|| 1).await, Ok(1));
        for _ in 0..=MOST_CALLS {
            let wait = Arc::clone(&wait);
            let answer = calls.run(move || wait.lock().recv().is_err()).await;
            assert_eq!(answer, Err(BlockingCallError::TimedOut));
        }
        drop(release);
        while calls.run(|| 1).await.is_err() {}
    }
}
