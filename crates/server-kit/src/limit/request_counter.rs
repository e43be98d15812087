//! Arithmetic of counted requests: windows and buckets. Pure: the time is an argument, and one that goes back a little
//! changes nothing.

use std::time::Duration;

use super::settings::RequestLimit;
use primitives::unix_time::{UnixMillis, whole_millis};

/// Status of a subject under a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// Allowed amount.
    pub limit: u64,
    /// Remaining amount.
    pub remaining: u64,
    /// Time until more remains; zero if nothing is used.
    pub reset: Duration,
}

/// Use by one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestCounter {
    /// Requests by segment: number `n` is counted in `n % segments`.
    Window {
        /// The segment being counted in.
        newest: u64,
        /// The counts.
        counts: Box<[u32]>,
    },
    /// A bucket, in tokens times the period in milliseconds: whole numbers, however slowly it fills.
    Bucket {
        /// Its content.
        level: u64,
        /// Time of that content.
        at: UnixMillis,
    },
}

/// Receipt of a permit, to give it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefundReceipt(u64);

impl RequestCounter {
    /// Creates a counter with nothing used.
    pub fn new(rule: &RequestLimit) -> Self {
        match *rule {
            RequestLimit::Window { segments, .. } => {
                Self::Window { newest: 0, counts: vec![0; segments as usize].into() }
            }
            RequestLimit::Bucket { tokens, period, .. } => {
                Self::Bucket { level: u64::from(tokens) * millis(period), at: UnixMillis::EPOCH }
            }
        }
    }

    /// Returns the status at `now`.
    pub fn status(&mut self, rule: &RequestLimit, now: UnixMillis) -> RateLimitStatus {
        self.advance(rule, now);
        let limit = u64::from(rule.limit());
        let (remaining, wait) = match (&*self, *rule) {
            (Self::Window { newest, counts }, RequestLimit::Window { segment, segments, .. }) => {
                let used: u64 = counts.iter().map(|count| u64::from(*count)).sum();
                let first = (newest + 1).saturating_sub(segments.into());
                let oldest = (first..=*newest).find(|number| counts[slot(*number, counts.len())] > 0);
                let end = oldest.map_or(now, |oldest| period_start(segment, oldest + u64::from(segments)));
                (limit.saturating_sub(used), end - now)
            }
            (Self::Bucket { level, .. }, RequestLimit::Bucket { tokens, refill, period }) => {
                let (whole, token) = (u64::from(tokens) * millis(period), millis(period));
                let next = ((level / token + 1) * token).min(whole);
                (level / token, Duration::from_millis((next - level).div_ceil(refill.into())))
            }
            (Self::Window { .. }, RequestLimit::Bucket { .. }) | (Self::Bucket { .. }, RequestLimit::Window { .. }) => {
                (0, Duration::ZERO)
            }
        };
        RateLimitStatus { limit, remaining, reset: wait }
    }

    /// Takes one permit, after [`RequestCounter::status`] returned one.
    pub fn take(&mut self, rule: &RequestLimit) -> RefundReceipt {
        match self {
            Self::Window { newest, counts } => {
                let slot = slot(*newest, counts.len());
                counts[slot] = counts[slot].saturating_add(1);
                RefundReceipt(*newest)
            }
            Self::Bucket { level, .. } => {
                *level = level.saturating_sub(token(rule));
                RefundReceipt(0)
            }
        }
    }

    /// Gives back the permit of `receipt`: the request was refused after all.
    pub fn give_back(&mut self, rule: &RequestLimit, receipt: RefundReceipt) {
        match self {
            Self::Window { newest, counts } => {
                // A segment that has been left behind was cleared, or counts for a later one now.
                let still_counted = receipt.0 <= *newest && receipt.0 + counts.len() as u64 > *newest;
                if still_counted {
                    let slot = slot(receipt.0, counts.len());
                    counts[slot] = counts[slot].saturating_sub(1);
                }
            }
            Self::Bucket { level, .. } => *level = (*level + token(rule)).min(u64::from(rule.limit()) * token(rule)),
        }
    }

    /// Returns true if nothing is used at `now`, so that forgetting it changes nothing.
    pub fn is_unused(&mut self, rule: &RequestLimit, now: UnixMillis) -> bool {
        let standing = self.status(rule, now);
        standing.remaining == standing.limit
    }

