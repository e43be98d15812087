//! Why bodies were continued, and how often.

use std::ops::Add;

/// Why the rest of a body was asked for anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeCause {
    /// The store closed the connection before the announced end, in order.
    Cut,
    /// The connection failed.
    Reset,
    /// No byte came for as long as a body may stand still.
    Stalled,
    /// The body ended cleanly, but before the last byte that the player is owed.
    Short,
    /// Its chunks made no sense.
    Malformed,
    /// What came as the rest was another part or another version.
    Mismatch,
}

impl ResumeCause {
    /// All causes, in the order of their numbers.
    const ALL: [Self; 6] = [Self::Cut, Self::Reset, Self::Stalled, Self::Short, Self::Malformed, Self::Mismatch];

    /// Its name in metrics.
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

/// How often bodies were continued, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResumeCounts([u32; ResumeCause::ALL.len()]);

impl ResumeCounts {
    /// One more.
    pub fn count(&mut self, cause: ResumeCause) {
        self.0[cause as usize] += 1;
    }

    /// All of them.
    pub fn total(self) -> u32 {
        self.0.iter().sum()
    }

    /// Those that there were, by cause.
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
