//! Counts over the last seconds, in slots of one second. Pure: the time is an argument.

use std::time::Instant;

/// How many there were, and how many of them were special to whoever counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub all: u64,
    /// The special ones.
    pub special: u64,
}

/// A window of `SECONDS` slots that slides with the time it is shown.
#[derive(Debug)]
pub struct Window<const SECONDS: usize> {
    start: Instant,
    /// The second, from `start`, whose slot is being filled.
    second: u64,
    slots: [Counts; SECONDS],
    sum: Counts,
}

impl<const SECONDS: usize> Window<SECONDS> {
    /// Begins at `now`, empty.
    pub fn new(now: Instant) -> Self {
        Self { start: now, second: 0, slots: [Counts::default(); SECONDS], sum: Counts::default() }
    }

    /// Adds `more` at `now`.
    pub fn add(&mut self, more: Counts, now: Instant) {
        self.slide(now);
        let slot = self.slot();
        for counts in [&mut self.slots[slot], &mut self.sum] {
            counts.all += more.all;
            counts.special += more.special;
        }
    }

    /// What the window holds at `now`.
    pub fn counts(&mut self, now: Instant) -> Counts {
        self.slide(now);
        self.sum
    }

    fn slide(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        if second >= self.second + SECONDS as u64 {
            (self.slots, self.sum, self.second) = ([Counts::default(); SECONDS], Counts::default(), second);
        }
        while self.second < second {
            self.second += 1;
            let slot = self.slot();
            let old = std::mem::take(&mut self.slots[slot]);
            self.sum.all -= old.all;
            self.sum.special -= old.special;
        }
    }

    fn slot(&self) -> usize {
        usize::try_from(self.second % SECONDS as u64).expect("it is less than a usize")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Counts, Window};

    #[test]
    fn what_is_older_than_the_window_is_forgotten_slot_by_slot() {
        let start = std::time::Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut window = Window::<10>::new(start);
        window.add(Counts { all: 5, special: 1 }, at(0.2));
        window.add(Counts { all: 3, special: 2 }, at(4.0));
        for (seconds, all, special) in [(4.0, 8, 3), (9.9, 8, 3), (10.0, 3, 2), (13.9, 3, 2), (14.0, 0, 0), (1e6, 0, 0)]
        {
            assert_eq!(window.counts(at(seconds)), Counts { all, special }, "after {seconds} s");
        }
        window.add(Counts { all: 1, special: 0 }, at(1e6));
        assert_eq!(window.counts(at(3.0)).all, 1, "a time that went back changes nothing");
    }
}