    fn advance(&mut self, rule: &RequestLimit, now: UnixMillis) {
        match (self, *rule) {
            (Self::Window { newest, counts }, RequestLimit::Window { segment, segments, .. }) => {
                let current = period_number(segment, now);
                let apart = current.abs_diff(*newest);
                if apart >= segments.into() {
                    // All of it is over; or the clock was far ahead and has been put right.
                    (*newest, _) = (current, counts.fill(0));
                }
                while *newest < current {
                    *newest += 1;
                    counts[slot(*newest, counts.len())] = 0;
                }
            }
            (Self::Bucket { level, at }, RequestLimit::Bucket { tokens, refill, period }) => {
                let came = whole_millis(now - *at).cast_unsigned().saturating_mul(refill.into());
                *level = level.saturating_add(came).min(u64::from(tokens) * millis(period));
                // A clock that was far ahead and has been put right must not stop the refilling until then.
                let is_far_ahead = *at - now > period;
                *at = if is_far_ahead { now } else { now.max(*at) };
            }
            (Self::Window { .. }, RequestLimit::Bucket { .. }) | (Self::Bucket { .. }, RequestLimit::Window { .. }) => {
            }
        }
    }
}

/// Returns the number of the period of this length that `now` is in; they are counted from 1970.
pub fn period_number(period: Duration, now: UnixMillis) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(0) / millis(period)
}

/// Returns the start of the period of this length and number.
pub fn period_start(period: Duration, number: u64) -> UnixMillis {
    UnixMillis::new(i64::try_from(number.saturating_mul(millis(period))).unwrap_or(i64::MAX))
}

/// Returns the time span in milliseconds, never zero: it is a divisor.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn token(rule: &RequestLimit) -> u64 {
    match rule {
        RequestLimit::Bucket { period, .. } => millis(*period),
        RequestLimit::Window { .. } => 1,
    }
}

