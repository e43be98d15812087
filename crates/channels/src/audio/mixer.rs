//! Joins tracks: the end of one is faded into the beginning of the next with equal power, so that the loudness of two songs, which
//! have nothing to do with each other, stays the same. Without a fade they follow each other without a gap. Pure.

use std::collections::VecDeque;
use std::f32::consts::FRAC_PI_2;

use super::CHANNELS;

/// Blocks of the current track that are held besides a fade: five seconds.
const BLOCKS_AHEAD: usize = 50;

/// Mixer of a channel: the track that is heard, and the one that follows it.
pub struct TrackMixer {
    fade_frames: usize,
    current: Option<MixedTrack>,
    next: Option<MixedTrack>,
    fade: Option<Fade>,
}

/// Samples of a track that wait to be heard.
#[derive(Default)]
struct MixedTrack {
    samples: VecDeque<f32>,
    has_ended: bool,
}

/// Fade from one track to the next.
#[derive(Clone, Copy)]
struct Fade {
    frames: usize,
    done: usize,
}

/// Place of a track in the mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixerSlot {
    /// The track that is heard.
    Current,
    /// The one that follows it.
    Next,
}

impl MixedTrack {
    fn frames(&self) -> usize {
        self.samples.len() / CHANNELS
    }

    fn pop(&mut self) -> [f32; CHANNELS] {
        let mut sample = || self.samples.pop_front().unwrap_or_default();
        [sample(), sample()]
    }
}

impl TrackMixer {
    /// Creates a mixer whose fades have so many frames.
    pub fn new(fade_frames: usize) -> Self {
        Self { fade_frames, current: None, next: None, fade: None }
    }

    /// Returns the slot that is free, if one is: a track is put there.
    pub fn free_slot(&self) -> Option<MixerSlot> {
        match (&self.current, &self.next) {
            (None, _) => Some(MixerSlot::Current),
            (Some(_), None) => Some(MixerSlot::Next),
            (Some(_), Some(_)) => None,
        }
    }

    /// Puts a track into the free slot.
    pub fn load(&mut self) {
        let slot = if self.current.is_none() { &mut self.current } else { &mut self.next };
        *slot = Some(MixedTrack::default());
    }

    /// Adds samples of a track.
    pub fn push(&mut self, slot: MixerSlot, samples: &[f32]) {
        if let Some(track) = self.track_mut(slot) {
            track.samples.extend(samples);
        }
    }

    /// Notes that a track has no more samples.
    pub fn end(&mut self, slot: MixerSlot) {
        if let Some(track) = self.track_mut(slot) {
            track.has_ended = true;
        }
    }

    /// Ends the track that is heard within a fade from here.
    pub fn skip(&mut self) {
        let fade_frames = self.fade_frames;
        if let Some(track) = &mut self.current {
            track.samples.truncate(CHANNELS * fade_frames);
            track.has_ended = true;
        }
    }

    /// Takes the next track out; returns false where it is heard already, in a fade.
    pub fn unload_next(&mut self) -> bool {
        let can_go = self.fade.is_none();
        if can_go {
            self.next = None;
        }
        can_go
    }

    /// Returns true where a track wants more samples: a fade's worth is held of the current one, so that its end is known before it
    /// begins to fade.
    pub fn wants(&self, slot: MixerSlot, block_frames: usize) -> bool {
        let (track, ahead) = match slot {
            // Its end must be known while there is time to fetch another one.
            MixerSlot::Current => (&self.current, self.fade_frames + BLOCKS_AHEAD * block_frames),
            MixerSlot::Next => (&self.next, self.fade_frames + 2 * block_frames),
        };
        track.as_ref().is_some_and(|track| !track.has_ended && track.frames() < ahead)
    }

    /// Returns true where the current track has no more samples to come.
    pub fn current_has_ended(&self) -> bool {
        self.current.as_ref().is_some_and(|track| track.has_ended)
    }

    /// Appends up to `frames` frames to `output`; returns true where the current track is over, and the next one, if there is one,
    /// has taken its place. Fewer frames mean that there is no more sound at the moment.
    pub fn pull(&mut self, frames: usize, output: &mut Vec<f32>) -> bool {
        for _ in 0..frames {
            self.begin_fade();
            let Some(current) = &mut self.current else { return false };
            if current.frames() == 0 {
                if !current.has_ended {
                    return false;
                }
                self.current = self.next.take();
                self.fade = None;
                return true;
            }
            let [left, right] = current.pop();
            let (Some(fade), Some(next)) = (&mut self.fade, &mut self.next) else {
                output.extend([left, right]);
                continue;
            };
            let at = (fade.done as f32 + 0.5) / fade.frames as f32 * FRAC_PI_2;
            let (out, inward) = (at.cos(), at.sin());
            let [next_left, next_right] = next.pop();
            output.extend([left * out + next_left * inward, right * out + next_right * inward]);
            fade.done += 1;
        }
        false
    }

