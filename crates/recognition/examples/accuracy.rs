//! Measures recognition: how many clips of a folder's music are recognised, clean and distorted by ffmpeg, and at what cost among
//! many tracks. Every fifth track is kept out of the index: its clips must be recognised as nothing.
//!
//! `cargo run --release -p recognition --example accuracy -- FOLDER [TRACKS] [CLIPS]`: music, tracks that the index is filled up to, clips.
#![expect(clippy::print_stdout, reason = "a command whose output is its result")]

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use recognition::index::{IndexWriter, IndexedTrack, LandmarkIndex};
use recognition::landmarks::{
    FRAME_SAMPLES, Landmark, LandmarkExtractor, LandmarkPurpose, LandmarkStream, SOUND, WangExtractor,
};
use recognition::{ClipFormat, MIN_SCORE, clip_landmarks};
use track_audio::decoder::TrackDecoder;

/// Length of a clip.
const CLIP_SECONDS: usize = 10;
/// Frames of a track that fills the index up: four minutes.
const FILLER_FRAMES: u32 = 15_000;
/// Frames that are taken out of a track for it at a time.
const PIECE_FRAMES: u32 = 300;
/// Band of a telephone.
const TELEPHONE: &str = "highpass=f=300,highpass=f=300,lowpass=f=3400,lowpass=f=3400";

/// Ways from a track to a clip: name, arguments of ffmpeg, extension.
const DISTORTIONS: [(&str, &[&str], &str); 4] = [
    ("clean", &["-ac", "1"], "wav"),
    ("24 kbit/s MP3", &["-ac", "1", "-ar", "22050", "-b:a", "24k"], "mp3"),
    ("pink noise at 5 dB", &["-ac", "1", "-ar", "44100"], "wav"),
    ("telephone band", &["-ac", "1", "-ar", "8000", "-af", TELEPHONE], "wav"),
];

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Track of the folder.
struct Track {
    path: PathBuf,
    seconds: usize,
    is_indexed: bool,
}

/// Numbers of one distortion.
#[derive(Default)]
struct Tally {
    known: u32,
    right: u32,
    wrong: u32,
    cpu: Duration,
    /// Scores of the right tracks.
    right_scores: Vec<u32>,
    /// Best scores of others.
    other_scores: Vec<u32>,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("which folder of music?")?;
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (filled, clips) = (number(1, 0)?, number(2, 200)?);
    let work = std::env::temp_dir().join(format!("tidegate-accuracy-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let measured = measure(Path::new(folder), filled, clips, &work);
    fs::remove_dir_all(&work)?;
    measured
}

fn measure(folder: &Path, filled: usize, clips: usize, work: &Path) -> Outcome<()> {
    let tracks = make_index(folder, filled, work)?;
    let before = resident_kib()?;
    let index = LandmarkIndex::open(&work.join("index"), "accuracy")?.ok_or("there is no index")?;
    println!("resident: {} KiB for the open index", resident_kib()?.saturating_sub(before));
    for (name, arguments, extension) in DISTORTIONS {
        let mut tally = Tally::default();
        for number in 0..clips {
            let track = &tracks[number * 7 % tracks.len()];
            let start = (number * 7919 % (100 * (track.seconds - CLIP_SECONDS))) as f64 / 100.0;
            let clip = work.join(format!("clip.{extension}"));
            make_clip(&track.path, start, arguments, name.starts_with("pink"), &clip)?;
            let bytes = fs::read(&clip)?;
            let format = ClipFormat::of(&bytes).ok_or("a clip of no format")?;
            let began = cpu_time()?;
            let landmarks = clip_landmarks(bytes.into(), format, Duration::from_secs(20))?;
            let found = index.find(&landmarks)?;
            tally.cpu += cpu_time()?.saturating_sub(began);
            let best = found.first().filter(|best| best.score >= MIN_SCORE);
            let is_own = |id: &str| track.is_indexed && id == track.path.to_string_lossy();
            let is_right = best.is_some_and(|best| is_own(&best.id));
            let score = |own: bool| found.iter().find(|found| is_own(&found.id) == own).map_or(0, |found| found.score);
            tally.other_scores.push(score(false));
            if track.is_indexed {
                tally.right_scores.push(score(true));
            }
            tally.known += u32::from(track.is_indexed);
            tally.right += u32::from(is_right);
            tally.wrong += u32::from(best.is_some() && !is_right);
        }
        let all = f64::from(u32::try_from(clips)?);
        println!(
            "{name}: {} of {} right ({:.1} %), {} of {clips} wrong ({:.1} %), {:.1} ms of CPU a clip",
            tally.right,
            tally.known,
            100.0 * f64::from(tally.right) / f64::from(tally.known.max(1)),
            tally.wrong,
            100.0 * f64::from(tally.wrong) / all,
            tally.cpu.as_secs_f64() * 1000.0 / all
        );
        let (right, other) = (&mut tally.right_scores, &mut tally.other_scores);
        right.sort_unstable();
        other.sort_unstable();
        let at = |scores: &[u32], share: usize| scores.get(scores.len() * share / 100).copied().unwrap_or_default();
        println!(
            "    of {MIN_SCORE} that are wanted, right tracks have {} (5 %), {} (half); others {} (half), {} (99 %), {} (all)",
            at(right, 5),
            at(right, 50),
            at(other, 50),
            at(other, 99),
            other.last().copied().unwrap_or_default()
        );
    }
    Ok(())
}

/// Indexes four of five tracks of a folder, and fills the index up with tracks that are made of pieces of these.
fn make_index(folder: &Path, filled: usize, work: &Path) -> Outcome<Vec<Track>> {
    let mut writer = IndexWriter::open(&work.join("index"), "accuracy", true)?;
    let (mut tracks, mut known, mut seconds) = (Vec::new(), Vec::new(), 0);
    let (began, mut paths) = (cpu_time()?, Vec::new());
    collect(folder, &mut paths)?;
    paths.sort();
    for path in paths {
        let Some((landmarks, frames)) = listen(&path) else { continue };
        let length = frames * FRAME_SAMPLES / SOUND.rate as usize;
        if length < 2 * CLIP_SECONDS {
            continue;
        }
        seconds += length;
        let is_indexed = tracks.len() % 5 != 4;
        if is_indexed {
            let (id, frames) = (path.to_string_lossy().into_owned(), u32::try_from(frames)?);
            known.push(landmarks.clone());
            writer.add(IndexedTrack { id, version: String::new(), landmarks, frames })?;
        }
        tracks.push(Track { path, seconds: length, is_indexed });
    }
    if tracks.is_empty() {
        return Err("the folder has no music".into());
    }
    let cpu = cpu_time()?.saturating_sub(began).as_secs_f64() * 1000.0;
    println!("{} tracks, {seconds} seconds; {:.2} ms of CPU for a second", tracks.len(), cpu / seconds as f64);
    for number in known.len()..filled {
        let (id, landmarks) = (format!("filler-{number}"), filler(&known, number));
        writer.add(IndexedTrack { id, version: String::new(), landmarks, frames: FILLER_FRAMES })?;
    }
    let summary = writer.finish()?;
    let bytes = summary.bytes as f64 / summary.seconds as f64;
    println!("{} tracks indexed, {} bytes, {bytes:.0} for a second", summary.tracks, summary.bytes);
    Ok(tracks)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, paths)? } else { paths.push(path) }
    }
    Ok(())
}

