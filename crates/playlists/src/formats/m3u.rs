//! Extended M3U: `#EXTINF` with length and title, `#EXTART` with the artist, `#PLAYLIST` with the name.

use super::location::{location_of_track, track_of_location};
use super::{Entry, FormatError, ParsedPlaylist, duration, plain};
use crate::playlist::Playlist;

/// Between artist and title in `#EXTINF`.
const SEPARATOR: &str = " - ";

/// Directives before an entry.
#[derive(Default)]
struct Directives {
    display: String,
    duration_ms: Option<u32>,
    artist: Option<String>,
}

/// Parses M3U; a text that is none has no entries, or such as name no track.
pub fn parse(text: &str) -> Result<ParsedPlaylist, FormatError> {
    let mut parsed = ParsedPlaylist::default();
    let mut directives = Directives::default();
    for line in text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        let Some(comment) = line.strip_prefix('#') else {
            parsed.push(std::mem::take(&mut directives).entry(line))?;
            continue;
        };
        let (name, value) = comment.split_once(':').unwrap_or((comment, ""));
        match name.trim() {
            "EXTINF" => directives.read_info(value),
            "EXTART" => directives.artist = Some(value.trim().to_owned()),
            "PLAYLIST" => parsed.name = plain(value).or(parsed.name),
            "EXT-X-TARGETDURATION" | "EXT-X-STREAM-INF" | "EXT-X-MEDIA-SEQUENCE" => return Err(FormatError::Hls),
            _ => {}
        }
    }
    Ok(parsed)
}

impl Directives {
    /// Reads `LENGTH [ATTRIBUTES],TITLE`; a comma may stand within the quotes of an attribute.
    fn read_info(&mut self, value: &str) {
        let mut is_quoted = false;
        let comma = value.find(|c| {
            is_quoted ^= c == '"';
            c == ',' && !is_quoted
        });
        let (info, display) = comma.map_or((value, ""), |at| (&value[..at], &value[at + 1..]));
        let seconds: Option<f64> = info.split_ascii_whitespace().next().and_then(|seconds| seconds.parse().ok());
        // Negative, zero and NaN stand for unknown: the cast makes zero of them.
        self.duration_ms = seconds.and_then(|seconds| duration((seconds * 1000.0).round() as u64));
        self.display = display.trim().to_owned();
    }

    fn entry(self, location: &str) -> Entry {
        let Self { display, duration_ms, artist } = self;
        let (artist, title) = match artist {
            Some(artist) => {
                let title = match display.strip_prefix(&artist).filter(|_| !artist.is_empty()) {
                    Some("") => "",
                    Some(rest) => rest.strip_prefix(SEPARATOR).unwrap_or(&display),
                    None => &display,
                };
                let title = title.to_owned();
                (artist, title)
            }
            None => match display.split_once(SEPARATOR) {
                Some((artist, title)) => (artist.to_owned(), title.to_owned()),
                None => (String::new(), display),
            },
        };
        Entry { track: track_of_location(location), title, artist, duration_ms }
    }
}

/// Returns the M3U of a playlist.
pub fn write(playlist: &Playlist) -> String {
    let mut file = format!("#EXTM3U\n#EXTENC:UTF-8\n#PLAYLIST:{}\n", playlist.head.name);
    for item in &playlist.items {
        let (artist, title) = (item.artist.as_deref().unwrap_or_default(), item.title.as_deref().unwrap_or_default());
        if item.duration_ms.is_some() || item.artist.is_some() || item.title.is_some() {
            let length = match item.duration_ms {
                None => "-1".to_owned(),
                Some(millis) if millis % 1000 == 0 => (millis / 1000).to_string(),
                Some(millis) => format!("{}.{:03}", millis / 1000, millis % 1000),
            };
            let separator = if artist.is_empty() || title.is_empty() { "" } else { SEPARATOR };
            // Even without an artist: a title may have a dash.
            file.push_str(&format!("#EXTINF:{length},{artist}{separator}{title}\n#EXTART:{artist}\n"));
        }
        file.push_str(&location_of_track(&item.track));
        file.push('\n');
    }
    file
}
