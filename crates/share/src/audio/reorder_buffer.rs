//! Reorder buffer for a host's chunks. Requests overtake each other, are sent twice, and hosts begin anew: a chunk
//! waits a moment for the ones before it, is known when it comes again, and a jump begins an epoch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::chunk::AudioChunk;
use primitives::unix_time::UnixMillis;

/// Time for which a chunk waits for the ones before it.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// Audio that may be missing, or behind; more than that begins an epoch.
const EPOCH_JUMP: Duration = Duration::from_secs(1);
/// Chunks that are remembered to know them when they come again.
const REMEMBERED_CHUNKS: usize = 64;

/// Outcome of a chunk that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// The chunk is taken.
    Taken,
    /// It was there already.
    Duplicate,
    /// It came too late to be played.
    Late,
}

/// Relation of a chunk to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// It follows at once.
    Next,
    /// A little is missing between them.
    Gap,
    /// It begins an epoch; numbers go on rising.
    JumpAhead,
    /// It begins an epoch with numbers from before.
    Restart,
}

/// Chunks that wait for those before them.
#[derive(Default)]
pub struct ReorderBuffer {
    next_sequence: Option<i64>,
    /// Numbers and host times of the chunks that were given out last.
    recent: VecDeque<(i64, UnixMillis)>,
    /// Chunks that wait, by their numbers, and the times at which they came.
    held: BTreeMap<i64, (UnixMillis, Arc<AudioChunk>)>,
}

impl ReorderBuffer {
    /// Offers a chunk at `now`; `out` gets the chunks that are in order by that, this one perhaps among them.
    pub fn offer(
        &mut self,
        chunk: Arc<AudioChunk>,
        now: UnixMillis,
        out: &mut Vec<(Continuity, Arc<AudioChunk>)>,
    ) -> ChunkOutcome {
        let sequence = chunk.header.sequence;
        let Some(next) = self.next_sequence else {
            self.emit(Continuity::JumpAhead, chunk, out);
            return ChunkOutcome::Taken;
        };
        if self.is_known(&chunk) {
            return ChunkOutcome::Duplicate;
        }
        let away = sequence.abs_diff(next);
        let jumps = u32::try_from(away).map_or(true, |away| chunk.duration().saturating_mul(away) > EPOCH_JUMP);
        // A number that was given out already, with another time, is that of a host that has begun anew.
        let repeated = self.recent.iter().any(|(known, _)| *known == sequence);
        if sequence < next && !jumps && !repeated {
            return ChunkOutcome::Late;
        }
        if jumps || sequence < next {
            let follows = if sequence < next { Continuity::Restart } else { Continuity::JumpAhead };
            // Chunks of before the jump would come after it otherwise.
            self.release(UnixMillis::MAX, out);
            self.recent.clear();
            self.emit(follows, chunk, out);
        } else if sequence == next {
            self.emit(Continuity::Next, chunk, out);
        } else {
            self.held.insert(sequence, (now, chunk));
        }
        self.release(now, out);
        ChunkOutcome::Taken
    }

    /// Adds to `out` the chunks that have waited long enough, and those in order behind them.
    pub fn release(&mut self, now: UnixMillis, out: &mut Vec<(Continuity, Arc<AudioChunk>)>) {
        while let Some(first) = self.held.first_entry() {
            let in_order = Some(*first.key()) == self.next_sequence;
            let waited = now - first.get().0 >= MAX_WAIT;
            if !in_order && !waited {
                break;
            }
            let (_, chunk) = first.remove();
            // A host that begins anew may reach numbers of chunks that still wait from before: those are over.
            if self.recent.back().is_some_and(|(_, emitted)| chunk.header.timestamp < *emitted) {
                continue;
            }
            self.emit(if in_order { Continuity::Next } else { Continuity::Gap }, chunk, out);
        }
    }

    /// Returns the chunks that wait for those before them, by their numbers.
    pub fn waiting(&self) -> impl Iterator<Item = &Arc<AudioChunk>> {
        self.held.values().map(|(_, chunk)| chunk)
    }

    fn emit(&mut self, follows: Continuity, chunk: Arc<AudioChunk>, out: &mut Vec<(Continuity, Arc<AudioChunk>)>) {
        self.next_sequence = Some(chunk.header.sequence.saturating_add(1));
        // Six seconds of the document's chunks: no request is sent again after longer.
        if self.recent.len() == REMEMBERED_CHUNKS {
            self.recent.pop_front();
        }
        self.recent.push_back((chunk.header.sequence, chunk.header.timestamp));
        out.push((follows, chunk));
    }

