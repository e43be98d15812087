//! What a host says of the song, checked and written out once for everybody who asks.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use utoipa::ToSchema;

use super::cover::Shown;

/// How long metadata is shown after the host has sent it, in milliseconds.
pub const LIFE: i64 = 30_000;

/// Bytes of a title, and of an artist, at most.
const NAME: usize = 1 << 10;
/// Bytes of lyrics at most: an hour of them has a tenth of that.
const LYRICS: usize = 256 << 10;

/// What is wrong with metadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMetadata {
    /// Not the JSON that it should be.
    #[error(
        "expected JSON with title, artist, lyrics, hasSyncedLyrics, elapsedSeconds, totalSeconds, thumbnailData and timestamp: {0}"
    )]
    Json(String),
    /// More than fits.
    #[error("{field} has at most {} KiB", .most >> 10)]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its bytes at most.
        most: usize,
    },
    /// Not a time.
    #[error("elapsedSeconds and totalSeconds must be 0 or more")]
    Time,
    /// Not Base64.
    #[error("thumbnailData is neither Base64 nor null")]
    Thumbnail,
}

/// Makes of a cover's tag what listeners are told of it.
pub type Cover<'a> = &'a (dyn Fn(&str) -> String + Send + Sync);

/// The document's metadata.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(example = json!({"title": "Song Title", "artist": "Artist Name", "lyrics": "[00:12.50]Lyrics line 1",
    "hasSyncedLyrics": true, "elapsedSeconds": 45.2, "totalSeconds": 180.5, "thumbnailData": null,
    "timestamp": 1_234_567_890_123_i64}))]
pub struct Song {
    /// The title.
    pub title: Option<String>,
    /// The artist.
    pub artist: Option<String>,
    /// Lyrics, as LRC where they are synced.
    pub lyrics: Option<String>,
    /// Whether the lyrics have times.
    pub has_synced_lyrics: bool,
    /// Where in the song the host is.
    pub elapsed_seconds: f64,
    /// How long the song is.
    pub total_seconds: f64,
    /// The cover, a JPEG in Base64.
    pub thumbnail_data: Option<String>,
    /// The host's time, in milliseconds.
    pub timestamp: i64,
}

/// A cover.
#[derive(Debug)]
pub struct Picture {
    /// Base64, as it came.
    text: String,
    /// Changes with the picture.
    pub tag: String,
    /// What is shown of it, once somebody has asked.
    pub shown: OnceCell<Option<Shown>>,
}

impl Picture {
    /// A picture in Base64.
    pub fn new(text: String) -> Result<Arc<Self>, BadMetadata> {
        // Nothing that JSON would have to escape, so that it can be written out as it is.
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        if !text.bytes().all(is_base64) {
            return Err(BadMetadata::Thumbnail);
        }
        let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(&text)[..16]);
        Ok(Arc::new(Self { text, tag, shown: OnceCell::new() }))
    }

    /// Base64, as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The picture; `None` where its text is cut off in the middle.
    pub fn bytes(&self) -> Option<Bytes> {
        STANDARD.decode(&self.text).ok().map(Bytes::from)
    }
}

/// Metadata, written out.
#[derive(Debug)]
pub struct Metadata {
    /// The title.
    pub title: Option<String>,
    /// The artist.
    pub artist: Option<String>,
    /// Everything but the cover, as pushed text `{"type":"meta",…}`.
    pub pushed: Utf8Bytes,
    /// The answer to a poll, without the cover.
    pub slim: Bytes,
    /// The cover.
    pub picture: Option<Arc<Picture>>,
    /// Entity tag of an answer.
    pub tag: String,
    /// Until when it is shown, in milliseconds.
    pub until: i64,
}

impl Metadata {
    /// Reads the document's JSON; a cover that is the same as that of `before` is not kept twice. `cover` makes of a
    /// cover's tag what listeners are told.
    pub fn from_json(body: &[u8], before: Option<&Self>, now: i64, cover: Cover<'_>) -> Result<Self, BadMetadata> {
        let song = serde_json::from_slice(body).map_err(|error| BadMetadata::Json(error.to_string()))?;
        Self::new(song, before, now, cover)
    }

    fn new(mut song: Song, before: Option<&Self>, now: i64, cover: Cover<'_>) -> Result<Self, BadMetadata> {
        let is_time = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        if !is_time(song.elapsed_seconds) || !is_time(song.total_seconds) {
            return Err(BadMetadata::Time);
        }
        let fields = [("title", &song.title, NAME), ("artist", &song.artist, NAME), ("lyrics", &song.lyrics, LYRICS)];
        for (field, text, most) in fields {
            if text.as_ref().is_some_and(|text| text.len() > most) {
                return Err(BadMetadata::TooLong { field, most });
            }
        }
        let text = song.thumbnail_data.take().filter(|text| !text.is_empty());
        let picture = text.map(|text| picture(text, before)).transpose()?;
        Ok(Self::written(song, picture, now + LIFE, cover))
    }

    /// Reads `slim` of another one, with this picture, shown until then.
    pub fn from_slim(
        slim: &[u8],
        picture: Option<Arc<Picture>>,
        until: i64,
        cover: Cover<'_>,
    ) -> Result<Self, BadMetadata> {
        let song = serde_json::from_slice(slim).map_err(|error| BadMetadata::Json(error.to_string()))?;
        Ok(Self::written(song, picture, until, cover))
    }

