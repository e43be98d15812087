//! Points in time as values: milliseconds and microseconds since the Unix epoch, which a database, a wire format or a
//! script has as bare numbers. A time span is a [`Duration`]. Pure: to ask for the time now takes a clock.
//!
//! Such numbers come from other nodes and programs too, so no arithmetic here panics or wraps: it stops at the ends of the
//! range, and the span since a time that is still to come is zero.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Point in time in milliseconds since the Unix epoch; signed, as databases and RFC 3339 have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(transparent)]
pub struct UnixMillis(i64);

/// Point in time in microseconds since the Unix epoch, signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(transparent)]
pub struct UnixMicros(i64);

/// Returns the whole milliseconds of a time span, as SQL, Redis and JSON take them.
pub fn whole_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the whole microseconds of a time span.
fn whole_micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl UnixMillis {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Latest time: a deadline that never comes.
    pub const MAX: Self = Self(i64::MAX);

    /// Creates the point in time so many milliseconds after the Unix epoch.
    pub const fn new(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the same time in microseconds; the last that there is where it has none.
    pub const fn to_micros(self) -> UnixMicros {
        UnixMicros(self.0.saturating_mul(1_000))
    }

    /// Returns the time span between two points in time, whichever is earlier.
    pub const fn abs_diff(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl UnixMicros {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Latest time.
    pub const MAX: Self = Self(i64::MAX);

    /// Creates the point in time so many microseconds after the Unix epoch.
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the millisecond that the time is in.
    pub const fn to_millis(self) -> UnixMillis {
        UnixMillis(self.0.div_euclid(1_000))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    /// Returns the time that much later; less than a millisecond of the span is left out.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(span)))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = Self;

    /// Returns the time that much earlier; less than a millisecond of the span is left out.
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(span)))
    }
}

impl Sub for UnixMillis {
    type Output = Duration;

    /// Returns the time span since `earlier`; zero where that is later: a clock may have been set back.
    fn sub(self, earlier: Self) -> Duration {
        if self > earlier { self.abs_diff(earlier) } else { Duration::ZERO }
    }
}

impl Add<Duration> for UnixMicros {
    type Output = Self;

    /// Returns the time that much later; less than a microsecond of the span is left out.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(whole_micros(span)))
    }
}

impl Sub<Duration> for UnixMicros {
    type Output = Self;

    /// Returns the time that much earlier; less than a microsecond of the span is left out.
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(whole_micros(span)))
    }
}

impl Sub for UnixMicros {
    type Output = Duration;

    /// Returns the time span since `earlier`; zero where that is later.
    fn sub(self, earlier: Self) -> Duration {
        if self > earlier { Duration::from_micros(self.0.abs_diff(earlier.0)) } else { Duration::ZERO }
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: UnixMillis = UnixMillis::new(i64::MIN);

    #[test]
    fn a_span_is_between_two_times_and_zero_since_one_to_come() {
        let (early, late) = (UnixMillis::new(1_000), UnixMillis::new(2_500));
        assert_eq!((late - early, early - late), (Duration::from_millis(1_500), Duration::ZERO));
        assert_eq!((late.abs_diff(early), early.abs_diff(late)), (late - early, late - early));
        assert_eq!((early + Duration::from_millis(1_500), late - Duration::from_millis(1_500)), (late, early));
        assert_eq!(early.to_micros() + Duration::from_micros(7), UnixMicros::new(1_000_007));
        assert_eq!(UnixMicros::new(1_000_007) - early.to_micros(), Duration::from_micros(7));
        assert_eq!(early.to_micros() - UnixMicros::new(1_000_007), Duration::ZERO);
    }

    #[test]
    fn a_microsecond_is_in_its_millisecond_before_the_epoch_too() {
        for (micros, millis) in [(0, 0), (999, 0), (1_000, 1), (-1, -1), (-1_000, -1), (-1_001, -2)] {
            assert_eq!(UnixMicros::new(micros).to_millis(), UnixMillis::new(millis), "{micros}");
        }
    }

    #[test]
    fn no_number_panics_or_wraps() {
        let (last, span) = (UnixMillis::MAX, Duration::MAX);
        assert_eq!((last + span, FIRST - span), (last, FIRST));
        assert_eq!(last - FIRST, Duration::from_millis(u64::MAX));
        assert_eq!((last.to_micros(), FIRST.to_micros()), (UnixMicros::MAX, UnixMicros::new(i64::MIN)));
        assert_eq!((UnixMicros::MAX + span, UnixMicros::new(i64::MIN) - span), (UnixMicros::MAX, FIRST.to_micros()));
        assert_eq!(whole_millis(span), i64::MAX);
    }

    #[test]
    fn it_is_written_as_the_bare_number() {
        assert_eq!((UnixMillis::new(-7).to_string(), UnixMicros::new(42).to_string()), ("-7".into(), "42".into()));
    }
}
