//! Notes to sound: six soft instruments, an echo and a room.

use std::f32::consts::TAU;

use super::score::{Instrument, Note, Song, XorshiftRng};

/// Samples per second.
pub(super) const RATE: u32 = 44_100;

/// Samples per second, as a number to calculate with.
const RATE_F: f32 = RATE as f32;

/// One moment of sound: left and right.
pub(super) type StereoFrame = [f32; 2];

/// Renders a song: frames between −1 and 1.
pub(super) fn render(song: &Song) -> Vec<StereoFrame> {
    let length = (song.seconds() * RATE_F) as usize;
    let mut dry = vec![[0.0; 2]; length];
    let mut wet = vec![[0.0; 2]; length];
    for (number, note) in song.notes().iter().enumerate() {
        // Share of the note that goes to echo and room, and seconds of fading after its end.
        let (send, tail) = match note.instrument {
            Instrument::Pad => (0.45, 1.6),
            Instrument::Bass => (0.04, 0.25),
            Instrument::Keys => (0.35, 0.7),
            Instrument::Bell => (0.55, 1.4),
            Instrument::Drum => (0.05, 0.2),
            Instrument::Shaker => (0.15, 0.05),
        };
        let begin = (note.start * RATE_F) as usize;
        let end = (((note.start + note.length + tail) * RATE_F) as usize).min(length);
        let (left, right) = ((1.0 - note.pan.max(0.0)) * note.loudness, (1.0 + note.pan.min(0.0)) * note.loudness);
        let mut voice = Voice::new(note, tail, number as u32 + 1);
        for (dry, wet) in dry[begin..end].iter_mut().zip(&mut wet[begin..end]) {
            let [l, r] = voice.next();
            let frame = [l * left, r * right];
            *dry = add(*dry, frame, 1.0);
            *wet = add(*wet, frame, send);
        }
    }
    // Three quarters of a beat: echoes fall between the beats.
    echo(&mut wet, (song.beat_seconds() * 0.75 * RATE_F) as usize);
    room(&mut wet);
    for (dry, wet) in dry.iter_mut().zip(&wet) {
        *dry = add(*dry, *wet, 0.8);
    }
    finish(&mut dry);
    dry
}

/// A note being played.
struct Voice {
    instrument: Instrument,
    time: f32,
    length: f32,
    tail: f32,
    frequency: f32,
    partials: Vec<SineOscillator>,
    noise: XorshiftRng,
    before: f32,
}

/// A sine that turns by itself: two multiplications a sample instead of a call.
struct SineOscillator {
    sine: f64,
    cosine: f64,
    turn: (f64, f64),
    gain: [f32; 2],
}

impl SineOscillator {
    fn new(frequency: f32, phase: f32, gain: [f32; 2]) -> Self {
        // In `f64`, because each step adds its rounding error to those before it.
        let turn = f64::from(frequency / RATE_F * TAU).sin_cos();
        let (sine, cosine) = f64::from(phase * TAU).sin_cos();
        Self { sine, cosine, turn, gain }
    }

    fn next(&mut self) -> f32 {
        let (sine, cosine) = (self.sine, self.cosine);
        self.sine = sine * self.turn.1 + cosine * self.turn.0;
        self.cosine = cosine * self.turn.1 - sine * self.turn.0;
        sine as f32
    }
}

impl Voice {
    fn new(note: &Note, tail: f32, seed: u32) -> Self {
        let partials = match note.instrument {
            // Two slightly different chords, one to each side: they beat slowly against each other.
            Instrument::Pad => (1..=3_u8)
                .flat_map(|n| [(n, 0.9985, [0.9, 0.3]), (n, 1.0015, [0.3, 0.9])])
                .map(|(n, detune, side)| {
                    let gain = 0.075 / f32::from(n).powf(1.6);
                    SineOscillator::new(
                        note.frequency * f32::from(n) * detune,
                        0.37 * f32::from(n),
                        side.map(|s| s * gain),
                    )
                })
                .collect(),
            Instrument::Bass => [(1.0, 0.2), (2.0, 0.08), (3.0, 0.03)]
                .map(|(n, gain)| SineOscillator::new(note.frequency * n, 0.0, [gain, gain]))
                .into(),
            Instrument::Keys | Instrument::Bell | Instrument::Drum | Instrument::Shaker => Vec::new(),
        };
        let (instrument, length, frequency) = (note.instrument, note.length, note.frequency);
        // Odd and large: a small seed makes the first numbers small too.
        let noise = XorshiftRng(seed.wrapping_mul(2_654_435_769) | 1);
        Self { instrument, time: 0.0, length, tail, frequency, partials, noise, before: 0.0 }
    }