fn slot(number: u64, slots: usize) -> usize {
    usize::try_from(number % slots.max(1) as u64).expect("it is less than a usize")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> UnixMillis {
        UnixMillis::new(i64::try_from(millis).expect("a time"))
    }

    fn window(permits: u32, segments: u32) -> RequestLimit {
        RequestLimit::Window { permits, segment: SECOND * 60 / segments, segments }
    }

    /// Makes requests at the given seconds; how many are allowed of so many at once.
    fn run(rule: &RequestLimit, table: &[(f64, u32, u32)]) {
        // The first full hour after the start of a minute, so that windows begin at 0.
        let base = 1_700_000_040_000;
        let mut state = RequestCounter::new(rule);
        for (second, tries, expected) in table {
            let now = base + (second * 1000.0) as u64;
            let allowed = (0..*tries).filter(|_| {
                let left = state.status(rule, at(now)).remaining > 0;
                if left {
                    state.take(rule);
                }
                left
            });
            assert_eq!(allowed.count() as u32, *expected, "{rule:?} after {second} s");
        }
    }

    #[test]
    fn a_fixed_window_begins_anew_at_its_edge() {
        run(&window(100, 1), &[(0.0, 60, 60), (59.999, 60, 40), (60.0, 101, 100), (119.9, 1, 0), (120.0, 1, 1)]);
        // By the clock, not from the first request on.
        run(&window(100, 1), &[(45.0, 100, 100), (59.999, 1, 0), (60.0, 1, 1)]);
    }

    #[test]
    fn a_sliding_window_forgets_one_segment_at_a_time() {
        run(
            &window(100, 6),
            &[
                (0.0, 30, 30),
                (9.999, 1, 1),
                (10.0, 69, 69),
                (59.999, 1, 0),
                (60.0, 100, 31),
                (69.999, 1, 0),
                (70.0, 100, 69),
                (119.999, 1, 0),
                (120.0, 50, 31),
                (1e6, 200, 100),
            ],
        );
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_comes_in() {
        let rule = RequestLimit::Bucket { tokens: 10, refill: 2, period: SECOND };
        run(
            &rule,
            &[(0.0, 11, 10), (0.499, 1, 0), (0.5, 2, 1), (1.0, 2, 1), (2.0, 5, 2), (60.0, 20, 10), (60.0, 1, 0)],
        );
    }

    #[test]
    fn what_is_left_and_when_more_comes_are_told() {
        let base = 1_700_000_040_000;
        let rule = window(100, 6);
        let mut state = RequestCounter::new(&rule);
        let told = |state: &mut RequestCounter, after: u64| {
            let standing = state.status(&rule, at(base + after));
            (standing.remaining, standing.reset.as_millis())
        };
        assert_eq!(told(&mut state, 0), (100, 0));
        (0..3).for_each(|_| _ = state.take(&rule));
        assert_eq!(told(&mut state, 4_000), (97, 56_000));
        assert_eq!(told(&mut state, 15_000), (97, 45_000));
        state.take(&rule);
        assert_eq!(told(&mut state, 60_000), (99, 10_000), "the first segment is forgotten, the second is not");
        let bucket = RequestLimit::Bucket { tokens: 2, refill: 1, period: SECOND * 10 };
        let mut state = RequestCounter::new(&bucket);
        assert_eq!(state.status(&bucket, at(base)).reset, Duration::ZERO);
        state.take(&bucket);
        state.take(&bucket);
        let standing = state.status(&bucket, at(base + 2_500));
        assert_eq!((standing.remaining, standing.reset), (0, Duration::from_millis(7_500)));
    }

    #[test]
    fn a_clock_that_goes_back_a_little_frees_nothing_and_one_put_right_blocks_nobody() {
        for rule in [window(5, 6), RequestLimit::Bucket { tokens: 5, refill: 1, period: SECOND * 10 }] {
            let base = 1_700_000_040_000;
            let mut state = RequestCounter::new(&rule);
            state.status(&rule, at(base));
            (0..5).for_each(|_| _ = state.take(&rule));
            assert_eq!(state.status(&rule, at(base - 5_000)).remaining, 0);
            let mut state = RequestCounter::new(&rule);
            state.status(&rule, at(base + 86_400_000));
            (0..5).for_each(|_| _ = state.take(&rule));
            state.status(&rule, at(base));
            assert_eq!(state.status(&rule, at(base + 60_000)).remaining, 5, "{rule:?}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        for rule in [window(1, 6), window(1, 1), RequestLimit::Bucket { tokens: 1, refill: 1, period: SECOND }] {
            let mut state = RequestCounter::new(&rule);
            state.status(&rule, at(1_700_000_040_000));
            let receipt = state.take(&rule);
            assert_eq!(state.status(&rule, at(1_700_000_040_000)).remaining, 0);
            state.give_back(&rule, receipt);
            assert_eq!(state.status(&rule, at(1_700_000_040_000)).remaining, 1);
        }
    }

    proptest! {
        #[test]
        fn no_window_lets_more_through_than_it_permits(
            steps in prop::collection::vec(0_u64..20_000, 1..200), permits in 1_u32..20, segments in 1_u32..12,
        ) {
            let rule = window(permits, segments);
            let length = 60_000 / u64::from(segments);
            let (mut state, mut now, mut taken) = (RequestCounter::new(&rule), 1_700_000_040_000, Vec::new());
            for step in steps {
                now += step;
                if state.status(&rule, at(now)).remaining > 0 {
                    state.take(&rule);
                    taken.push(now);
                }
            }
            for time in &taken {
                // The segments of the window that ends with the segment of `time`.
                let (last, count) = (time / length, u64::from(segments));
                let inside = taken.iter().filter(|other| (last + 1).saturating_sub(count) <= *other / length && *other / length <= last);
                prop_assert!(inside.count() <= permits as usize);
            }
        }

        #[test]
        fn no_bucket_gives_more_than_it_held_and_got(
            steps in prop::collection::vec(0_u64..5_000, 1..200), tokens in 1_u32..20, refill in 1_u32..5,
        ) {
            let rule = RequestLimit::Bucket { tokens, refill, period: SECOND };
            let start = 1_700_000_040_000;
            let (mut state, mut now, mut taken) = (RequestCounter::new(&rule), start, 0_u64);
            state.status(&rule, at(now));
            for step in steps {
                now += step;
                if state.status(&rule, at(now)).remaining > 0 {
                    state.take(&rule);
                    taken += 1;
                }
                prop_assert!(taken * 1000 <= u64::from(tokens) * 1000 + (now - start) * u64::from(refill));
            }
        }

        #[test]
        fn any_time_is_taken_without_panic(times in prop::collection::vec(any::<u32>(), 1..50), segments in 1_u32..60) {
            for rule in [window(3, segments), RequestLimit::Bucket { tokens: 3, refill: 2, period: SECOND }] {
                let mut state = RequestCounter::new(&rule);
                for time in &times {
                    state.status(&rule, at(u64::from(*time) * 1000));
                    let receipt = state.take(&rule);
                    if time % 2 == 0 {
                        state.give_back(&rule, receipt);
                    }
                }
            }
        }
    }
}
