//! The places of the node's listeners that are connected, and how often each of them is sent something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;

use super::refused::Refused;

/// The listeners of all sessions.
pub struct Seats {
    taken: AtomicUsize,
    most: usize,
    cadence: Option<Duration>,
}

/// A place, until it is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    gauge: IntGauge,
}

impl Seats {
    /// Places for `most`; `cadence` where it does not go by their number.
    pub fn new(most: usize, cadence: Option<Duration>) -> Self {
        Self { taken: AtomicUsize::new(0), most, cadence }
    }

    /// Takes a place, shown in `gauge`.
    pub fn take(self: &Arc<Self>, gauge: IntGauge) -> Result<Seat, Refused> {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::NoSeat);
        }
        gauge.inc();
        Ok(Seat { seats: Arc::clone(self), gauge })
    }

    /// How much audio one frame holds: the more listeners, the fewer writes to each.
    pub fn cadence(&self) -> Duration {
        let by_load = match self.taken.load(Ordering::Relaxed) {
            ..=2_000 => 100,
            2_001..=5_000 => 200,
            5_001..=50_000 => 500,
            _ => 1000,
        };
        self.cadence.unwrap_or(Duration::from_millis(by_load))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let seats = Arc::new(Seats::new(2, None));
        let gauge = IntGauge::new("places", "for the test").expect("a gauge");
        let (first, _second) = (seats.take(gauge.clone()).expect("free"), seats.take(gauge.clone()).expect("free"));
        assert_eq!(seats.take(gauge.clone()).err(), Some(Refused::NoSeat));
        drop(first);
        assert!(seats.take(gauge.clone()).is_ok());
        assert_eq!(gauge.get(), 1);
    }

    #[test]
    fn the_cadence_goes_by_the_number_of_listeners_unless_it_is_set() {
        let cadence = |taken: usize| {
            let seats = Seats::new(usize::MAX, None);
            seats.taken.store(taken, Ordering::Relaxed);
            seats.cadence().as_millis()
        };
        assert_eq!([0, 2_000, 5_000, 8_000, 60_000].map(cadence), [100, 100, 200, 500, 1000]);
        assert_eq!(Seats::new(1, Some(Duration::from_millis(60))).cadence().as_millis(), 60);
    }
}