    fn next(&mut self) -> StereoFrame {
        let time = self.time;
        self.time += 1.0 / RATE_F;
        let angle = TAU * self.frequency * time;
        let mono = |sample: f32| [sample, sample];
        match self.instrument {
            Instrument::Pad => {
                let level = self.envelope(0.9, 1.0);
                self.chord(level)
            }
            Instrument::Bass => {
                let level = self.envelope(0.012, (-time * 1.1).exp());
                self.chord(level)
            }
            // Frequency modulation whose colour fades faster than its sound.
            Instrument::Keys => {
                let colour = 1.3 * (-time * 5.0).exp() * (angle * 2.0).sin();
                mono((angle + colour).sin() * 0.16 * self.envelope(0.004, (-time * 2.6).exp()))
            }
            Instrument::Bell => {
                let colour = 0.8 * (-time * 3.5).exp() * (angle * 3.0).sin();
                let vibrato = 0.09 * (TAU * 4.6 * time).sin() * (time * 1.5).min(1.0);
                mono((angle + colour + vibrato).sin() * 0.2 * self.envelope(0.012, (-time * 1.5).exp()))
            }
            // A falling sine.
            Instrument::Drum => {
                let fall = TAU * (self.frequency * time + 3.2 * (1.0 - (-time * 28.0).exp()) / TAU * 1.6);
                mono(fall.sin() * 0.5 * self.envelope(0.003, (-time * 11.0).exp()))
            }
            // Noise, its low part taken away.
            Instrument::Shaker => {
                let noise = self.noise.next_u32() as f32 / u32::MAX as f32 - 0.5;
                let high = noise - self.before;
                self.before = noise;
                mono(high * 0.16 * self.envelope(0.012, (-time * 32.0).exp()))
            }
        }
    }

    fn chord(&mut self, level: f32) -> StereoFrame {
        self.partials.iter_mut().fold([0.0; 2], |sum, partial| {
            let sample = partial.next() * level;
            [sum[0] + sample * partial.gain[0], sum[1] + sample * partial.gain[1]]
        })
    }

    /// Returns `body` with a soft beginning of `attack` seconds and a soft end after the note is let go.
    fn envelope(&self, attack: f32, body: f32) -> f32 {
        let rise = smooth(self.time / attack);
        let fall = 1.0 - smooth((self.time - self.length) / self.tail);
        rise * fall * body
    }
}

/// Rises from 0 to 1 without corners.
fn smooth(x: f32) -> f32 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

fn add(to: StereoFrame, frame: StereoFrame, gain: f32) -> StereoFrame {
    [to[0] + frame[0] * gain, to[1] + frame[1] * gain]
}

/// Adds an echo that goes from side to side, each time softer.
fn echo(frames: &mut [StereoFrame], delay: usize) {
    for now in delay..frames.len() {
        let [left, right] = frames[now - delay];
        frames[now] = add(frames[now], [right, left], 0.34);
    }
}

/// Adds a room: eight echoes too dense to be told apart, their high parts swallowed, spread by two all-passes
/// (Schroeder's and Moorer's reverberator, with the delays that Freeverb made known).
fn room(frames: &mut [StereoFrame]) {
    // Freeverb's stereo spread: the delays of the right side are 23 samples longer.
    for (side, spread) in [(0, 0), (1, 23)] {
        let input: Vec<f32> = frames.iter().map(|frame| frame[side]).collect();
        let mut sum = vec![0.0; input.len()];
        for delay in [1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617] {
            let mut line = vec![0.0; delay + spread];
            let (mut at, mut dull) = (0, 0.0);
            for (input, sum) in input.iter().zip(&mut sum) {
                let output = line[at];
                dull += (output - dull) * 0.62;
                line[at] = input * 0.12 + dull * 0.84;
                at = if at + 1 == line.len() { 0 } else { at + 1 };
                *sum += output;
            }
        }
        for delay in [556, 341] {
            let mut line = vec![0.0; delay + spread];
            let mut at = 0;
            for sample in &mut sum {
                let output = line[at] - *sample * 0.5;
                line[at] = *sample + output * 0.5;
                at = if at + 1 == line.len() { 0 } else { at + 1 };
                *sample = output;
            }
        }
        for (frame, sum) in frames.iter_mut().zip(&sum) {
            frame[side] = frame[side] * 0.7 + sum;
        }
    }
}

/// Brings the loudest moment to −2 dB, and fades the end.
fn finish(frames: &mut [StereoFrame]) {
    let peak = frames.iter().flatten().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    // 0.794 is −2 dB.
    let gain = if peak > 0.0 { 0.794 / peak } else { 0.0 };
    let length = frames.len();
    for (number, frame) in frames.iter_mut().enumerate() {
        let left = (length - number) as f32 / RATE_F;
        *frame = frame.map(|sample| sample * gain * smooth(left / 2.5));
    }
}

#[cfg(test)]
mod tests {
    use super::super::score::SONGS;
    use super::render;

    #[test]
    fn a_rendering_is_loud_enough_never_clips_and_ends_in_silence() {
        let frames = render(&SONGS[0].clone().shortened());
        let peak = frames.iter().flatten().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!((0.5..=0.8).contains(&peak), "{peak}");
        let energy: f32 = frames.iter().flatten().map(|sample| sample * sample).sum();
        let mean = (energy / (frames.len() * 2) as f32).sqrt();
        assert!(mean > 0.03, "{mean}");
        let middle: f32 = frames.iter().flatten().sum::<f32>() / (frames.len() * 2) as f32;
        assert!(middle.abs() < 0.01, "a constant part of {middle}");
        assert!(frames[frames.len() - 1].iter().all(|sample| sample.abs() < 0.001));
    }
}
