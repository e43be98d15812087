//! Genius (`docs.genius.com`): the names of a song and the link to its page. Its API has no lyrics, and pages are not read.

use serde::Deserialize;
use url::Url;

use super::SourceFailure;
use super::remote::RemoteService;
use super::titles::are_same;
use crate::sources::LyricsSource;
use crate::track_lyrics::{SongQuery, TrackLyrics};
use primitives::markup::to_plain_line;

/// Longest link, in bytes.
const MAX_LINK_BYTES: usize = 2048;

#[derive(Debug, Deserialize)]
struct GeniusAnswer {
    response: GeniusResponse,
}

#[derive(Debug, Deserialize)]
struct GeniusResponse {
    #[serde(default)]
    hits: Vec<GeniusHit>,
}

#[derive(Debug, Deserialize)]
struct GeniusHit {
    result: GeniusSong,
}

#[derive(Debug, Deserialize)]
struct GeniusSong {
    title: Option<String>,
    url: Option<String>,
    primary_artist: Option<GeniusArtist>,
}

#[derive(Debug, Deserialize)]
struct GeniusArtist {
    name: Option<String>,
}

/// Searches for a song; the results have its title and artist.
pub async fn search(service: &RemoteService, query: &SongQuery) -> Result<Vec<TrackLyrics>, SourceFailure> {
    let words = format!("{} {}", query.artist, query.title);
    let wanted = query.clone();
    let read = move |answer: GeniusAnswer| {
        answer.response.hits.into_iter().filter_map(|hit| song(hit.result, &wanted)).collect()
    };
    Ok(service.get("search", &[("q", &words)], read).await?.unwrap_or_default())
}

fn song(song: GeniusSong, query: &SongQuery) -> Option<TrackLyrics> {
    let (title, artist) = (to_plain_line(&song.title?), to_plain_line(&song.primary_artist?.name?));
    let is_song = are_same(&title, &query.title) && are_same(&artist, &query.artist);
    let link = is_song.then(|| link(&song.url?))??;
    Some(TrackLyrics {
        artist: Some(artist),
        title: Some(title),
        album: None,
        duration_ms: None,
        instrumental: false,
        offset_ms: 0,
        texts: Vec::new(),
        source: LyricsSource::Genius,
        link: Some(link),
    })
}

/// Returns a link that a page may show: https, to a page of Genius.
fn link(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.as_str().len() <= MAX_LINK_BYTES)?;
    let is_genius = url.host_str().is_some_and(|host| host == "genius.com" || host.ends_with(".genius.com"));
    (is_genius && url.username().is_empty() && url.password().is_none()).then(|| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_genius_are_linked() {
        assert_eq!(
            link("https://genius.com/Ada-prelude-lyrics").as_deref(),
            Some("https://genius.com/Ada-prelude-lyrics")
        );
        for text in [
            "http://genius.com/x",
            "javascript:alert(1)",
            "https://genius.com.evil.example/",
            "https://evilgenius.com/",
            "https://genius.com@evil.example/",
            "https://user@genius.com/",
            "//genius.com/x",
        ] {
            assert_eq!(link(text), None, "{text}");
        }
    }
}