    /// `song` has no picture of its own.
    fn written(song: Song, picture: Option<Arc<Picture>>, until: i64, cover: Cover<'_>) -> Self {
        let slim = serde_json::to_vec(&song).unwrap_or_default();
        let mut pushed = json!(song);
        pushed["type"] = json!("meta");
        pushed["thumb"] = json!(picture.as_ref().map(|picture| cover(&picture.tag)));
        let digest =
            Sha256::new().chain_update(&slim).chain_update(picture.as_ref().map_or("", |it| &it.tag)).finalize();
        Self {
            pushed: pushed.to_string().into(),
            tag: URL_SAFE_NO_PAD.encode(&digest[..16]),
            slim: slim.into(),
            picture,
            title: song.title,
            artist: song.artist,
            until,
        }
    }

    /// What it was made from, without the picture.
    pub fn song(&self) -> Song {
        serde_json::from_slice(&self.slim).unwrap_or_default()
    }

    /// About how many bytes it has, with its picture or without.
    pub fn size(&self, with_picture: bool) -> usize {
        self.slim.len() + self.picture.as_ref().filter(|_| with_picture).map_or(0, |picture| picture.text.len())
    }

    /// The parts of a poll's answer, to be sent one after the other.
    pub fn parts(&self, with_picture: bool) -> Vec<Bytes> {
        const FIELD: &[u8] = b"\"thumbnailData\":";
        let picture = self.picture.as_ref().filter(|_| with_picture);
        let at = memchr::memmem::rfind(&self.slim, FIELD).map(|at| at + FIELD.len());
        let (Some(picture), Some(at)) = (picture, at) else { return vec![self.slim.clone()] };
        let text = Bytes::from_owner(Text(Arc::clone(picture)));
        let (quote, rest) = (Bytes::from_static(b"\""), self.slim.slice(at + "null".len()..));
        vec![self.slim.slice(..at), quote.clone(), text, quote, rest]
    }
}

/// The Base64 of a picture that is still in use.
struct Text(Arc<Picture>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

fn picture(text: String, before: Option<&Metadata>) -> Result<Arc<Picture>, BadMetadata> {
    let same = before.and_then(|before| before.picture.as_ref()).filter(|picture| picture.text == text);
    same.map_or_else(|| Picture::new(text), |same| Ok(Arc::clone(same)))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sent() -> Value {
        json!({"title": "A \"thumbnailData\":null title", "artist": "Artist", "lyrics": "[00:12.50]Line\n[00:15.80]Next",
            "hasSyncedLyrics": true, "elapsedSeconds": 45.2, "totalSeconds": 180.5, "thumbnailData": "/9j/4AAQ",
            "timestamp": 1_234_567_890_123_i64})
    }

    fn read(value: &Value, before: Option<&Metadata>) -> Result<Metadata, BadMetadata> {
        Metadata::from_json(value.to_string().as_bytes(), before, 0, &|tag| format!("{tag}.signed"))
    }

    fn shown(metadata: &Metadata, with_picture: bool) -> Value {
        serde_json::from_slice(&metadata.parts(with_picture).concat()).expect("it is JSON")
    }

    #[test]
    fn what_was_sent_is_shown() {
        let metadata = read(&sent(), None).expect("good metadata");
        assert_eq!(shown(&metadata, true), sent());
        let mut slim = sent();
        slim["thumbnailData"] = Value::Null;
        assert_eq!(shown(&metadata, false), slim);
        assert_eq!(shown(&read(&slim, None).expect("good metadata"), true), slim);
        let pushed: Value = serde_json::from_str(&metadata.pushed).expect("it is JSON");
        assert_eq!((&pushed["type"], &pushed["title"]), (&json!("meta"), &sent()["title"]));
        assert!(!metadata.pushed.contains("/9j/4AAQ"));
        let tag = &metadata.picture.as_ref().expect("a cover").tag;
        assert_eq!(pushed["thumb"], format!("{tag}.signed"));
    }

    #[test]
    fn the_same_cover_is_kept_once() {
        let first = read(&sent(), None).expect("good metadata");
        let mut later = sent();
        later["elapsedSeconds"] = json!(45.7);
        let second = read(&later, Some(&first)).expect("good metadata");
        let (first_cover, second_cover) = (first.picture.expect("a cover"), second.picture.expect("a cover"));
        assert!(Arc::ptr_eq(&first_cover, &second_cover));
        assert_ne!(first.tag, second.tag);
        assert_eq!(first_cover.bytes().as_deref(), Some(&[0xff, 0xd8, 0xff, 0xe0, 0, 0x10][..]));
    }

    #[test]
    fn fields_may_be_missing_but_not_wrong() {
        assert!(read(&json!({"title": "Only a title"}), None).is_ok());
        for (key, value) in [("title", json!(7)), ("elapsedSeconds", json!("x")), ("hasSyncedLyrics", json!("yes"))] {
            let mut wrong = sent();
            wrong[key] = value;
            assert!(matches!(read(&wrong, None), Err(BadMetadata::Json(_))), "{key}");
        }
        let mut wrong = sent();
        wrong["elapsedSeconds"] = json!(-1.0);
        assert_eq!(read(&wrong, None).err(), Some(BadMetadata::Time));
        wrong = sent();
        wrong["thumbnailData"] = json!("<svg>");
        assert_eq!(read(&wrong, None).err(), Some(BadMetadata::Thumbnail));
        assert!(matches!(Metadata::from_json(b"[]x", None, 0, &str::to_owned), Err(BadMetadata::Json(_))));
    }
}
