//! The clock as an argument: whoever needs the time is handed one, so that tests can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::unix_time::{UnixMicros, UnixMillis, whole_millis};

/// Returns the monotonic time, for measuring and for deadlines. In a test whose Tokio clock is paused it is that clock's,
/// so that such a test waits for nothing.
pub fn monotonic_now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Source of the time: the system, or a test that moves it by hand. Clones of a manual clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: SystemTime) -> Self {
        let since = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { manual: Some(Arc::new(AtomicI64::new(whole_millis(since)))) }
    }

    /// Returns the time now.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    pub fn now(&self) -> SystemTime {
        match &self.manual {
            Some(millis) => {
                let millis = u64::try_from(millis.load(Ordering::Relaxed)).unwrap_or(0);
                SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
            }
            None => SystemTime::now(),
        }
    }

    /// Returns the seconds since the Unix epoch; 0 before it.
    pub fn unix(&self) -> u64 {
        self.since_epoch().as_secs()
    }

    /// Returns the time now in milliseconds; the Unix epoch before it.
    pub fn unix_millis(&self) -> UnixMillis {
        UnixMillis::EPOCH + self.since_epoch()
    }

    /// Returns the time now in microseconds; the Unix epoch before it.
    pub fn unix_micros(&self) -> UnixMicros {
        UnixMicros::EPOCH + self.since_epoch()
    }

    fn since_epoch(&self) -> Duration {
        self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Moves a manual clock; a system clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(millis) = &self.manual {
            // Relaxed is enough: the clock orders no other data, and only tests move it.
            millis.fetch_add(whole_millis(by), Ordering::Relaxed);
        }
    }
}