    /// Begins the fade where the rest of the current track is no longer than one, and as much of the next is there.
    fn begin_fade(&mut self) {
        let (Some(current), Some(next)) = (&self.current, &self.next) else { return };
        let rest = current.frames();
        // A short track is not heard in fades alone.
        let most = if next.has_ended { self.fade_frames.min(next.frames() / 2) } else { self.fade_frames };
        // A next track that is still being fetched makes the fade begin later.
        let can_begin = self.fade.is_none() && current.has_ended && rest > 0;
        if can_begin && rest <= most && next.frames() >= rest {
            self.fade = Some(Fade { frames: rest, done: 0 });
        }
    }

    fn track_mut(&mut self, slot: MixerSlot) -> Option<&mut MixedTrack> {
        match slot {
            MixerSlot::Current => self.current.as_mut(),
            MixerSlot::Next => self.next.as_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Plays tracks of constant samples, in pulls of `pull` frames; returns the left side, and where tracks were over.
    fn play(fade: usize, tracks: &[(f32, usize)], pull: usize) -> (Vec<f32>, Vec<usize>) {
        let mut mixer = TrackMixer::new(fade);
        let (mut output, mut ends, mut coming) = (Vec::new(), Vec::new(), tracks.iter());
        loop {
            while let Some(slot) = mixer.free_slot()
                && let Some((level, frames)) = coming.next()
            {
                mixer.load();
                mixer.push(slot, &vec![*level; CHANNELS * frames]);
                mixer.end(slot);
            }
            if mixer.free_slot() == Some(MixerSlot::Current) {
                break;
            }
            if mixer.pull(pull, &mut output) {
                ends.push(output.len() / CHANNELS);
            }
        }
        (output.into_iter().step_by(CHANNELS).collect(), ends)
    }

    #[test]
    fn tracks_are_faded_with_equal_power() {
        let (heard, ends) = play(100, &[(1.0, 1000), (1.0, 1000)], 64);
        assert_eq!((heard.len(), ends), (1900, vec![1000, 1900]));
        assert!(heard[..900].iter().chain(&heard[1000..]).all(|sample| *sample == 1.0));
        // The powers of two songs add up to that of one.
        for (at, sample) in heard[900..1000].iter().enumerate() {
            let angle = (at as f32 + 0.5) / 100.0 * FRAC_PI_2;
            assert!((sample - (angle.cos() + angle.sin())).abs() < 1e-5);
            assert!((angle.cos().powi(2) + angle.sin().powi(2) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn without_a_fade_no_sample_is_lost_and_none_is_added() {
        let (heard, ends) = play(0, &[(0.1, 333), (0.2, 1), (0.3, 500)], 100);
        assert_eq!(ends, [333, 334, 834]);
        assert!(heard.iter().enumerate().all(|(at, sample)| {
            *sample
                == if at < 333 {
                    0.1
                } else if at < 334 {
                    0.2
                } else {
                    0.3
                }
        }));
    }

    #[test]
    fn a_track_that_is_skipped_fades_out_from_there() {
        let mut mixer = TrackMixer::new(10);
        let mut output = Vec::new();
        mixer.load();
        mixer.push(MixerSlot::Current, &[1.0; 200]);
        mixer.pull(20, &mut output);
        mixer.skip();
        mixer.load();
        mixer.push(MixerSlot::Next, &[0.5; 200]);
        assert!(mixer.pull(50, &mut output), "it is over");
        assert_eq!(output.len() / CHANNELS, 30);
    }

    #[test]
    fn a_next_track_that_is_late_makes_the_fade_short_and_no_gap() {
        let mut mixer = TrackMixer::new(100);
        let mut output = Vec::new();
        mixer.load();
        mixer.push(MixerSlot::Current, &vec![1.0; CHANNELS * 300]);
        mixer.end(MixerSlot::Current);
        mixer.load();
        mixer.pull(250, &mut output);
        assert!(output.iter().all(|sample| *sample == 1.0), "there is nothing to fade to");
        mixer.push(MixerSlot::Next, &vec![1.0; CHANNELS * 200]);
        assert!(mixer.pull(100, &mut output));
        assert_eq!(output.len() / CHANNELS, 300);
        assert!(output[CHANNELS * 251..].iter().all(|sample| *sample > 1.0), "fifty frames of fade");
    }

    proptest! {
        /// Whatever the lengths, each frame is heard once, alone or in a fade, and nothing is silent.
        #[test]
        fn lengths_add_up(
            fade in 0_usize..50,
            lengths in prop::collection::vec(1_usize..200, 1..8),
            pull in 1_usize..70,
        ) {
            let tracks: Vec<(f32, usize)> = lengths.iter().map(|length| (0.5, *length)).collect();
            let (heard, ends) = play(fade, &tracks, pull);
            prop_assert_eq!(ends.len(), lengths.len());
            let whole: usize = lengths.iter().sum();
            prop_assert!(heard.len() <= whole && heard.len() + fade * (lengths.len() - 1) >= whole);
            prop_assert!(heard.iter().all(|sample| *sample >= 0.49 && *sample < 0.75));
        }
    }
}
