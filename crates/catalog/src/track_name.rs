//! Names of tracks for people, by their keys: `artist/album/01 title.mp3`.

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
    use super::TrackName;

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
