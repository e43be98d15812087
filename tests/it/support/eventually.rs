//! Waiting for something that must become true, instead of sleeping for a guess.

use primitives::clock::monotonic_now;
use std::time::Duration;

/// Polls `probe` until it gives a value; fails with `what` after ten seconds.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_secs(10), what, probe).await
}

/// Polls `probe` until it gives a value; fails with `what` after `limit`.
pub async fn within<T>(limit: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = monotonic_now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(start.elapsed() < limit, "within {limit:?}, this did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
