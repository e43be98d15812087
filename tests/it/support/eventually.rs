//! Waiting for something that must become true, instead of sleeping for a guess. No test asserts how long that takes on the
//! machine that it runs on: [`LIMIT`] only ends a test that would hang. `layers` holds that no other file sleeps.

use std::time::Duration;

use tokio::time::{interval, sleep, timeout};

use primitives::clock::monotonic_now;

/// Longest wait of any test for anything: far beyond what a busy machine needs, so that reaching it is a fault. Where a test
/// must tell one cause from a timeout of the gate, it configures that timeout longer than this ([`super::config::NEVER`]).
pub const LIMIT: Duration = Duration::from_secs(90);
/// Time between two questions.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Questions in a row whose answers must be equal before something counts as settled.
const SETTLED_POLLS: usize = 20;

/// Polls `probe` until it gives a value; fails with `what` after [`LIMIT`].
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_every(POLL_INTERVAL, what, probe).await
}

/// As [`eventually`], with this much time between two questions: for those who are refused when they ask more often.
pub async fn eventually_every<T>(pause: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    in_time(what, async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            sleep(pause).await;
        }
    })
    .await
}

/// Awaits the whole of `future`; fails with `what` after [`LIMIT`]. Around a loop, not in it: what is said once a second must
/// not put the limit off.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("within {LIMIT:?}, this did not come true: {what}"))
}

/// Polls `probe` until its answer stays the same, and gives that.
pub async fn settled<T: PartialEq>(what: &str, mut probe: impl AsyncFnMut() -> T) -> T {
    let (mut pace, mut same) = (interval(POLL_INTERVAL), 0);
    in_time(what, async {
        let mut last = probe().await;
        while same < SETTLED_POLLS {
            pace.tick().await;
            let now = probe().await;
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        last
    })
    .await
}

/// As [`eventually`] for a thread that starts a process: polls `probe` until it is true; false after `limit`.
pub fn becomes_ready(limit: Duration, probe: impl Fn() -> bool) -> bool {
    let begun = monotonic_now();
    while begun.elapsed() < limit {
        if probe() {
            return true;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    false
}
