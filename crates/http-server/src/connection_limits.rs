//! Limits of one client connection: its times, the sizes of its requests, and the least data rate of its client.

use std::pin::pin;
use std::time::Duration;

use futures::FutureExt as _;
use pingora::time::timeout;
use primitives::clock::monotonic_now;

/// Most header lines that may be allowed for a request: as many are parsed on the stack.
pub const MAX_HEADER_LINES: usize = 512;

/// Limits of one client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Longest time for a TLS handshake, for the first byte of a new connection, and for each whole request head from its
    /// first byte on.
    pub head: Duration,
    /// Longest time in which a client may take none of the bytes that wait for it.
    pub write: Duration,
    /// Longest time in which a client may send nothing of a request's body.
    pub body: Duration,
    /// Longest time for the next request to begin.
    pub idle: Duration,
    /// Longest request head in bytes: of HTTP/1.1 as sent, of HTTP/2 decoded.
    pub head_bytes: usize,
    /// Most header lines of a request, [`MAX_HEADER_LINES`] at most.
    pub header_lines: usize,
    /// Most requests; `None`: any number.
    pub requests: Option<u64>,
    /// Most streams at once over HTTP/2.
    pub streams: u32,
    /// Least rate at which a client takes the bytes that wait for it.
    pub response_rate: DataRate,
    /// Least rate at which a client sends a request's body that is waited for.
    pub body_rate: DataRate,
}

/// A least data rate, averaged over a window. Only time that was spent waiting for the client counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRate {
    /// Bytes per second; 0: no limit.
    pub bytes_per_second: u64,
    /// Time over which the rate is averaged.
    pub window: Duration,
}

/// Time spent waiting for a client in the present window, and the bytes that were moved before it.
#[derive(Debug, Default)]
pub struct DataRateMeter {
    waited: Duration,
    moved_before: u64,
}

impl DataRateMeter {
    /// Makes a meter of a client that has moved `moved` bytes already.
    pub fn new(moved: u64) -> Self {
        Self { waited: Duration::ZERO, moved_before: moved }
    }

    /// Returns the time of waiting that is left of the window.
    pub fn remaining(&self, rate: DataRate) -> Duration {
        if rate.bytes_per_second == 0 { Duration::MAX } else { rate.window.saturating_sub(self.waited) }
    }

    /// Records that the client was waited for; `moved` are all bytes that it has moved so far. Returns false where a
    /// window ends below the rate.
    pub fn record(&mut self, rate: DataRate, waited: Duration, moved: u64) -> bool {
        self.waited += waited;
        if rate.bytes_per_second == 0 || self.waited < rate.window {
            return true;
        }
        let bytes = u128::from(moved.saturating_sub(self.moved_before)) * 1000;
        let is_enough = bytes >= u128::from(rate.bytes_per_second) * self.waited.as_millis();
        *self = Self::new(moved);
        is_enough
    }

    /// Waits for `progress`, no longer than `limit`, and no longer than the rate allows; `moved` tells the bytes that
    /// the client has moved so far. `None` where either is exceeded.
    pub async fn wait<F: Future>(
        &mut self,
        rate: DataRate,
        limit: Duration,
        moved: impl Fn() -> u64,
        progress: F,
    ) -> Option<F::Output> {
        let mut progress = pin!(progress);
        // Most progress is there at once, and needs neither a timer nor the time.
        if let Some(made) = progress.as_mut().now_or_never() {
            return Some(made);
        }
        let mut left = limit;
        loop {
            let begun = monotonic_now();
            let made = timeout(left.min(self.remaining(rate)), progress.as_mut()).await;
            let waited = begun.elapsed();
            if !self.record(rate, waited, moved()) {
                return None;
            }
            left = left.saturating_sub(waited);
            match made {
                Ok(made) => return Some(made),
                Err(_) if left.is_zero() => return None,
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const RATE: DataRate = DataRate { bytes_per_second: 100, window: Duration::from_secs(10) };

    #[test]
    fn a_rate_is_averaged_over_the_time_that_was_waited() {
        let second = Duration::from_secs(1);
        // Bytes moved before each wait, its seconds, and the outcome.
        let table: [&[(u64, u32, bool)]; 6] = [
            &[(1, 9, true), (2, 1, false)],
            &[(999, 10, false)],
            &[(1000, 10, true)],
            // A burst counts for its own window only.
            &[(50_000, 10, true), (50_999, 10, false)],
            &[(50_000, 10, true), (51_000, 10, true)],
            // A longer wait asks for more bytes.
            &[(1000, 20, false)],
        ];
        for waits in table {
            let mut meter = DataRateMeter::default();
            for (moved, seconds, expected) in waits {
                assert_eq!(meter.record(RATE, second * *seconds, *moved), *expected, "{waits:?}");
            }
        }
        let off = DataRate { bytes_per_second: 0, ..RATE };
        let mut meter = DataRateMeter::default();
        assert!(meter.record(off, second * 1000, 0));
        assert_eq!(meter.remaining(off), Duration::MAX);
        let mut meter = DataRateMeter::new(5000);
        assert!(!meter.record(RATE, second * 10, 5000 + 999));
    }

    #[tokio::test]
    async fn a_wait_ends_with_its_limit_or_with_the_window() {
        let short = DataRate { bytes_per_second: 100, window: Duration::from_millis(30) };
        let (brief, long) = (Duration::from_millis(10), Duration::from_secs(3600));
        let mut meter = DataRateMeter::default();
        assert_eq!(meter.wait(short, Duration::ZERO, || 0, ready(1)).await, Some(1));
        assert_eq!(meter.wait(short, brief, || 1000, pending::<()>()).await, None, "the limit");
        assert_eq!(meter.wait(short, long, || 0, pending::<()>()).await, None, "the window");
        assert_eq!(meter.remaining(short), short.window, "a new one begins");
    }
}