    /// Returns whether the chunk came before. The same number with another time is a host that has begun anew.
    fn is_known(&self, chunk: &AudioChunk) -> bool {
        let label = (chunk.header.sequence, chunk.header.timestamp);
        let held = self.held.get(&label.0).is_some_and(|(_, held)| held.header.timestamp == label.1);
        held || self.recent.contains(&label)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::ChunkHeader;
    use super::*;
    use primitives::unix_time::UnixMicros;

    fn chunk(sequence: i64, timestamp: i64) -> Arc<AudioChunk> {
        let label = ChunkHeader { sequence, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::new(timestamp) };
        Arc::new(AudioChunk::from_samples(label, vec![0; 4096 * 8].into(), UnixMicros::EPOCH).expect("a good chunk"))
    }

    /// Offers (number, time) pairs at these times; gives the verdicts and what came out.
    fn run(offers: &[(i64, i64)]) -> (Vec<ChunkOutcome>, Vec<(Continuity, i64)>) {
        let (mut intake, mut out) = (ReorderBuffer::default(), Vec::new());
        let offer = |(sequence, now): &(i64, i64)| {
            intake.offer(chunk(*sequence, sequence.wrapping_add(1000)), UnixMillis::new(*now), &mut out)
        };
        let verdicts = offers.iter().map(offer).collect();
        (verdicts, out.into_iter().map(|(follows, chunk)| (follows, chunk.header.sequence)).collect())
    }

    #[test]
    fn chunks_that_overtook_each_other_come_out_in_order() {
        let (verdicts, out) = run(&[(0, 0), (2, 10), (3, 20), (1, 30), (4, 40)]);
        assert_eq!(verdicts, [ChunkOutcome::Taken; 5]);
        let numbers: Vec<i64> = out.iter().map(|(_, sequence)| *sequence).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert!(out[1..].iter().all(|(follows, _)| *follows == Continuity::Next));
    }

    #[test]
    fn what_comes_again_is_known_and_what_is_missing_is_waited_for_only_a_moment() {
        let (verdicts, out) = run(&[(5, 0), (5, 1), (7, 10), (7, 20), (8, 300), (6, 310)]);
        use ChunkOutcome::{Duplicate, Late, Taken};
        assert_eq!(verdicts, [Taken, Duplicate, Taken, Duplicate, Taken, Late]);
        assert_eq!(out, [(Continuity::JumpAhead, 5), (Continuity::Gap, 7), (Continuity::Next, 8)]);
    }

    #[test]
    fn chunks_that_wait_from_before_a_host_begins_anew_are_not_heard_behind_its_own() {
        let (mut buffer, mut out) = (ReorderBuffer::default(), Vec::new());
        // 5 waits for 4; then a host whose 0 comes too late goes on with a 4 of its own.
        for (sequence, timestamp) in [(3, 3), (5, 5), (0, 1000), (4, 1004)] {
            buffer.offer(chunk(sequence, timestamp), UnixMillis::EPOCH, &mut out);
        }
        let heard: Vec<i64> = out.iter().map(|(_, chunk)| chunk.header.timestamp.as_millis()).collect();
        assert_eq!(heard, [3, 1004]);
    }

    #[test]
    fn a_jump_is_a_new_epoch() {
        assert_eq!(run(&[(0, 0), (12, 10)]).1, [(Continuity::JumpAhead, 0), (Continuity::JumpAhead, 12)]);
        assert_eq!(run(&[(500, 0), (0, 10)]).1, [(Continuity::JumpAhead, 500), (Continuity::Restart, 0)]);
        assert_eq!(run(&[(0, 0), (i64::MAX, 10), (0, 20)]).1.len(), 3, "no number breaks it");
    }

    #[test]
    fn a_host_that_begins_anew_soon_is_not_taken_for_a_repetition() {
        let (mut intake, mut out) = (ReorderBuffer::default(), Vec::new());
        for sequence in 0..3 {
            intake.offer(chunk(sequence, 1000 + sequence), UnixMillis::EPOCH, &mut out);
        }
        assert_eq!(intake.offer(chunk(0, 9000), UnixMillis::new(100), &mut out), ChunkOutcome::Taken);
        assert_eq!(out.last().map(|(follows, _)| *follows), Some(Continuity::Restart));
    }
}
