//! Texts of songs: their lines and words with times, and the formats in which they come. Pure: bytes in, values out, within
//! bounds of bytes.
//!
//! Every line is one line of plain text without control characters or markup, lines are in the order of their starts, and
//! the words of a line are its text. Formats: LRC and its "enhanced" words (`en.wikipedia.org/wiki/LRC_(file_format)`), SubRip,
//! and TTML (W3C "Timed Text Markup Language 2", with the roles and metadata of Apple's profile for songs).

mod budget;
mod decode;
mod lrc;
mod render;
mod srt;
#[cfg(test)]
mod tests;
mod times;
mod ttml;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use budget::{MAX_TEXT_BYTES, TextBudget};
pub use render::{to_lrc, to_plain};

/// Meaning of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextKind {
    /// As it is sung.
    #[default]
    Main,
    /// In another language.
    Translation,
    /// As it is pronounced, in other letters.
    Pronunciation,
}

/// Format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    /// TTML.
    Ttml,
    /// LRC with times of words.
    Elrc,
    /// LRC.
    Lrc,
    /// SubRip.
    Srt,
    /// Lines without times.
    Txt,
}

impl TextFormat {
    /// All formats, those that say most first.
    pub const ALL: [Self; 5] = [Self::Ttml, Self::Elrc, Self::Lrc, Self::Srt, Self::Txt];

    /// Returns the ending of a file's name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Ttml => "ttml",
            Self::Elrc => "elrc",
            Self::Lrc => "lrc",
            Self::Srt => "srt",
            Self::Txt => "txt",
        }
    }

    /// Returns the format that `text` seems to have; one without times is an LRC whose lines have none.
    pub fn detect(text: &str) -> Self {
        let text = text.trim_start();
        if text.starts_with("<?xml") || text.starts_with("<tt") {
            return Self::Ttml;
        }
        let head = || text.lines().take(16);
        match head().any(|line| line.contains("-->")) {
            true => Self::Srt,
            false => Self::Lrc,
        }
    }
}

/// Part of a line with a time of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LyricsWord {
    /// Milliseconds from the beginning of the track.
    pub start_ms: u32,
    /// End in milliseconds; null where the line's end is not known either.
    pub end_ms: Option<u32>,
    /// The text, with the blanks behind it.
    pub text: String,
}

/// Line of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LyricsLine {
    /// Milliseconds from the beginning of the track; null in a text without times.
    pub start_ms: Option<u32>,
    /// End in milliseconds; null where it is not known.
    pub end_ms: Option<u32>,
    /// One line of plain text; empty where nothing is sung.
    pub text: String,
    /// The parts of the text with their times, if there are any.
    pub words: Vec<LyricsWord>,
}

/// Text of a song in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LyricsText {
    /// Its meaning.
    pub kind: TextKind,
    /// Language (BCP 47), where it is known.
    pub lang: Option<String>,
    /// True if its lines have times.
    pub is_synced: bool,
    /// The lines, by their starts.
    pub lines: Vec<LyricsLine>,
}

impl LyricsText {
    /// Returns about the bytes that it occupies.
    pub fn size(&self) -> usize {
        let word = |word: &LyricsWord| size_of::<LyricsWord>() + word.text.len();
        let line =
            |line: &LyricsLine| size_of::<LyricsLine>() + line.text.len() + line.words.iter().map(word).sum::<usize>();
        size_of::<Self>() + self.lines.iter().map(line).sum::<usize>()
    }
}

/// All that a file of lyrics says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedLyrics {
    /// The texts, the main one first.
    pub texts: Vec<LyricsText>,
    /// Artist.
    pub artist: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// Album.
    pub album: Option<String>,
    /// Offset of the file in milliseconds, which the times contain already.
    pub offset_ms: i32,
}

/// Reason for which no text was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// More than the bounds allow.
    #[error("the text is too large: 256 KiB at most, and 5,000 lines with their words")]
    TooLarge,
    /// There is nothing in it.
    #[error("there is no line of text in it")]
    Empty,
    /// Not XML, or XML that is not read.
    #[error("it is no well-formed TTML: no document type and no entities of its own are read")]
    BadXml,
}

/// Parses a file; without `format` the format is found out. `lang` is the language, unless the file says so itself. What it
/// becomes is taken out of `budget`.
pub fn parse(
    bytes: &[u8],
    format: Option<TextFormat>,
    lang: Option<&str>,
    budget: &mut TextBudget,
) -> Result<ParsedLyrics, ParseError> {
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(ParseError::TooLarge);
    }
    let text = decode::to_text(bytes);
    let mut parsed = match format.unwrap_or_else(|| TextFormat::detect(&text)) {
        TextFormat::Ttml => ttml::parse(&text, budget)?,
        TextFormat::Elrc | TextFormat::Lrc => lrc::parse(&text, budget)?,
        TextFormat::Srt => srt::parse(&text, budget)?,
        TextFormat::Txt => lrc::parse_untimed(&text, budget)?,
    };
    parsed.texts.retain(|text| text.lines.iter().any(|line| !line.text.is_empty()));
    let main = parsed.texts.first_mut().ok_or(ParseError::Empty)?;
    main.lang = main.lang.take().or_else(|| lang.map(str::to_owned));
    Ok(parsed)
}

/// Returns true for a language tag (BCP 47): letters and digits in groups of 1 to 8, at most 35 bytes.
pub fn is_language(text: &str) -> bool {
    let is_group = |group: &str| (1..=8).contains(&group.len()) && group.bytes().all(|c| c.is_ascii_alphanumeric());
    let mut groups = text.split('-');
    let first = groups.next().unwrap_or_default();
    text.len() <= 35
        && (2..=8).contains(&first.len())
        && first.bytes().all(|c| c.is_ascii_alphabetic())
        && groups.all(is_group)
}
