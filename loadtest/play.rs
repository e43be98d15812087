//! When a player asks for its chunks: one as each is played to its end, and two in a row wherever it jumps to. It knows
//! nothing of who answers.
//!
//! So a player has a chunk in hand besides the one that it plays: it runs dry when an answer is later than a chunk lasts.

use std::time::{Duration, Instant};

/// How players play.
#[derive(Clone, Copy)]
pub struct Habits {
    /// How long a chunk plays.
    pub chunk: Duration,
    /// How long until it jumps somewhere else.
    pub seek: Duration,
}

/// One player's clock.
pub struct Play {
    habits: Habits,
    /// When the chunk after the next one is wanted, unless the player jumps.
    beat: Instant,
    seek: Instant,
    /// The first chunk after a jump is under way.
    sought: bool,
}

/// What a player asks for next.
#[derive(Debug, PartialEq)]
pub struct Next {
    pub due: Instant,
    /// Whether it is somewhere else in the track.
    pub jump: bool,
}

impl Play {
    /// Of a player whose first chunk is wanted at `due`, with `share` of its time until it jumps still to come.
    pub fn new(habits: Habits, due: Instant, share: f64) -> Self {
        Self { habits, beat: due + habits.chunk, seek: due + habits.seek.mul_f64(share), sought: false }
    }

    /// When a chunk has come.
    pub fn next(&mut self, now: Instant) -> Next {
        if std::mem::take(&mut self.sought) {
            return Next { due: now, jump: false };
        }
        if self.beat < self.seek {
            let due = self.beat;
            self.beat += self.habits.chunk;
            return Next { due, jump: false };
        }
        let due = self.seek;
        (self.beat, self.seek, self.sought) = (due + self.habits.chunk, due + self.habits.seek, true);
        Next { due, jump: true }
    }
}
