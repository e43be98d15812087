//! Tags: ID3v2 (USLT, SYLT and TXXX), Vorbis comments, MP4 and APE items.

use std::borrow::Cow;
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use lofty::aac::AacFile;
use lofty::config::ParseOptions;
use lofty::file::{AudioFile, FileType, TaggedFileExt};
use lofty::flac::FlacFile;
use lofty::id3::v2::{Frame, Id3v2Tag, SyncTextContentType, SynchronizedTextFrame, TimestampFormat};
use lofty::iff::aiff::AiffFile;
use lofty::iff::wav::WavFile;
use lofty::mpeg::MpegFile;

use lofty::ogg::{OpusFile, SpeexFile, VorbisComments, VorbisFile};
use lofty::probe::Probe;
use lofty::tag::{Accessor, ItemKey};

use super::SparseReader;
use crate::text::{self, MAX_TEXT_BYTES, ParsedLyrics, TextBudget, TextKind};
use primitives::markup::to_plain_line;

/// Most texts of one file.
const MAX_TEXTS: usize = 8;
/// Longest name of an artist, title or album, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// Names under which tags have lyrics, those with times first; `USLT` is a TXXX frame of ffmpeg.
const NAMES: [&str; 5] = ["SYNCEDLYRICS", "LYRICS", "UNSYNCEDLYRICS", "UNSYNCED LYRICS", "USLT"];

/// Tags of a track, as far as lyrics need them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackTags {
    /// Artist.
    pub artist: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// Album.
    pub album: Option<String>,
    /// Length of the track.
    pub duration: Option<Duration>,
    /// The lyrics.
    pub lyrics: Option<ParsedLyrics>,
}

/// Languages of ISO 639-2 that have a shorter code, which is the tag's (RFC 5646 §2.2.1): those that files mostly have.
const SHORT_LANGUAGES: [(&str, &str); 22] = [
    ("ara", "ar"),
    ("ces", "cs"),
    ("chi", "zh"),
    ("deu", "de"),
    ("eng", "en"),
    ("fra", "fr"),
    ("fre", "fr"),
    ("ger", "de"),
    ("heb", "he"),
    ("hin", "hi"),
    ("ita", "it"),
    ("jpn", "ja"),
    ("kor", "ko"),
    ("nld", "nl"),
    ("pol", "pl"),
    ("por", "pt"),
    ("rus", "ru"),
    ("spa", "es"),
    ("swe", "sv"),
    ("tur", "tr"),
    ("ukr", "uk"),
    ("zho", "zh"),
];

/// A text in a tag, with its language (ISO 639-2).
type TaggedText<'a> = (Cow<'a, str>, Option<[u8; 3]>);

/// Reads the tags of a file.
pub fn read(file: &mut SparseReader) -> Option<TrackTags> {
    read_with(file, ParseOptions::new().read_cover_art(false))
}

/// Reads the tags of a file, and neither its length nor anything else for which its sound must be read.
pub fn read_without_properties(file: &mut SparseReader) -> Option<TrackTags> {
    read_with(file, ParseOptions::new().read_cover_art(false).read_properties(false))
}

fn read_with(file: &mut SparseReader, options: ParseOptions) -> Option<TrackTags> {
    let kind = Probe::new(&mut *file).guess_file_type().ok()?.file_type()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    match kind {
        FileType::Mpeg => id3(MpegFile::read_from(file, options).ok()?, |file| file.id3v2()),
        FileType::Aac => id3(AacFile::read_from(file, options).ok()?, |file| file.id3v2()),
        FileType::Wav => id3(WavFile::read_from(file, options).ok()?, |file| file.id3v2()),
        FileType::Aiff => id3(AiffFile::read_from(file, options).ok()?, |file| file.id3v2()),
        FileType::Flac => comments(FlacFile::read_from(file, options).ok()?, |file| file.vorbis_comments()),
        FileType::Vorbis => comments(VorbisFile::read_from(file, options).ok()?, |file| Some(file.vorbis_comments())),
        FileType::Opus => comments(OpusFile::read_from(file, options).ok()?, |file| Some(file.vorbis_comments())),
        FileType::Speex => comments(SpeexFile::read_from(file, options).ok()?, |file| Some(file.vorbis_comments())),
        kind => any(file, kind, options),
    }
}

/// Files with ID3v2; those without have perhaps another tag, which names the song.
fn id3<F>(file: F, tag: impl Fn(&F) -> Option<&Id3v2Tag>) -> Option<TrackTags>
where
    F: AudioFile,
    F::Properties: Into<lofty::properties::FileProperties> + Clone,
{
    let duration = duration(&file);
    let Some(tag) = tag(&file) else { return Some(TrackTags { duration, ..TrackTags::default() }) };
    let lyrics = synchronized(tag).or_else(|| {
        let described = NAMES.iter().filter_map(|name| Some((Cow::Borrowed(user_text(tag, name)?), None)));
        let unsynchronized = tag.unsync_text().map(|frame| (Cow::Borrowed(&*frame.content), Some(frame.language)));
        lyrics(described.chain(unsynchronized))
    });
    Some(TrackTags { lyrics, ..names(tag, duration) })
}

fn comments<F>(file: F, tag: impl Fn(&F) -> Option<&VorbisComments>) -> Option<TrackTags>
where
    F: AudioFile,
    F::Properties: Into<lofty::properties::FileProperties> + Clone,
{
    let duration = duration(&file);
    let Some(tag) = tag(&file) else { return Some(TrackTags { duration, ..TrackTags::default() }) };
    let texts = NAMES.iter().filter_map(|name| Some((Cow::Borrowed(tag.get(name)?), None)));
    Some(TrackTags { lyrics: lyrics(texts), ..names(tag, duration) })
}

