//! Patience of a node that does not play a channel, pure. While the store is away the node that plays goes on, and its hold of the
//! channel lapses; when the store is back it must be that node that takes the channel, and not whoever asks first.

use std::time::Instant;

use super::PLAYER_LEASE;

/// When a node that does not play a channel may try to take it.
#[derive(Debug, Default)]
pub struct TakeOverPatience {
    is_away: bool,
    not_before: Option<Instant>,
}

impl TakeOverPatience {
    /// Returns true where the store did not answer last time.
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// Notes whether the store has answered. When it does so again, whoever plays has a lease to say so.
    pub fn note_answer(&mut self, has_answered: bool, now: Instant) {
        if has_answered && self.is_away {
            self.not_before = Some(now + PLAYER_LEASE);
        }
        self.is_away = !has_answered;
    }

    /// Returns true where it may be tried now.
    pub fn may_try(&self, now: Instant) -> bool {
        !self.is_away && self.not_before.is_none_or(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn after_an_outage_a_lease_passes_before_a_channel_is_taken() {
        let (mut patience, begin) = (TakeOverPatience::default(), primitives::clock::monotonic_now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(patience.may_try(at(0)), "at the start");
        patience.note_answer(true, at(0));
        assert!(patience.may_try(at(1)));
        patience.note_answer(false, at(3));
        assert!(patience.is_away() && !patience.may_try(at(100)), "however long it is away");
        patience.note_answer(true, at(100));
        assert!(!patience.is_away() && !patience.may_try(at(108)));
        patience.note_answer(true, at(108));
        assert!(patience.may_try(at(109)), "further answers change nothing");
    }
}
