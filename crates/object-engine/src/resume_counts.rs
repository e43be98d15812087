//! Counts of continued bodies, by cause.

use std::ops::Add;

/// Cause for which the rest of a body was requested again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeCause {
    /// The store closed the connection cleanly before the announced end.
    Cut,
    /// The connection failed.
    Reset,
    /// No byte came within the idle limit.
    Stalled,
    /// The body ended cleanly, but before the last byte that the client is owed.
    Short,
    /// The chunked coding was invalid.
    Malformed,
    /// The store sent another part or another version as the rest.
    Mismatch,
}

impl ResumeCause {
    /// All causes, in the order of their discriminants, which index [`ResumeCounts`].
    const ALL: [Self; 6] = [Self::Cut, Self::Reset, Self::Stalled, Self::Short, Self::Malformed, Self::Mismatch];

    /// Returns the value of the label `cause` in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Reset => "reset",
            Self::Stalled => "stalled",
            Self::Short => "short",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
        }
    }
}

/// Number of continuations for each cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResumeCounts([u32; ResumeCause::ALL.len()]);

impl ResumeCounts {
    /// Counts one continuation.
    pub fn count(&mut self, cause: ResumeCause) {
        // `ALL` has every variant in order, so the discriminant is a valid index.
        self.0[cause as usize] += 1;
    }

    /// Returns the number of continuations for all causes.
    pub fn total(self) -> u32 {
        self.0.iter().sum()
    }

    /// Iterates over the causes that occurred, with their counts.
    pub fn by_cause(self) -> impl Iterator<Item = (ResumeCause, u32)> {
        ResumeCause::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

impl Add for ResumeCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|cause| self.0[cause] + other.0[cause]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_counted_for_itself() {
        let mut all = ResumeCounts::default();
        for (times, cause) in ResumeCause::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| all.count(cause));
        }
        let twice = all + all;
        let expected = ResumeCause::ALL.into_iter().zip([0, 2, 4, 6, 8, 10]).skip(1);
        assert!(twice.by_cause().eq(expected), "{twice:?}");
        assert_eq!(twice.total(), 30);
    }
}