fn any(file: &mut SparseReader, kind: FileType, options: ParseOptions) -> Option<TrackTags> {
    let file = Probe::with_file_type(file, kind).options(options).read().ok()?;
    let duration = Some(file.properties().duration()).filter(|duration| !duration.is_zero());
    let Some(tag) = file.primary_tag().or_else(|| file.first_tag()) else {
        return Some(TrackTags { duration, ..TrackTags::default() });
    };
    let keys = [ItemKey::Lyrics, ItemKey::UnsyncLyrics];
    let texts = keys.iter().filter_map(|key| Some((Cow::Borrowed(tag.get_string(*key)?), None)));
    Some(TrackTags { lyrics: lyrics(texts), ..names(tag, duration) })
}

fn duration<F>(file: &F) -> Option<Duration>
where
    F: AudioFile,
    F::Properties: Into<lofty::properties::FileProperties> + Clone,
{
    let properties: lofty::properties::FileProperties = file.properties().clone().into();
    Some(properties.duration()).filter(|duration| !duration.is_zero())
}

fn names(tag: &impl Accessor, duration: Option<Duration>) -> TrackTags {
    let name = |text: Option<Cow<'_, str>>| {
        let text = to_plain_line(&text?);
        (!text.is_empty() && text.len() <= MAX_NAME_BYTES).then_some(text)
    };
    let (artist, title, album) = (name(tag.artist()), name(tag.title()), name(tag.album()));
    TrackTags { artist, title, album, duration, lyrics: None }
}

/// Reads texts, of which the first is the main one and those in other languages are translations.
fn lyrics<'a>(texts: impl Iterator<Item = TaggedText<'a>>) -> Option<ParsedLyrics> {
    let (mut found, mut budget) = (None::<ParsedLyrics>, TextBudget::default());
    for (text, lang) in texts.filter(|(text, _)| text.len() <= MAX_TEXT_BYTES).take(MAX_TEXTS) {
        let lang = lang.and_then(language);
        let Ok(parsed) = text::parse(text.as_bytes(), None, lang.as_deref(), &mut budget) else { continue };
        match &mut found {
            None => found = Some(parsed),
            Some(known) => {
                let is_other = lang.is_some() && known.texts.iter().all(|text| text.lang != lang);
                let texts = parsed.texts.into_iter().take(usize::from(is_other));
                known.texts.extend(texts.map(|text| text::LyricsText { kind: TextKind::Translation, ..text }));
            }
        }
    }
    found
}

/// The text under a name of somebody's own, which taggers write in capitals or not.
fn user_text<'a>(tag: &'a Id3v2Tag, name: &str) -> Option<&'a str> {
    tag.into_iter().find_map(|frame| match frame {
        Frame::UserText(frame) if frame.description.eq_ignore_ascii_case(name) => Some(&*frame.content),
        _ => None,
    })
}

/// Reads the first frame of synchronized lyrics, as LRC: each of its parts may begin a line or be a part of one.
fn synchronized(tag: &Id3v2Tag) -> Option<ParsedLyrics> {
    let frames = tag.into_iter().filter_map(|frame| match frame {
        Frame::Binary(frame) if frame.id().as_str() == "SYLT" => {
            SynchronizedTextFrame::parse(&frame.data, frame.flags()).ok()
        }
        _ => None,
    });
    let mut frames = frames.filter(|frame| {
        let is_lyrics =
            matches!(frame.content_type, SyncTextContentType::Lyrics | SyncTextContentType::TextTranscription);
        is_lyrics && frame.timestamp_format == TimestampFormat::MS
    });
    let frame = frames.next()?;
    let (lrc, lang) = (sylt_as_lrc(&frame.content), language(frame.language));
    text::parse(lrc.as_bytes(), Some(text::TextFormat::Lrc), lang.as_deref(), &mut TextBudget::default()).ok()
}

/// Writes the parts of a SYLT frame as LRC. A part that begins with a line end, and the first one, begins a line (ID3v2.4 §4.9);
/// where none does, each is a line.
fn sylt_as_lrc(parts: &[(u32, String)]) -> String {
    let begins = |text: &str| text.starts_with(['\n', '\r']);
    let has_parts = parts.iter().skip(1).any(|(_, text)| begins(text));
    let mut lrc = String::new();
    for (millis, text) in parts {
        let (minutes, seconds) = (millis / 60_000, millis / 1000 % 60);
        let time = format!("{minutes:02}:{seconds:02}.{:03}", millis % 1000);
        let plain = text.replace(['\n', '\r', '<', '>'], " ");
        if has_parts && !begins(text) && !lrc.is_empty() {
            lrc.push_str(&format!("<{time}>{plain}"));
        } else if has_parts {
            lrc.push_str(&format!("\n[{time}]<{time}>{}", plain.trim_start()));
        } else {
            lrc.push_str(&format!("\n[{time}]{plain}"));
        }
        if lrc.len() > MAX_TEXT_BYTES {
            break;
        }
    }
    lrc
}

/// Returns a language of ISO 639-2 as a tag; `None` for `XXX`, which stands for an unknown one, and for what is none.
fn language(code: [u8; 3]) -> Option<String> {
    let text = std::str::from_utf8(&code).ok()?.to_ascii_lowercase();
    if !text::is_language(&text) || matches!(&*text, "xxx" | "und" | "zxx") {
        return None;
    }
    let short = SHORT_LANGUAGES.iter().find(|(long, _)| *long == text).map(|(_, short)| (*short).to_owned());
    Some(short.unwrap_or(text))
}
