//! Limit of the node's connected listeners, and the length of their frames, which goes by their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;

use crate::refusal::Refusal;

/// Limit of the connected listeners of all sessions.
pub struct ListenerLimit {
    taken: AtomicUsize,
    most: usize,
    cadence: Option<Duration>,
}

/// Place of a listener, until it is dropped.
pub struct ListenerPermit {
    limit: Arc<ListenerLimit>,
    gauge: IntGauge,
}

impl ListenerLimit {
    /// Creates a limit of `most` listeners; `cadence` fixes the length of frames.
    pub fn new(most: usize, cadence: Option<Duration>) -> Self {
        Self { taken: AtomicUsize::new(0), most, cadence }
    }

    /// Takes a place, shown in `gauge`. Fails where all are taken.
    pub fn acquire(self: &Arc<Self>, gauge: IntGauge) -> Result<ListenerPermit, Refusal> {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TooManyListeners);
        }
        gauge.inc();
        Ok(ListenerPermit { limit: Arc::clone(self), gauge })
    }

    /// Returns how much audio one frame holds: the more listeners, the fewer writes to each.
    pub fn frame_cadence(&self) -> Duration {
        let by_load = match self.taken.load(Ordering::Relaxed) {
            ..=2_000 => 100,
            2_001..=5_000 => 200,
            5_001..=50_000 => 500,
            _ => 1000,
        };
        self.cadence.unwrap_or(Duration::from_millis(by_load))
    }
}

impl Drop for ListenerPermit {
    fn drop(&mut self) {
        self.limit.taken.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let limit = Arc::new(ListenerLimit::new(2, None));
        let gauge = IntGauge::new("places", "for the test").expect("a gauge");
        let (first, _second) =
            (limit.acquire(gauge.clone()).expect("free"), limit.acquire(gauge.clone()).expect("free"));
        assert_eq!(limit.acquire(gauge.clone()).err(), Some(Refusal::TooManyListeners));
        drop(first);
        assert!(limit.acquire(gauge.clone()).is_ok());
        assert_eq!(gauge.get(), 1);
    }

    #[test]
    fn the_cadence_goes_by_the_number_of_listeners_unless_it_is_set() {
        let cadence = |taken: usize| {
            let limit = ListenerLimit::new(usize::MAX, None);
            limit.taken.store(taken, Ordering::Relaxed);
            limit.frame_cadence().as_millis()
        };
        assert_eq!([0, 2_000, 5_000, 8_000, 60_000].map(cadence), [100, 100, 200, 500, 1000]);
        assert_eq!(ListenerLimit::new(1, Some(Duration::from_millis(60))).frame_cadence().as_millis(), 60);
    }
}
