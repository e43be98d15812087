//! Search by votes: each landmark of a question that is found in a track says where in the track the question would begin. Where
//! many say the same, the track has the sound.

use std::collections::HashMap;
use std::io;

use super::{SearchedSegment, varint};
use crate::landmarks::Landmark;

/// Frames of a question at most; two minutes.
const MAX_QUERY_FRAMES: u32 = 8192;
/// Votes that are counted at most, by which a question costs the same however large the index is. Those of the rarest landmarks
/// are, which say the most.
const MAX_VOTES: u64 = 600_000;
/// Votes of a segment that are counted at least.
const MIN_SEGMENT_VOTES: u64 = 20_000;
/// Number of counters as a power of two.
const COUNTER_BITS: u32 = 20;
/// Frames that share a counter, as a power of two.
const COUNTER_SHIFT: u32 = 2;
/// Votes from which on a place is looked at more closely.
const MIN_COUNT: u16 = 4;
/// Frames by which votes for the same begin may differ.
const TOLERANCE: u32 = 1;
/// Candidates at most.
const MAX_CANDIDATES: usize = 10;

/// Track that may have the sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Version of its object.
    pub version: String,
    /// Frame of the track at which the question begins.
    pub frame: i64,
    /// Number of moments of the question that are found at the same distance in the track.
    pub score: u32,
}

/// Vote for a begin: the place of a landmark less its time in the question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Vote {
    begin: u32,
    frame: u32,
}

/// Returns the candidates of all segments, the likeliest first.
pub fn find(segments: &[SearchedSegment], landmarks: &[Landmark]) -> io::Result<Vec<Candidate>> {
    let mut question: Vec<Landmark> = landmarks.iter().copied().filter(|mark| mark.frame < MAX_QUERY_FRAMES).collect();
    question.sort_unstable();
    question.dedup();
    let codes: Vec<u32> = {
        let mut codes: Vec<u32> = question.iter().map(|mark| mark.code).collect();
        codes.dedup();
        codes
    };
    let total: u64 = segments.iter().map(|part| part.segment.landmarks()).sum();
    let mut best: HashMap<String, Candidate> = HashMap::new();
    for part in segments {
        let share = u128::from(MAX_VOTES) * u128::from(part.segment.landmarks()) / u128::from(total.max(1));
        let budget = u64::try_from(share).unwrap_or(MAX_VOTES).max(MIN_SEGMENT_VOTES);
        let votes = votes(part, &question, &codes, budget)?;
        for candidate in candidates(part, votes) {
            let known = best.entry(candidate.id.clone()).or_insert_with(|| candidate.clone());
            if known.score < candidate.score {
                *known = candidate;
            }
        }
    }
    let mut found: Vec<Candidate> = best.into_values().collect();
    found.sort_unstable_by(|one, other| (other.score, &one.id).cmp(&(one.score, &other.id)));
    found.truncate(MAX_CANDIDATES);
    Ok(found)
}

/// Reads the votes of a segment, those of the rarest codes first.
fn votes(part: &SearchedSegment, question: &[Landmark], codes: &[u32], budget: u64) -> io::Result<Vec<Vote>> {
    let (mut bytes, mut found) = (Vec::new(), Vec::new());
    part.segment.look_up(codes, |index, places| {
        found.push((places.len(), index, bytes.len()));
        bytes.extend_from_slice(places);
    })?;
    found.sort_unstable();
    let mut votes = Vec::new();
    for (length, index, start) in found {
        if votes.len() as u64 >= budget {
            break;
        }
        let from = question.partition_point(|mark| mark.code < codes[index]);
        let marks = question[from..].iter().take_while(|mark| mark.code == codes[index]);
        for place in varint::read_ascending(&bytes[start..start + length]) {
            let begin = place.saturating_add(MAX_QUERY_FRAMES);
            votes.extend(marks.clone().map(|mark| Vote { begin: begin - mark.frame, frame: mark.frame }));
        }
    }
    Ok(votes)
}

/// Counts votes, and returns the best begin of each track.
fn candidates(part: &SearchedSegment, votes: Vec<Vote>) -> Vec<Candidate> {
    let close = close_votes(votes);
    let mut best: HashMap<usize, (u32, u32)> = HashMap::new();
    let mut frames = Vec::new();
    let (mut start, mut end) = (0, 0);
    while start < close.len() {
        let begin = close[start].begin;
        while end < close.len() && close[end].begin <= begin.saturating_add(2 * TOLERANCE) {
            end += 1;
        }
        frames.clear();
        frames.extend(close[start..end].iter().map(|vote| vote.frame));
        frames.sort_unstable();
        frames.dedup();
        let score = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        if score >= u32::from(MIN_COUNT) {
            // The track of most votes: a begin may be before the first frame of the track, or of the next one.
            let middle = close[start + (end - start) / 2];
            let place = (middle.begin + middle.frame).saturating_sub(MAX_QUERY_FRAMES);
            let track = part.segment.track_at(place).filter(|track| part.removed.binary_search(track).is_err());
            if let Some(track) = track {
                let known = best.entry(track).or_insert((score, middle.begin));
                *known = (*known).max((score, middle.begin));
            }
        }
        while start < end && close[start].begin == begin {
            start += 1;
        }
    }
    let shown = |(track, (score, begin)): (usize, (u32, u32))| {
        let track = part.segment.tracks().get(track)?;
        let frame = i64::from(begin) - i64::from(MAX_QUERY_FRAMES) - i64::from(track.base);
        Some(Candidate { id: track.id.clone(), version: track.version.clone(), frame, score })
    };
    let mut found: Vec<Candidate> = best.into_iter().filter_map(shown).collect();
    found.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.score));
    found.truncate(MAX_CANDIDATES);
    found
}

/// Returns the votes that are not alone, ordered by begin. Most of a large index's are, and sorting all of them would take longer
/// than all else.
fn close_votes(mut votes: Vec<Vote>) -> Vec<Vote> {
    let mut counters = vec![0_u16; 1 << COUNTER_BITS];
    let slot = |bucket: u32| (bucket.wrapping_mul(0x9e37_79b1) >> (32 - COUNTER_BITS)) as usize;
    for vote in &votes {
        let counter = &mut counters[slot(vote.begin >> COUNTER_SHIFT)];
        *counter = counter.saturating_add(1);
    }
    votes.retain(|vote| {
        let bucket = vote.begin >> COUNTER_SHIFT;
        let around = [bucket.wrapping_sub(1), bucket, bucket.wrapping_add(1)];
        around.iter().fold(0_u16, |sum, bucket| sum.saturating_add(counters[slot(*bucket)])) >= MIN_COUNT
    });
    votes.sort_unstable();
    votes
}
