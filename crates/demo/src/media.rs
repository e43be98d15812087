//! The demo's media: sample music made on the first run, and the list of what the folder holds.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use flac_codec::encode::{FlacSampleWriter, Options};
use serde::Serialize;

use http_semantics::media_type;

use super::score::{SONGS, Song};
use super::synth::{RATE, StereoFrame, render};

/// Folders below the bucket's that are looked into for dropped-in files: `artist/album/disc/track` and one more.
const DEPTH: usize = 5;

/// An audio file of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AudioFile {
    /// The object's key.
    pub key: String,
    /// Title: the file's name without its ending.
    pub title: String,
    /// Its media type, by its ending.
    pub media_type: &'static str,
    /// Its length in bytes.
    pub size: u64,
}

/// Makes the sample music that `folder` (a bucket's) does not have yet, and reports each piece to `progress`. Files
/// that are there are left alone.
///
/// # Errors
/// A file cannot be written; the message names it.
pub fn generate_samples(folder: &Path, progress: impl FnMut(&str)) -> io::Result<()> {
    prepare_songs(folder, &SONGS, progress)
}

fn prepare_songs(folder: &Path, songs: &[Song], mut progress: impl FnMut(&str)) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|error| with_path(folder, error))?;
    std::thread::scope(|threads| {
        let mut writing = Vec::new();
        for song in songs {
            let path = folder.join(song.file);
            if path.try_exists().map_err(|error| with_path(&path, error))? {
                continue;
            }
            progress(&format!("Making sample music: {} ({}, {:.0} s)", song.title, song.file, song.seconds()));
            // A thread for each: somebody waits for the first start.
            writing.push(threads.spawn(move || write(song, &path).map_err(|error| with_path(&path, error))));
        }
        let crashed = || io::Error::other("the maker of sample music crashed");
        writing.into_iter().try_for_each(|song| song.join().map_err(|_| crashed())?)
    })
}

/// Returns the audio files of `folder` whose keys have at most five segments, sorted by key. Links are not followed.
///
/// # Errors
/// The folder cannot be read; the message names it.
pub fn tracks(folder: &Path) -> io::Result<Vec<AudioFile>> {
    let mut found = Vec::new();
    collect(folder, "", DEPTH, &mut found).map_err(|error| with_path(folder, error))?;
    found.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(found)
}

fn collect(folder: &Path, above: &str, depth: usize, found: &mut Vec<AudioFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let key = format!("{above}{name}");
        // Of the entry itself: links are passed over, since linked folders may go round.
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 1 {
            collect(&entry.path(), &format!("{key}/"), depth - 1, found)?;
        } else if kind.is_file()
            && let Some(media_type) = media_type::from_key_extension(&key).filter(|kind| kind.starts_with("audio/"))
        {
            let title = title(&name);
            found.push(AudioFile { title, media_type, size: entry.metadata()?.len(), key });
        }
    }
    Ok(())
}

