//! Any sample rate and any number of channels to those that are wanted.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

use crate::{ChannelLayout, SoundForm};

/// Frames that are converted at a time.
const CHUNK_FRAMES: usize = 1024;
/// Sample rates that are taken, in hertz.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;

/// Converter of one track.
pub struct SoundResampler {
    channels: usize,
    rate: u32,
    form: SoundForm,
    resampler: Option<Fft<f32>>,
    /// Samples of the wanted layout at the track's rate that wait for more.
    pending: Vec<f32>,
    /// Output frames that are the filter's delay and none of the track.
    delay: usize,
    taken: u64,
    given: u64,
}

impl SoundResampler {
    /// Creates a converter; `None` for a form that no track has.
    pub fn new(rate: u32, channels: usize, form: SoundForm) -> Option<Self> {
        if !RATES.contains(&rate) || !(1..=8).contains(&channels) {
            return None;
        }
        let (wanted, into) = (form.rate as usize, form.layout.channels());
        let make = || Fft::new(rate as usize, wanted, CHUNK_FRAMES, into, FixedSync::Input).ok();
        let resampler = if rate == form.rate { None } else { Some(make()?) };
        let delay = resampler.as_ref().map_or(0, Resampler::output_delay);
        Some(Self { channels, rate, form, resampler, pending: Vec::new(), delay, taken: 0, given: 0 })
    }

    /// Returns whether this converts sound of that form.
    pub fn fits(&self, rate: u32, channels: usize) -> bool {
        (self.rate, self.channels) == (rate, channels)
    }

    /// Adds interleaved samples; appends what is ready to `ready`. Returns false where that cannot be done.
    pub fn push(&mut self, samples: &[f32], ready: &mut Vec<f32>) -> bool {
        self.taken += (samples.len() / self.channels) as u64;
        let start = ready.len();
        let into = if self.resampler.is_none() { &mut *ready } else { &mut self.pending };
        for frame in samples.chunks_exact(self.channels) {
            let (left, right) = stereo(frame);
            let finite = |sample: f32| if sample.is_finite() { sample.clamp(-4.0, 4.0) } else { 0.0 };
            match self.form.layout {
                ChannelLayout::Mono => into.push(finite((left + right) / 2.0)),
                ChannelLayout::Stereo => into.extend([left, right].map(finite)),
            }
        }
        if self.resampler.is_none() {
            self.given += ((ready.len() - start) / self.form.layout.channels()) as u64;
            return true;
        }
        self.convert(ready)
    }

    /// Appends the rest at the end of the track: exactly as many frames as it has.
    pub fn finish(&mut self, ready: &mut Vec<f32>) -> bool {
        if self.resampler.is_none() {
            return true;
        }
        let channels = self.form.layout.channels();
        let whole = self.taken * u64::from(self.form.rate) / u64::from(self.rate);
        // What is converted at once is a second at rates that have little in common with the form's: nothing comes before that.
        let (mut padded, most) = (0, 4 * self.rate as usize + 4 * CHUNK_FRAMES);
        while self.given < whole {
            self.pending.resize(self.pending.len() + channels * CHUNK_FRAMES, 0.0);
            padded += CHUNK_FRAMES;
            if !self.convert(ready) || padded > most {
                return false;
            }
        }
        let over = usize::try_from(self.given - whole).unwrap_or_default();
        ready.truncate(ready.len().saturating_sub(channels * over));
        true
    }

    fn convert(&mut self, ready: &mut Vec<f32>) -> bool {
        let Some(resampler) = &mut self.resampler else { return true };
        let channels = self.form.layout.channels();
        let mut used = 0;
        loop {
            let frames = resampler.input_frames_next();
            let Some(input) = self.pending.get(used..used + channels * frames) else { break };
            let room = resampler.output_frames_next();
            let start = ready.len();
            ready.resize(start + channels * room, 0.0);
            let Ok(input) = InterleavedSlice::new(input, channels, frames) else { return false };
            let Ok(mut output) = InterleavedSlice::new_mut(&mut ready[start..], channels, room) else { return false };
            let Ok((taken, made)) = resampler.process_into_buffer(&input, &mut output, None) else { return false };
            used += channels * taken;
            ready.truncate(start + channels * made);
            let cut = self.delay.min(made);
            self.delay -= cut;
            ready.drain(start..start + channels * cut);
            self.given += (made - cut) as u64;
        }
        self.pending.drain(..used);
        true
    }
}

