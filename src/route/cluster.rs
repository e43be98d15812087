//! (to be written)
/// How a destination is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// Two at random, then the one with fewer requests under way.
    #[default]
    PowerOfTwoChoices,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastRequests,
    /// Any.
    Random,
    /// The first by its id.
    FirstAlphabetical,
}

/// (until the real one lands)
pub fn choose(_policy: LoadBalancing, in_flight: &[usize], turn: usize, _random: u64) -> Option<usize> {
    (!in_flight.is_empty()).then(|| turn % in_flight.len())
}
