//! Which start of a session is meant: its id can be used again, and nodes that were apart may have started it twice.

use std::fmt;

use rand::Rng;

/// A number that one start of a session has, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::rng().random_range(1..=u64::MAX))
    }

    /// The one of this number.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Reads what `Display` has written.
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
