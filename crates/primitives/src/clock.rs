//! The clock as an argument: whoever needs the time is handed one, so that tests can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

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
        let millis = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { manual: Some(Arc::new(AtomicI64::new(i64::try_from(millis).unwrap_or(i64::MAX)))) }
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
        self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Returns the milliseconds since the Unix epoch; signed, as databases and RFC 3339 have them.
    pub fn unix_millis(&self) -> i64 {
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    /// Moves a manual clock; a system clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(millis) = &self.manual {
            // Relaxed is enough: the clock orders no other data, and only tests move it.
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}
