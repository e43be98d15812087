//! Lyrics of a song.

use http::Method;
use serde::Deserialize;

use super::encode;
use crate::command::CommandName;
use crate::conversation::{Asker, Reply};
use crate::user_api::{ApiRefusal, ApiRequest};

/// Results of a search.
#[derive(Deserialize)]
struct Results {
    results: Vec<Lyrics>,
}

/// Lyrics that were found.
#[derive(Deserialize)]
struct Lyrics {
    artist: Option<String>,
    title: Option<String>,
    instrumental: bool,
    plain: Option<String>,
}

/// Finds the lyrics of `ARTIST - SONG`, or of an artist of one word and a song.
pub async fn find(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let texts = asker.texts();
    let parted = [" - ", " — ", " – "].into_iter().find_map(|dash| argument.split_once(dash));
    let Some((artist, song)) = parted.or_else(|| argument.split_once(char::is_whitespace)) else {
        return Ok(Reply::text(texts.usage_of(CommandName::Lyrics)));
    };
    let (artist, song) = (encode(artist.trim()), encode(song.trim()));
    let path = format!("/api/v1/lyrics/search?artist={artist}&song={song}");
    let found = asker.send(ApiRequest::new(Method::GET, path)).await.read::<Results>()?.results;
    let Some(lyrics) = found.into_iter().next() else { return Ok(Reply::text(texts.no_lyrics)) };
    let name = [lyrics.artist, lyrics.title].into_iter().flatten().collect::<Vec<_>>().join(" — ");
    Ok(Reply::text(match (lyrics.plain, lyrics.instrumental) {
        (Some(plain), _) => format!("{name}\n\n{plain}"),
        (None, true) => format!("{name}\n\n{}", texts.instrumental),
        (None, false) => texts.no_lyrics.to_owned(),
    }))
}
