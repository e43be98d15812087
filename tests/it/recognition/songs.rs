//! Songs that are made up, each from its number, and clips of them as ffmpeg distorts them.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::in_time;
use crate::support::tools::TempFolder;

const RATE: u32 = 16_000;

/// Chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

/// WAVE of a song: notes of two voices with overtones, and a beat.
pub fn song(number: u64, seconds: usize) -> Vec<u8> {
    let mut chance = Chance(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..5 {
        chance.next();
    }
    let beat = (f64::from(RATE) * (0.2 + 0.2 * chance.next())) as usize;
    let mut samples = vec![0.0_f64; seconds * RATE as usize];
    for start in (0..samples.len()).step_by(beat) {
        for _ in 0..2 {
            let tone = 110.0 * 2_f64.powf((chance.next() * 44.0).floor() / 12.0);
            for overtone in 1..=4_u32 {
                let step = std::f64::consts::TAU * tone * f64::from(overtone) / f64::from(RATE);
                let loudness = 0.2 * chance.next() / f64::from(overtone);
                for (at, sample) in samples[start..].iter_mut().take(2 * beat).enumerate() {
                    *sample += loudness * (step * at as f64).sin() * (1.0 - at as f64 / (2 * beat) as f64);
                }
            }
        }
        for (at, sample) in samples[start..].iter_mut().take(600).enumerate() {
            *sample += (chance.next() - 0.5) * 0.5 * (1.0 - at as f64 / 600.0);
        }
    }
    wave(&samples.iter().map(|sample| (sample.clamp(-1.0, 1.0) * 30_000.0) as i16).collect::<Vec<_>>())
}

/// WAVE of 16-bit samples of one channel.
pub fn wave(samples: &[i16]) -> Vec<u8> {
    let data = u32::try_from(samples.len() * 2).expect("a size");
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(RATE.to_le_bytes());
    file.extend((2 * RATE).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(data.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// Has ffmpeg make a file of another; returns its content.
pub async fn convert(ffmpeg: &Path, folder: &TempFolder, from: &[u8], arguments: &[&str], extension: &str) -> Vec<u8> {
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (source, into) = (path("source.wav"), path(&format!("made.{extension}")));
    std::fs::write(&source, from).expect("a file");
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-y", "-i"]).arg(&source).args(arguments).arg(&into);
    let output = in_time("it ends", command.kill_on_drop(true).output()).await.expect("ffmpeg starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    super::read(&into)
}

/// Ten seconds of a song from a second on, distorted.
pub async fn clip(ffmpeg: &Path, folder: &TempFolder, song: &[u8], start: u32, distortion: &Distortion) -> Vec<u8> {
    let start = start.to_string();
    let arguments = [&["-ss", &*start, "-t", "10"][..], distortion.arguments].concat();
    convert(ffmpeg, folder, song, &arguments, distortion.extension).await
}

/// Way from a song to a clip.
pub struct Distortion {
    /// Its name.
    pub name: &'static str,
    /// Arguments of ffmpeg.
    pub arguments: &'static [&'static str],
    /// Extension of the file.
    pub extension: &'static str,
}

/// The four that the budget names.
pub const DISTORTIONS: [Distortion; 4] = [
    Distortion { name: "clean", arguments: &[], extension: "wav" },
    Distortion { name: "24 kbit/s", arguments: &["-ac", "1", "-ar", "22050", "-b:a", "24k"], extension: "mp3" },
    Distortion {
        name: "pink noise",
        // The song has about -20 dB; so the noise is about 5 dB below it.
        arguments: &[
            "-filter_complex",
            "anoisesrc=color=pink:amplitude=0.25:seed=7:sample_rate=16000[n];[0:a][n]amix=duration=first:normalize=0",
        ],
        extension: "m4a",
    },
    Distortion {
        name: "telephone",
        arguments: &[
            "-af",
            "highpass=f=300,highpass=f=300,lowpass=f=3400,lowpass=f=3400",
            "-ar",
            "8000",
            "-c:a",
            "libvorbis",
        ],
        extension: "ogg",
    },
];