/// Returns a file's name as a title: no ending, and words where it has hyphens only.
fn title(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    if stem.contains(' ') {
        return stem.to_owned();
    }
    let words = stem.split(['-', '_']).filter(|word| !word.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Writes a song beside its place and moves it there when it is whole, so that a run that was broken off leaves none.
fn write(song: &Song, path: &Path) -> io::Result<()> {
    let frames = render(song);
    let unfinished = PathBuf::from(format!("{}.unfinished", path.display()));
    let mut out = BufWriter::new(File::create(&unfinished)?);
    if song.file.ends_with(".flac") {
        write_flac(song, &frames, &mut out)?;
    } else {
        write_wav(&frames, &mut out)?;
    }
    out.flush()?;
    drop(out);
    fs::rename(&unfinished, path)
}

/// Returns the samples of both sides in turn, 16 bits each.
fn samples(frames: &[StereoFrame]) -> impl Iterator<Item = i16> {
    // Frames are between −1 and 1, so the cast only drops what rounding left.
    frames.iter().flatten().map(|sample| (sample * f32::from(i16::MAX)).round() as i16)
}

/// Writes a RIFF WAVE file of linear PCM: 44 bytes and the samples.
fn write_wav(frames: &[StereoFrame], out: &mut impl Write) -> io::Result<()> {
    const CHANNELS: u16 = 2;
    const FRAME_BYTES: u16 = CHANNELS * 2;
    let data = u32::try_from(frames.len() * usize::from(FRAME_BYTES)).map_err(io::Error::other)?;
    out.write_all(b"RIFF")?;
    // The bytes behind this field: the rest of the headers, and the samples.
    out.write_all(&(36 + data).to_le_bytes())?;
    out.write_all(b"WAVEfmt ")?;
    // Bytes of the format chunk, then format 1: linear PCM.
    out.write_all(&16_u32.to_le_bytes())?;
    out.write_all(&1_u16.to_le_bytes())?;
    out.write_all(&CHANNELS.to_le_bytes())?;
    out.write_all(&RATE.to_le_bytes())?;
    out.write_all(&(RATE * u32::from(FRAME_BYTES)).to_le_bytes())?;
    out.write_all(&FRAME_BYTES.to_le_bytes())?;
    // Bits of a sample.
    out.write_all(&16_u16.to_le_bytes())?;
    out.write_all(b"data")?;
    out.write_all(&data.to_le_bytes())?;
    samples(frames).try_for_each(|sample| out.write_all(&sample.to_le_bytes()))
}

/// Writes a FLAC file, with a table of seek points every five seconds.
fn write_flac(song: &Song, frames: &[StereoFrame], out: &mut (impl Write + Seek)) -> io::Result<()> {
    // A sixth larger than the default makes it, in a third of the time: somebody is waiting for it.
    let options = Options::fast().block_size(4096).map_err(io::Error::other)?;
    let options = options.seektable_seconds(5).tag("TITLE", song.title).tag("ARTIST", "Tidegate");
    let total = u64::try_from(frames.len() * 2).ok();
    let mut writer = FlacSampleWriter::new_cdda(out, options, total).map_err(io::Error::other)?;
    let samples: Vec<i32> = samples(frames).map(i32::from).collect();
    writer.write(&samples).map_err(io::Error::other)?;
    writer.finalize().map_err(io::Error::other)
}

fn with_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use flac_codec::decode::FlacSampleReader;
    use tempfile::TempDir;

    use super::super::score::SONGS;
    use super::{prepare_songs, title, tracks};

    #[test]
    fn samples_are_whole_files_of_their_kind_and_are_made_once() {
        let folder = TempDir::new().unwrap();
        let songs = [SONGS[0].clone().shortened(), SONGS[2].clone().shortened()];
        let mut said = Vec::new();
        prepare_songs(folder.path(), &songs, |step| said.push(step.to_owned())).unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("Low Tide"), "{said:?}");

        let wav = fs::read(folder.path().join("low-tide.wav")).unwrap();
        let number = |at: usize| u32::from_le_bytes(wav[at..at + 4].try_into().unwrap());
        assert_eq!((&wav[..4], &wav[8..16], &wav[36..40]), (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..]));
        assert_eq!((number(4) as usize, number(40) as usize), (wav.len() - 8, wav.len() - 44));
        assert_eq!(number(20), 2 << 16 | 1, "PCM, two channels");
        assert_eq!((number(24), number(28), number(32)), (44_100, 176_400, 16 << 16 | 4));

        let flac = fs::File::open(folder.path().join("night-ferry.flac")).unwrap();
        let mut reader = FlacSampleReader::new(std::io::BufReader::new(flac)).unwrap();
        let mut samples = Vec::new();
        reader.read_to_end(&mut samples).unwrap();
        assert_eq!(samples.len(), (songs[1].seconds() * 44_100.0) as usize * 2);
        assert!(samples.iter().any(|sample| sample.abs() > 15_000), "it is silent");

        fs::write(folder.path().join("low-tide.wav"), b"mine").unwrap();
        prepare_songs(folder.path(), &songs, |step| panic!("made again: {step}")).unwrap();
        assert_eq!(fs::read(folder.path().join("low-tide.wav")).unwrap(), b"mine");
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.count(), 2, "nothing unfinished is left");
    }

    #[test]
    fn dropped_in_audio_is_listed_with_its_key_and_other_files_are_not() {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("Artist/Album")).unwrap();
        for file in ["Artist/Album/01 Käse.mp3", "b_side.ogg", "cover.jpg", "notes.txt", "half.wav.unfinished"] {
            fs::write(folder.path().join(file), b"abc").unwrap();
        }
        let found = tracks(folder.path()).unwrap();
        let shown: Vec<_> = found.iter().map(|track| (track.key.as_str(), track.title.as_str(), track.size)).collect();
        assert_eq!(shown, [("Artist/Album/01 Käse.mp3", "01 Käse", 3), ("b_side.ogg", "B Side", 3)]);
        assert!(found.iter().all(|track| track.media_type.starts_with("audio/")), "{found:?}");
        let missing = tracks(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing"), "{missing}");
    }

    #[test]
    fn titles_are_words() {
        for (name, expected) in [("low-tide.wav", "Low Tide"), ("A b-c.mp3", "A b-c"), ("x.tar.gz", "X.tar"), ("-", "")]
        {
            assert_eq!(title(name), expected, "{name}");
        }
    }
}
