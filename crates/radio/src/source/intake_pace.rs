//! Pace at which bytes are taken from a server: what it sends, titles and pictures among it, and not only sound.

use std::time::{Duration, Instant};

use primitives::clock::monotonic_now;
use tokio::time::sleep_until;

/// Most bytes that are taken in a second.
const MAX_BYTES_PER_SECOND: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// Bound of what a server may send: one that sends without a pause is read no faster.
#[derive(Clone, Copy, Debug)]
pub struct IntakePace {
    since: Instant,
    bytes: usize,
}

impl IntakePace {
    /// Begins to count.
    pub fn new() -> Self {
        Self { since: monotonic_now(), bytes: 0 }
    }

    /// Waits until more may be taken. Can be dropped and called again.
    pub async fn wait(&mut self) {
        if self.bytes > MAX_BYTES_PER_SECOND {
            sleep_until((self.since + SECOND).into()).await;
        }
        if monotonic_now() >= self.since + SECOND {
            *self = Self::new();
        }
    }

    /// Counts what was taken.
    pub fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_past_the_bound_waits_for_the_next_second() {
        let (mut pace, begin) = (IntakePace::new(), tokio::time::Instant::now());
        pace.count(MAX_BYTES_PER_SECOND);
        pace.wait().await;
        assert_eq!(tokio::time::Instant::now(), begin);
        pace.count(1);
        pace.wait().await;
        assert!(pace.bytes == 0 || tokio::time::Instant::now() > begin);
    }
}
