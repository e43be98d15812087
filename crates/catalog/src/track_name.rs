//! Names and kinds of tracks for people, by their keys: `artist/album/01 title.mp3`, `Audiobooks/author/book.m4b`.

use serde::Serialize;
use utoipa::ToSchema;

/// Title, artist and album as a key has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackName {
    /// Title: the last part of the key, without its ending and its number.
    pub title: String,
    /// Artist: the folder above the album's, or the only one.
    pub artist: Option<String>,
    /// Album: the folder that the object is in, where there is one above it.
    pub album: Option<String>,
}

impl TrackName {
    /// Reads the name off a key.
    pub fn of_key(key: &str) -> Self {
        let mut parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
        let file = parts.pop().unwrap_or(key);
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| if stem.is_empty() { file } else { stem });
        let folder = |part: Option<&&str>| part.map(|part| words(part));
        let (artist, album) = match parts.as_slice() {
            [.., artist, album] => (folder(Some(artist)), folder(Some(album))),
            [artist] => (folder(Some(artist)), None),
            [] => (None, None),
        };
        Self { title: words(without_number(stem)), artist, album }
    }
}

/// What a track is to a listener: positions are kept under these names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListeningKind {
    /// A piece of music.
    #[default]
    Audio,
    /// A book.
    Audiobook,
    /// An episode.
    Podcast,
}

/// Endings of files that hold audiobooks: those of Apple and of Audible.
const AUDIOBOOK_ENDINGS: [&str; 3] = ["m4b", "aax", "aa"];
/// Media types of the same.
const AUDIOBOOK_TYPES: [&str; 4] = ["audio/x-m4b", "audio/m4b", "audio/vnd.audible.aax", "audio/audible"];

impl ListeningKind {
    /// Reads the kind off a track: its ending or media type, or a folder of the key with the name of a kind, in any case.
    pub fn of_track(key: &str, content_type: Option<&str>) -> Self {
        let (folders, file) = key.rsplit_once('/').unwrap_or(("", key));
        let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
        let is_any_of = |text: &str, names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if is_any_of(ending, &AUDIOBOOK_ENDINGS) || is_any_of(essence, &AUDIOBOOK_TYPES) {
            return Self::Audiobook;
        }
        let named = |folder: &str| match folder {
            folder if is_any_of(folder, &["audiobooks", "audiobook"]) => Some(Self::Audiobook),
            folder if is_any_of(folder, &["podcasts", "podcast"]) => Some(Self::Podcast),
            _ => None,
        };
        folders.split('/').find_map(named).unwrap_or_default()
    }
}

/// Takes the number of a track off the beginning of its title: two or three digits and what separates them.
fn without_number(stem: &str) -> &str {
    let digits = stem.bytes().take_while(u8::is_ascii_digit).count();
    let title = stem[digits..].trim_start_matches(['.', '-', '_', ' ']);
    let is_number = (2..=3).contains(&digits) && title.len() < stem.len() - digits && !title.is_empty();
    if is_number { title } else { stem }
}

/// Returns a name as words: hyphens and underscores are blanks where it has no blanks.
fn words(name: &str) -> String {
    if name.contains(' ') {
        return name.to_owned();
    }
    let words = name.split(['-', '_']).filter(|word| !word.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    });
    let words = words.collect::<Vec<_>>().join(" ");
    if words.is_empty() { name.to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::{ListeningKind, TrackName};

    #[test]
    fn a_folder_an_ending_or_a_media_type_gives_the_kind() {
        let table = [
            ("Ada/Sea/01 Prelude.mp3", None, ListeningKind::Audio),
            ("Ada/Podcast.mp3", None, ListeningKind::Audio),
            ("Ada/Sea.M4B", None, ListeningKind::Audiobook),
            ("Ada/Sea", Some("audio/x-m4b; charset=x"), ListeningKind::Audiobook),
            ("audiobooks/Ada/Sea/01.mp3", Some("audio/mpeg"), ListeningKind::Audiobook),
            ("media/Podcasts/Tides/Episode 1.mp3", None, ListeningKind::Podcast),
            ("Podcasts", None, ListeningKind::Audio),
        ];
        for (key, content_type, kind) in table {
            assert_eq!(ListeningKind::of_track(key, content_type), kind, "{key}");
        }
    }

    #[test]
    fn a_key_gives_title_artist_and_album() {
        let table = [
            ("low-tide.wav", "Low Tide", None, None),
            ("Ada/Sea/01 Prelude.mp3", "Prelude", Some("Ada"), Some("Sea")),
            ("Ada/02 - Night_ferry.flac", "Night Ferry", Some("Ada"), None),
            ("a/b/c/1999.mp3", "1999", Some("B"), Some("C")),
            ("tracks/7.mp3", "7", Some("Tracks"), None),
            ("99 Luftballons.mp3", "Luftballons", None, None),
            ("Käse/.hidden", ".hidden", Some("Käse"), None),
            ("-", "-", None, None),
            ("/", "/", None, None),
        ];
        for (key, title, artist, album) in table {
            let name = TrackName::of_key(key);
            assert_eq!((&*name.title, name.artist.as_deref(), name.album.as_deref()), (title, artist, album), "{key}");
        }
    }
}
