//! Lyrics of a track, as they are kept and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sources::LyricsSource;
use crate::sources::embedded::TrackTags;
use crate::text::{LyricsText, ParsedLyrics};

/// Lyrics of a track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackLyrics {
    /// Artist.
    pub artist: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// Album.
    pub album: Option<String>,
    /// Length of the track in milliseconds.
    pub duration_ms: Option<u64>,
    /// True where nothing is sung.
    pub instrumental: bool,
    /// Offset of the file in milliseconds, which the times contain already.
    pub offset_ms: i32,
    /// The texts, the main one first.
    pub texts: Vec<LyricsText>,
    /// Where they are from.
    pub source: LyricsSource,
    /// Page about the song.
    pub link: Option<String>,
}

/// Names of a song, by which services find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SongQuery {
    /// Artist.
    pub artist: String,
    /// Title.
    pub title: String,
    /// Album.
    pub album: Option<String>,
    /// Length of the track.
    pub duration: Option<Duration>,
}

impl TrackLyrics {
    /// Lyrics that were read from a file.
    pub fn from_parsed(parsed: ParsedLyrics, source: LyricsSource) -> Self {
        let ParsedLyrics { texts, artist, title, album, offset_ms } = parsed;
        Self { artist, title, album, duration_ms: None, instrumental: false, offset_ms, texts, source, link: None }
    }

    /// Returns about the bytes that they occupy.
    pub fn size(&self) -> usize {
        let names = [&self.artist, &self.title, &self.album, &self.link];
        let names: usize = names.into_iter().flatten().map(String::len).sum();
        size_of::<Self>() + names + self.texts.iter().map(LyricsText::size).sum::<usize>()
    }

    /// The same, with the names of the track's tags where there are none.
    pub fn with_names(mut self, tags: &TrackTags) -> Self {
        self.artist = self.artist.or_else(|| tags.artist.clone());
        self.title = self.title.or_else(|| tags.title.clone());
        self.album = self.album.or_else(|| tags.album.clone());
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).ok();
        self.duration_ms = self.duration_ms.or_else(|| tags.duration.and_then(millis));
        self
    }
}

impl SongQuery {
    /// Returns the names that a track's tags give it, or else its file's name, `Artist - Title.mp3`.
    pub fn of_track(tags: Option<&TrackTags>, key: &str) -> Option<Self> {
        let tags = tags.cloned().unwrap_or_default();
        let (album, duration) = (tags.album, tags.duration);
        if let (Some(artist), Some(title)) = (tags.artist, tags.title) {
            return Some(Self { artist, title, album, duration });
        }
        let name = key.rsplit('/').next()?;
        let (artist, title) = name.rsplit_once('.')?.0.split_once(" - ")?;
        let (artist, title) = (artist.trim().to_owned(), title.trim().to_owned());
        (!artist.is_empty() && !title.is_empty()).then_some(Self { artist, title, album, duration })
    }
}
