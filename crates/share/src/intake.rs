//! The order of what a host sends. Requests overtake each other, are sent twice, and hosts begin anew: here a chunk waits
//! a moment for the ones before it, is known when it comes again, and a jump becomes a new epoch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::chunk::Chunk;

/// How long a chunk waits for the ones before it, in milliseconds.
const PATIENCE: i64 = 250;
/// More audio than this that is missing, or that is behind, is a new epoch: in microseconds.
const JUMP: i64 = 1_000_000;
/// Numbers remembered to know what comes again.
const RECENT: usize = 64;

/// What became of a chunk that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Taken,
    /// It was there already.
    Duplicate,
    /// Its time is over.
    Late,
}

/// How a chunk follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// At once.
    Next,
    /// With a little missing between them.
    Gap,
    /// It begins something new; the numbers go on rising.
    Ahead,
    /// It begins something new with numbers from before.
    Anew,
}

/// Chunks on their way into the ring.
#[derive(Default)]
pub struct Intake {
    next: Option<i64>,
    recent: VecDeque<(i64, i64)>,
    held: BTreeMap<i64, (i64, Arc<Chunk>)>,
}

impl Intake {
    /// Offers a chunk at `now` (milliseconds); `out` gets what is in order now, the chunk itself maybe among it.
    pub fn offer(&mut self, chunk: Arc<Chunk>, now: i64, out: &mut Vec<(Follows, Arc<Chunk>)>) -> Verdict {
        let sequence = chunk.label.sequence;
        let Some(next) = self.next else {
            self.give(Follows::Ahead, chunk, out);
            return Verdict::Taken;
        };
        if self.is_known(&chunk) {
            return Verdict::Duplicate;
        }
        let away = sequence.abs_diff(next);
        let jumps = i64::try_from(away).map_or(true, |away| away.saturating_mul(chunk.micros()) > JUMP);
        let repeated = self.recent.iter().any(|(known, _)| *known == sequence);
        if sequence < next && !jumps && !repeated {
            return Verdict::Late;
        }
        if jumps || sequence < next {
            let follows = if sequence < next { Follows::Anew } else { Follows::Ahead };
            self.release(i64::MAX, out);
            self.recent.clear();
            self.give(follows, chunk, out);
        } else if sequence == next {
            self.give(Follows::Next, chunk, out);
        } else {
            self.held.insert(sequence, (now, chunk));
        }
        self.release(now, out);
        Verdict::Taken
    }

    /// Gives out what has waited long enough, and what is in order behind it.
    pub fn release(&mut self, now: i64, out: &mut Vec<(Follows, Arc<Chunk>)>) {
        while let Some(first) = self.held.first_entry() {
            let in_order = Some(*first.key()) == self.next;
            let waited = now.saturating_sub(first.get().0) >= PATIENCE;
            if !in_order && !waited {
                break;
            }
            let (_, chunk) = first.remove();
            self.give(if in_order { Follows::Next } else { Follows::Gap }, chunk, out);
        }
    }

    fn give(&mut self, follows: Follows, chunk: Arc<Chunk>, out: &mut Vec<(Follows, Arc<Chunk>)>) {
        self.next = Some(chunk.label.sequence.saturating_add(1));
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((chunk.label.sequence, chunk.label.timestamp));
        out.push((follows, chunk));
    }

    /// The same number with the same time is the same chunk; with another, the host has begun anew.
    fn is_known(&self, chunk: &Chunk) -> bool {
        let label = (chunk.label.sequence, chunk.label.timestamp);
        let held = self.held.get(&label.0).is_some_and(|(_, held)| held.label.timestamp == label.1);
        held || self.recent.contains(&label)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Label;
    use super::*;

    fn chunk(sequence: i64, timestamp: i64) -> Arc<Chunk> {
        let label = Label { sequence, rate: 44_100, channels: 2, timestamp };
        Arc::new(Chunk::from_samples(label, vec![0; 4096 * 8].into(), 0).expect("a good chunk"))
    }

    /// Offers (number, time) pairs at these times; gives the verdicts and what came out.
    fn run(offers: &[(i64, i64)]) -> (Vec<Verdict>, Vec<(Follows, i64)>) {
        let (mut intake, mut out) = (Intake::default(), Vec::new());
        let offer =
            |(sequence, now): &(i64, i64)| intake.offer(chunk(*sequence, sequence.wrapping_add(1000)), *now, &mut out);
        let verdicts = offers.iter().map(offer).collect();
        (verdicts, out.into_iter().map(|(follows, chunk)| (follows, chunk.label.sequence)).collect())
    }

    #[test]
    fn chunks_that_overtook_each_other_come_out_in_order() {
        let (verdicts, out) = run(&[(0, 0), (2, 10), (3, 20), (1, 30), (4, 40)]);
        assert_eq!(verdicts, [Verdict::Taken; 5]);
        let numbers: Vec<i64> = out.iter().map(|(_, sequence)| *sequence).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert!(out[1..].iter().all(|(follows, _)| *follows == Follows::Next));
    }

    #[test]
    fn what_comes_again_is_known_and_what_is_missing_is_waited_for_only_a_moment() {
        let (verdicts, out) = run(&[(5, 0), (5, 1), (7, 10), (7, 20), (8, 300), (6, 310)]);
        use Verdict::{Duplicate, Late, Taken};
        assert_eq!(verdicts, [Taken, Duplicate, Taken, Duplicate, Taken, Late]);
        assert_eq!(out, [(Follows::Ahead, 5), (Follows::Gap, 7), (Follows::Next, 8)]);
    }

    #[test]
    fn a_jump_is_a_new_epoch() {
        assert_eq!(run(&[(0, 0), (12, 10)]).1, [(Follows::Ahead, 0), (Follows::Ahead, 12)]);
        assert_eq!(run(&[(500, 0), (0, 10)]).1, [(Follows::Ahead, 500), (Follows::Anew, 0)]);
        assert_eq!(run(&[(0, 0), (i64::MAX, 10), (0, 20)]).1.len(), 3, "no number breaks it");
    }

    #[test]
    fn a_host_that_begins_anew_soon_is_not_taken_for_a_repetition() {
        let (mut intake, mut out) = (Intake::default(), Vec::new());
        for sequence in 0..3 {
            intake.offer(chunk(sequence, 1000 + sequence), 0, &mut out);
        }
        assert_eq!(intake.offer(chunk(0, 9000), 100, &mut out), Verdict::Taken);
        assert_eq!(out.last().map(|(follows, _)| *follows), Some(Follows::Anew));
    }
}
