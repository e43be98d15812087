//! LRCLIB (`lrclib.net/docs`): a record by the names and the length of a track, else by a search.

use std::time::Duration;

use serde::Deserialize;

use super::SourceFailure;
use super::remote::RemoteService;
use super::titles::are_same;
use crate::sources::LyricsSource;
use crate::text::{self, TextBudget, TextFormat};
use crate::track_lyrics::{SongQuery, TrackLyrics};
use primitives::markup::to_plain_line;

/// Lengths within which LRCLIB takes a length, in seconds.
const LENGTHS: std::ops::RangeInclusive<u64> = 1..=3600;
/// Most records of a search that are read: LRCLIB gives 20.
const MAX_RECORDS: usize = 20;
/// Difference of lengths of the same recording, in seconds.
const TOLERANCE: f64 = 2.0;

/// A record.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LrclibRecord {
    track_name: Option<String>,
    artist_name: Option<String>,
    album_name: Option<String>,
    duration: Option<f64>,
    #[serde(default)]
    instrumental: bool,
    plain_lyrics: Option<String>,
    synced_lyrics: Option<String>,
}

/// Finds the lyrics of a track; `None` where there are none.
pub async fn find(service: &RemoteService, query: &SongQuery) -> Result<Option<TrackLyrics>, SourceFailure> {
    let seconds =
        query.duration.map(|duration| duration.as_secs_f64().round() as u64).filter(|it| LENGTHS.contains(it));
    let seconds_text = seconds.map(|seconds| seconds.to_string());
    let mut names = vec![("track_name", &*query.title), ("artist_name", &*query.artist)];
    names.extend(query.album.as_deref().map(|album| ("album_name", album)));
    names.extend(seconds_text.as_deref().map(|seconds| ("duration", seconds)));
    if let Some(found) = service.get("api/get", &names, lyrics).await?.flatten() {
        return Ok(Some(found));
    }
    let found = search(service, query).await?;
    Ok(found.into_iter().find(|lyrics| query.duration.is_none_or(|length| is_near(lyrics.duration_ms, length))))
}

/// Searches for a song; the results have its title and artist, those with times first.
pub async fn search(service: &RemoteService, query: &SongQuery) -> Result<Vec<TrackLyrics>, SourceFailure> {
    let names = [("track_name", &*query.title), ("artist_name", &*query.artist)];
    let wanted = query.clone();
    let read = move |records: Vec<LrclibRecord>| {
        let records = records.into_iter().take(MAX_RECORDS).filter_map(lyrics);
        let mut found: Vec<_> = records.filter(|lyrics| is_song(lyrics, &wanted)).collect();
        found.sort_by_key(|lyrics| !lyrics.texts.iter().any(|text| text.is_synced));
        found
    };
    Ok(service.get("api/search", &names, read).await?.unwrap_or_default())
}

fn is_song(lyrics: &TrackLyrics, query: &SongQuery) -> bool {
    let is = |name: &Option<String>, wanted: &str| name.as_deref().is_some_and(|name| are_same(name, wanted));
    is(&lyrics.title, &query.title) && is(&lyrics.artist, &query.artist)
}

fn is_near(found: Option<u64>, length: Duration) -> bool {
    found.is_some_and(|found| (found as f64 / 1000.0 - length.as_secs_f64()).abs() <= TOLERANCE)
}

/// Returns the lyrics of a record; `None` where it has none that can be read.
fn lyrics(record: LrclibRecord) -> Option<TrackLyrics> {
    let name = |text: Option<String>| text.map(|text| to_plain_line(&text)).filter(|text| !text.is_empty());
    let text = |text: &Option<String>, format| {
        text::parse(text.as_ref()?.as_bytes(), Some(format), None, &mut TextBudget::default()).ok()
    };
    let parsed = match record.instrumental {
        true => None,
        false => text(&record.synced_lyrics, TextFormat::Lrc).or_else(|| text(&record.plain_lyrics, TextFormat::Txt)),
    };
    let millis =
        |seconds: f64| (seconds.is_finite() && (0.0..1e6).contains(&seconds)).then_some((seconds * 1000.0) as u64);
    if parsed.is_none() && !record.instrumental {
        return None;
    }
    let parsed = parsed.unwrap_or_default();
    Some(TrackLyrics {
        artist: name(record.artist_name),
        title: name(record.track_name),
        album: name(record.album_name),
        duration_ms: record.duration.and_then(millis),
        instrumental: record.instrumental,
        offset_ms: parsed.offset_ms,
        texts: parsed.texts,
        source: LyricsSource::Lrclib,
        link: None,
    })
}