/// Returns a frame as stereo: one channel is heard on both sides, and of more the front ones with the middle between them.
fn stereo(frame: &[f32]) -> (f32, f32) {
    match *frame {
        [] => (0.0, 0.0),
        [one] => (one, one),
        [left, right] => (left, right),
        [left, right, middle, ..] => (left + middle * 0.707, right + middle * 0.707),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: SoundForm = SoundForm { rate: 48_000, layout: ChannelLayout::Stereo };

    fn converted(rate: u32, channels: usize, frames: usize) -> Vec<f32> {
        let mut resampler = SoundResampler::new(rate, channels, STEREO).expect("a form of tracks");
        let tone = |frame: usize| (frame as f64 * 440.0 * std::f64::consts::TAU / f64::from(rate)).sin() as f32 * 0.5;
        let mut ready = Vec::new();
        for start in (0..frames).step_by(1152) {
            let block: Vec<f32> =
                (start..(start + 1152).min(frames)).flat_map(|frame| vec![tone(frame); channels]).collect();
            assert!(resampler.push(&block, &mut ready));
        }
        assert!(resampler.finish(&mut ready));
        ready
    }

    #[test]
    fn a_track_has_its_length_and_its_tone_at_any_rate() {
        for (rate, channels) in
            [(48_000, 2), (44_100, 2), (44_100, 1), (22_050, 1), (96_000, 2), (44_101, 2), (47_999, 1)]
        {
            let frames = rate as usize * 2 + 77;
            let ready = converted(rate, channels, frames);
            assert_eq!(ready.len() / 2, frames * 48_000 / rate as usize, "{rate}");
            let left: Vec<f32> = ready.iter().step_by(2).copied().collect();
            let steady = &left[2_000..left.len() - 2_000];
            let passes = steady.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
            let pitch = passes as f64 * 48_000.0 / steady.len() as f64;
            assert!((pitch - 440.0).abs() < 3.0, "{rate}: {pitch} Hz");
            // Neither delayed nor early: the tone of the source at the same time.
            let expected = |frame: usize| (frame as f64 * 440.0 * std::f64::consts::TAU / 48_000.0).sin() * 0.5;
            let worst = (10_000..60_000).map(|frame| (f64::from(left[frame]) - expected(frame)).abs());
            assert!(worst.fold(0.0, f64::max) < 0.02, "{rate}");
        }
    }

    #[test]
    fn sound_of_one_channel_is_the_mean_of_both() {
        let form = SoundForm { rate: 8_000, layout: ChannelLayout::Mono };
        let mut resampler = SoundResampler::new(44_100, 2, form).expect("a form of tracks");
        let tone = |frame: usize| (frame as f64 * 440.0 * std::f64::consts::TAU / 44_100.0).sin() as f32;
        let samples: Vec<f32> = (0..88_200).flat_map(|frame| [tone(frame) * 0.8, tone(frame) * 0.2]).collect();
        let mut ready = Vec::new();
        assert!(resampler.push(&samples, &mut ready) && resampler.finish(&mut ready));
        assert_eq!(ready.len(), 16_000);
        let expected = |frame: usize| (frame as f64 * 440.0 * std::f64::consts::TAU / 8_000.0).sin() * 0.5;
        let worst = (1_000..15_000).map(|frame| (f64::from(ready[frame]) - expected(frame)).abs());
        assert!(worst.fold(0.0, f64::max) < 0.02);
    }

    #[test]
    fn more_channels_are_mixed_and_impossible_forms_refused() {
        assert_eq!(stereo(&[0.5]), (0.5, 0.5));
        assert_eq!(stereo(&[0.1, 0.2]), (0.1, 0.2));
        assert_eq!(stereo(&[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]), (0.707, 0.707));
        for (rate, channels) in [(0, 2), (48_000, 0), (48_000, 9), (1_000_000, 2)] {
            assert!(SoundResampler::new(rate, channels, STEREO).is_none());
        }
    }
}
