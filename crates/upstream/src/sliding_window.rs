//! Counts over the last seconds, in slots of one second. Pure: the time is an argument.

use std::time::Instant;

/// Counts in a window: all events, and those that the user of the window marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCounts {
    /// Number of events.
    pub total: u64,
    /// Number of marked events.
    pub marked: u64,
}

/// A window of `SECONDS` slots that moves forward with the times that it is given.
#[derive(Debug)]
pub struct SlidingWindow<const SECONDS: usize> {
    start: Instant,
    /// Second since `start` whose slot is being filled.
    second: u64,
    slots: [WindowCounts; SECONDS],
    sum: WindowCounts,
}

impl<const SECONDS: usize> SlidingWindow<SECONDS> {
    /// Creates an empty window that begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self { start: now, second: 0, slots: [WindowCounts::default(); SECONDS], sum: WindowCounts::default() }
    }

    /// Adds `more` at `now`.
    pub fn add(&mut self, more: WindowCounts, now: Instant) {
        self.slide(now);
        let slot = self.slot();
        for counts in [&mut self.slots[slot], &mut self.sum] {
            counts.total += more.total;
            counts.marked += more.marked;
        }
    }

    /// Returns the counts of the last `SECONDS` seconds at `now`.
    pub fn counts(&mut self, now: Instant) -> WindowCounts {
        self.slide(now);
        self.sum
    }

    fn slide(&mut self, now: Instant) {
        // Saturating: threads take the time before they take the lock, so a call may bring an older one.
        let second = now.saturating_duration_since(self.start).as_secs();
        // After a long pause all slots are too old: cleared at once instead of second by second.
        if second >= self.second + SECONDS as u64 {
            (self.slots, self.sum, self.second) = ([WindowCounts::default(); SECONDS], WindowCounts::default(), second);
        }
        while self.second < second {
            self.second += 1;
            let slot = self.slot();
            let old = std::mem::take(&mut self.slots[slot]);
            self.sum.total -= old.total;
            self.sum.marked -= old.marked;
        }
    }

    fn slot(&self) -> usize {
        usize::try_from(self.second % SECONDS as u64).expect("it is less than a usize")
    }
}

#[cfg(test)]
mod tests {
    use primitives::clock::monotonic_now;
    use std::time::Duration;

    use super::{SlidingWindow, WindowCounts};

    #[test]
    fn what_is_older_than_the_window_is_forgotten_slot_by_slot() {
        let start = monotonic_now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut window = SlidingWindow::<10>::new(start);
        window.add(WindowCounts { total: 5, marked: 1 }, at(0.2));
        window.add(WindowCounts { total: 3, marked: 2 }, at(4.0));
        for (seconds, total, marked) in
            [(4.0, 8, 3), (9.9, 8, 3), (10.0, 3, 2), (13.9, 3, 2), (14.0, 0, 0), (1e6, 0, 0)]
        {
            assert_eq!(window.counts(at(seconds)), WindowCounts { total, marked }, "after {seconds} s");
        }
        window.add(WindowCounts { total: 1, marked: 0 }, at(1e6));
        assert_eq!(window.counts(at(3.0)).total, 1, "a time that went back changes nothing");
    }
}
