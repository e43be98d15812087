//! Bodies and queries of requests, checked.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::sources::LyricsSource;
use crate::text::{self, MAX_TEXT_BYTES, ParsedLyrics, TextBudget, TextFormat, TextKind, is_language};
use crate::track_lyrics::{SongQuery, TrackLyrics};
use primitives::markup::has_markup;
use server_kit::api::error::Error;

/// Longest name of an artist, a title or an album, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Most texts.
const MAX_TEXTS: usize = 8;
/// Styles of SubRip, which are no text and are left out.
const SRT_STYLES: [&str; 8] = ["<i>", "</i>", "<b>", "</b>", "<u>", "</u>", "<font", "</font>"];

/// Lyrics to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "texts": [{ "kind": "main", "lang": "en", "format": "lrc", "text": "[00:12.50]First line" }],
    "artist": "Ada", "title": "Prelude" }))]
pub struct LyricsRequest {
    /// At most eight texts, of which one is the main one; none where nothing is sung.
    #[serde(default)]
    texts: Vec<TextRequest>,
    /// True: nothing is sung.
    #[serde(default)]
    instrumental: bool,
    /// Artist, at most 256 bytes of plain text.
    artist: Option<String>,
    /// Title, likewise.
    title: Option<String>,
    /// Album, likewise.
    album: Option<String>,
}

/// A text to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TextRequest {
    /// Its meaning. Default: the main text.
    #[serde(default)]
    kind: TextKind,
    /// Language (BCP 47).
    lang: Option<String>,
    /// Its format. Default: it is found out.
    format: Option<TextFormat>,
    /// The text, at most 256 KiB.
    text: String,
}

/// Query without parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// Query of a search.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// The artist, 1 to 256 bytes.
    artist: String,
    /// The song's title, 1 to 256 bytes.
    song: String,
}

impl LyricsRequest {
    /// Returns the lyrics of the request.
    pub fn lyrics(self) -> Result<TrackLyrics, Error> {
        if self.texts.len() > MAX_TEXTS {
            return Err(Error::unprocessable(format!(
                "`texts` has {} texts; expected {MAX_TEXTS} at most",
                self.texts.len()
            )));
        }
        let mains = self.texts.iter().filter(|text| text.kind == TextKind::Main).count();
        match (self.instrumental, mains) {
            (true, _) if !self.texts.is_empty() => {
                return Err(Error::unprocessable(
                    "`instrumental` is true and there are `texts`; expected one of the two",
                ));
            }
            (true, _) | (false, 1) => {}
            (false, _) => return Err(Error::unprocessable("`texts` must have one text of the kind `main`")),
        }
        let [artist, title, album] = [("artist", self.artist), ("title", self.title), ("album", self.album)]
            .map(|(name, text)| text.map(|text| plain_name(name, text)).transpose());
        let mut budget = TextBudget::default();
        let mut parsed = self.texts.into_iter().map(|text| text.parse(&mut budget)).collect::<Result<Vec<_>, _>>()?;
        parsed.sort_by_key(|parsed| parsed.texts.first().is_none_or(|text| text.kind != TextKind::Main));
        let mut parsed = parsed.into_iter();
        let mut all = parsed.next().unwrap_or_default();
        all.texts.extend(parsed.flat_map(|other| other.texts));
        all.texts.truncate(MAX_TEXTS);
        let lyrics = TrackLyrics::from_parsed(all, LyricsSource::Edited);
        let name = |given: Option<String>, tag: Option<String>| given.or(tag.filter(|tag| tag.len() <= MAX_NAME_BYTES));
        Ok(TrackLyrics {
            instrumental: self.instrumental,
            artist: name(artist?, lyrics.artist),
            title: name(title?, lyrics.title),
            album: name(album?, lyrics.album),
            ..lyrics
        })
    }
}

impl TextRequest {
    fn parse(self, budget: &mut TextBudget) -> Result<ParsedLyrics, Error> {
        let Self { kind, lang, format, text } = self;
        if lang.as_deref().is_some_and(|lang| !is_language(lang)) {
            return Err(Error::unprocessable("`lang` must be a language tag such as `en` or `ja-Latn`"));
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::unprocessable(format!(
                "`text` has {} bytes; expected {MAX_TEXT_BYTES} at most",
                text.len()
            )));
        }
        let format = format.unwrap_or_else(|| TextFormat::detect(&text));
        let has_tags = match format {
            TextFormat::Ttml => false,
            TextFormat::Srt => has_markup(&SRT_STYLES.iter().fold(text.clone(), |text, style| text.replace(style, ""))),
            TextFormat::Lrc | TextFormat::Elrc | TextFormat::Txt => has_markup(&text),
        };
        if has_tags {
            return Err(Error::unprocessable("`text` has markup; expected plain text"));
        }
        let parsed = text::parse(text.as_bytes(), Some(format), lang.as_deref(), budget);
        let mut parsed = parsed.map_err(|error| Error::unprocessable(format!("`text` cannot be read: {error}")))?;
        if kind != TextKind::Main {
            // Its own main text is what it is sent as; other texts in it belong to no main text of theirs.
            parsed.texts.truncate(1);
        }
        if let Some(first) = parsed.texts.first_mut() {
            first.kind = kind;
        }
        Ok(parsed)
    }
}

impl SearchQuery {
    /// Returns the song that is searched for.
    pub fn song(self) -> Result<SongQuery, Error> {
        let Self { artist, song } = self;
        let (artist, title) = (plain_name("artist", artist)?, plain_name("song", song)?);
        Ok(SongQuery { artist, title, album: None, duration: None })
    }
}

/// Returns a name: one line of plain text, without blanks around it.
fn plain_name(name: &str, text: String) -> Result<String, Error> {
    let refused = |problem: String| Err(Error::unprocessable(format!("`{name}` {problem}")));
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.len() > MAX_NAME_BYTES {
        return refused(format!("has {} bytes; expected 1 to {MAX_NAME_BYTES}", trimmed.len()));
    }
    if trimmed.chars().any(char::is_control) {
        return refused("has control characters; expected one line of plain text".to_owned());
    }
    if has_markup(trimmed) {
        return refused("has markup; expected plain text".to_owned());
    }
    Ok(trimmed.to_owned())
}