fn listen(path: &Path) -> Option<(Vec<Landmark>, usize)> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let mut decoder = TrackDecoder::open(Box::new(File::open(path).ok()?), extension, SOUND).ok()?;
    let mut extractor = WangExtractor::new(LandmarkPurpose::Index);
    let extractor: &mut dyn LandmarkExtractor = &mut extractor;
    let mut stream = LandmarkStream::new(extractor);
    while decoder.read(stream.samples()).ok()? {
        stream.advance();
    }
    Some(stream.finish())
}

/// Landmarks of a track that is nowhere: pieces of real ones, in other places and by some bins higher or lower.
fn filler(known: &[Vec<Landmark>], seed: usize) -> Vec<Landmark> {
    let mut state = seed as u64 + 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let mut made = Vec::new();
    for start in (0..FILLER_FRAMES).step_by(PIECE_FRAMES as usize) {
        let source = &known[random(known.len())];
        let Some(from) = source.get(random(source.len())).map(|mark| mark.frame) else { continue };
        let (shift, later) = (random(61) as u32, random(5) as u32);
        let piece = source[source.partition_point(|mark| mark.frame < from)..].iter();
        made.extend(piece.take_while(|mark| mark.frame < from + PIECE_FRAMES).map(|mark| {
            let bin = (mark.code >> 14).saturating_add(shift).saturating_sub(30).min(511);
            let distance = ((mark.code & 63) + later).saturating_sub(2).clamp(1, 63);
            Landmark { code: bin << 14 | mark.code & 0x3fc0 | distance, frame: start + mark.frame - from }
        }));
    }
    made
}

fn make_clip(track: &Path, start: f64, arguments: &[&str], has_noise: bool, into: &Path) -> Outcome<()> {
    let mut command = Command::new("ffmpeg");
    let (start, length) = (format!("{start}"), CLIP_SECONDS.to_string());
    command.args(["-v", "error", "-y", "-ss", &start, "-t", &length, "-i"]).arg(track);
    let noise;
    if has_noise {
        // Of amplitude 1 it has -14.3 dB in the mean.
        let level = 10_f64.powf((mean_volume(track, &start, &length)? - 5.0 + 14.3) / 20.0);
        noise = format!(
            "anoisesrc=color=pink:amplitude=1:seed=7[n];[n]volume={level}[q];[0:a][q]amix=duration=first:normalize=0,volume=0.5"
        );
        command.args(["-filter_complex", &noise]);
    }
    let status = command.args(arguments).arg(into).status()?;
    if status.success() { Ok(()) } else { Err("ffmpeg failed".into()) }
}

/// Returns the mean volume of a clip in dB.
fn mean_volume(track: &Path, start: &str, length: &str) -> Outcome<f64> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-ss", start, "-t", length, "-i"]).arg(track);
    let said = command.args(["-ac", "1", "-af", "volumedetect", "-f", "null", "-"]).output()?.stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    let volume = said.split("mean_volume:").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(volume.ok_or("ffmpeg says no volume")?.parse()?)
}

/// Returns the CPU time of this process, which has one thread.
fn cpu_time() -> Outcome<Duration> {
    let stat = fs::read_to_string("/proc/self/schedstat")?;
    Ok(Duration::from_nanos(stat.split_whitespace().next().ok_or("no time")?.parse()?))
}

fn resident_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no memory")?;
    Ok(line.split_whitespace().next().ok_or("no number")?.parse()?)
}
