//! Incarnations: a session's id can be used again, and nodes that were apart may have started it twice, so each start has a
//! number of its own.

use std::fmt;

use rand::Rng;

use primitives::unix_time::UnixMillis;

/// Number that one start of a session has, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(u64);

/// Start of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStart {
    /// Number of this start.
    pub incarnation: Incarnation,
    /// Time of the start.
    pub at: UnixMillis,
}

impl Incarnation {
    /// Draws a number for a new start.
    pub fn random() -> Self {
        Self(rand::rng().random_range(1..=u64::MAX))
    }

    /// Returns the incarnation of this number.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Returns the incarnation as a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Reads an incarnation as `Display` writes it.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_starts_are_never_the_same_and_one_is_read_as_it_is_written() {
        let (one, other) = (Incarnation::random(), Incarnation::random());
        assert_ne!(one, other);
        assert_eq!(Incarnation::parse(&one.to_string()), Some(one));
        assert_eq!(Incarnation::from_number(one.number()), one);
        assert_eq!(Incarnation::parse("x"), None);
    }
}
