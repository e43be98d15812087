//! Files of playlists, pure: M3U (extended, UTF-8) and XSPF 1 (<https://xspf.org/spec>). Whatever the bytes, reading them ends,
//! takes no more memory than a few times the file, and never fails for a text that is odd: texts become plain lines, and entries
//! that name no track of this server are left out and told.

mod location;
mod m3u;
#[cfg(test)]
mod tests;
mod xspf;

use std::borrow::Cow;

use encoding_rs::WINDOWS_1252;

use crate::playlist::{MAX_DURATION_MILLIS, Playlist, PlaylistItem};
use primitives::ids::TrackId;
use primitives::markup::to_plain_line;

/// Longest text that is taken over from a file, in bytes; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 512;
/// Most entries of a file that are read: a longer file is refused whole.
const MAX_ENTRIES: usize = 100_000;

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistFormat {
    /// M3U with the media type of its own.
    M3u,
    /// The same as M3U8.
    M3u8,
    /// XSPF.
    Xspf,
}

/// Reason for which a file is no playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No text.
    #[error("it is neither M3U nor XSPF")]
    NotText,
    /// Not well-formed, or with a document type of its own.
    #[error("its XML cannot be read, or has a document type")]
    BadXml,
    /// XML of another kind.
    #[error("its XML is not XSPF: there is no `playlist`")]
    NotXspf,
    /// An HLS playlist, whose entries are parts of one track.
    #[error("it is an HLS playlist of one track, not a list of tracks")]
    Hls,
    /// Too many entries.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// Too many elements, of which few can be entries.
    #[error("it has too many elements of XML")]
    TooManyElements,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedPlaylist {
    /// Name of the playlist.
    pub name: Option<String>,
    /// What it says of itself.
    pub description: Option<String>,
    /// Tracks of this server.
    pub items: Vec<PlaylistItem>,
    /// Numbers of the entries that name none, from 1 on.
    pub skipped: Vec<usize>,
    entries: usize,
}

/// Entry as a file has it.
#[derive(Default)]
struct Entry {
    /// Track that its location names, if there is one.
    track: Option<TrackId>,
    title: String,
    artist: String,
    duration_ms: Option<u32>,
}

impl PlaylistFormat {
    /// Returns the format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "m3u" => Some(Self::M3u),
            "m3u8" => Some(Self::M3u8),
            "xspf" => Some(Self::Xspf),
            _ => None,
        }
    }

    /// Returns the media type of a file.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::M3u => "audio/x-mpegurl; charset=utf-8",
            Self::M3u8 => "application/vnd.apple.mpegurl; charset=utf-8",
            Self::Xspf => "application/xspf+xml",
        }
    }

    /// Returns the ending of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::M3u => "m3u",
            Self::M3u8 => "m3u8",
            Self::Xspf => "xspf",
        }
    }

    /// Returns the file of a playlist.
    pub fn write(self, playlist: &Playlist) -> String {
        match self {
            Self::M3u | Self::M3u8 => m3u::write(playlist),
            Self::Xspf => xspf::write(playlist),
        }
    }
}

/// Reads a file, whose format is told by its first character.
pub fn parse(bytes: &[u8]) -> Result<ParsedPlaylist, FormatError> {
    if bytes.contains(&0) {
        return Err(FormatError::NotText);
    }
    let text = to_text(bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('<') { xspf::parse(text) } else { m3u::parse(text) }
}

/// Returns the text of a file: UTF-8, else what old players write.
fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

impl ParsedPlaylist {
    fn push(&mut self, entry: Entry) -> Result<(), FormatError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(FormatError::TooManyEntries);
        }
        let Some(track) = entry.track else {
            self.skipped.push(self.entries);
            return Ok(());
        };
        let (title, artist) = (plain(&entry.title), plain(&entry.artist));
        self.items.push(PlaylistItem { track, title, artist, duration_ms: entry.duration_ms });
        Ok(())
    }
}

/// Returns a text of a file as one plain line that is not too long; `None` for an empty one.
fn plain(text: &str) -> Option<String> {
    plain_of(text, MAX_TEXT_BYTES)
}

/// Returns a text of a file as one plain line of at most `max` bytes; `None` for an empty one.
fn plain_of(text: &str, max: usize) -> Option<String> {
    let mut line = to_plain_line(text);
    line.truncate(line.floor_char_boundary(max));
    let line = line.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Returns a length of a track in milliseconds; `None` for one that the API would not take either, which stands for unknown.
fn duration(millis: u64) -> Option<u32> {
    u32::try_from(millis).ok().filter(|millis| (1..=MAX_DURATION_MILLIS).contains(millis))
}
