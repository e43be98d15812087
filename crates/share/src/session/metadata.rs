//! Metadata of the song that a host plays, checked and written out once for everybody who asks.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use utoipa::ToSchema;

use crate::thumbnails::ThumbnailImage;
use primitives::unix_time::UnixMillis;

/// Time for which metadata is fresh after the host has sent it.
pub const METADATA_LIFE: Duration = Duration::from_secs(30);

/// Bytes of a title, and of an artist, at most.
const MAX_NAME_BYTES: usize = 1 << 10;
/// Bytes of lyrics at most: an hour of them has a tenth of that.
const MAX_LYRICS_BYTES: usize = 256 << 10;

/// Bytes of a cover's text at most: those of a whole request.
const MAX_COVER_BYTES: usize = 5 << 20;

/// Error in metadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The body is not the JSON of metadata.
    #[error(
        "expected JSON with title, artist, lyrics, hasSyncedLyrics, elapsedSeconds, totalSeconds, thumbnailData and timestamp: {0}"
    )]
    Json(String),
    /// A field is too long.
    #[error("{field} has at most {} KiB", .most >> 10)]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Bytes of it at most.
        most: usize,
    },
    /// A time is below zero, or no number.
    #[error("elapsedSeconds and totalSeconds must be 0 or more")]
    Time,
    /// The cover is not Base64.
    #[error("thumbnailData is neither Base64 nor null")]
    Thumbnail,
}

/// Function that makes of a cover's tag the text with which listeners ask for it.
pub type CoverSigner<'a> = &'a (dyn Fn(&str) -> String + Send + Sync);

/// Metadata as the document has it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = Song, example = json!({"title": "Song Title", "artist": "Artist Name", "lyrics": "[00:12.50]Lyrics line 1",
    "hasSyncedLyrics": true, "elapsedSeconds": 45.2, "totalSeconds": 180.5, "thumbnailData": null,
    "timestamp": 1_234_567_890_123_i64}))]
pub struct MetadataBody {
    /// Title.
    pub title: Option<String>,
    /// Artist.
    pub artist: Option<String>,
    /// Lyrics, as LRC where they are synced.
    pub lyrics: Option<String>,
    /// True where the lyrics have times.
    pub has_synced_lyrics: bool,
    /// Position of the host in the song, in seconds.
    pub elapsed_seconds: f64,
    /// Length of the song, in seconds.
    pub total_seconds: f64,
    /// Cover, a JPEG in Base64.
    pub thumbnail_data: Option<String>,
    /// Time of the host, in milliseconds.
    #[schema(value_type = i64)]
    pub timestamp: UnixMillis,
}

impl MetadataBody {
    /// Fails where a field is too long, or a time is none.
    fn check(&self) -> Result<(), MetadataError> {
        let is_time = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        if !is_time(self.elapsed_seconds) || !is_time(self.total_seconds) {
            return Err(MetadataError::Time);
        }
        let fields = [
            ("title", &self.title, MAX_NAME_BYTES),
            ("artist", &self.artist, MAX_NAME_BYTES),
            ("lyrics", &self.lyrics, MAX_LYRICS_BYTES),
        ];
        for (field, text, most) in fields {
            if text.as_ref().is_some_and(|text| text.len() > most) {
                return Err(MetadataError::TooLong { field, most });
            }
        }
        Ok(())
    }
}

/// Cover of a song.
#[derive(Debug)]
pub struct CoverImage {
    /// Picture in Base64, as it came.
    base64: String,
    /// Tag that changes with the picture.
    pub tag: String,
    /// Thumbnail, once somebody has asked for it.
    pub thumbnail: OnceCell<Option<ThumbnailImage>>,
}

impl CoverImage {
    /// Takes a picture in Base64. Fails for any other text.
    pub fn new(text: String) -> Result<Arc<Self>, MetadataError> {
        if text.len() > MAX_COVER_BYTES {
            return Err(MetadataError::TooLong { field: "thumbnailData", most: MAX_COVER_BYTES });
        }
        // Nothing that JSON would have to escape, so that it can be written out as it is.
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        if !text.bytes().all(is_base64) {
            return Err(MetadataError::Thumbnail);
        }
        let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(&text)[..16]);
        Ok(Arc::new(Self { base64: text, tag, thumbnail: OnceCell::new() }))
    }

    /// Returns the picture in Base64, as it came.
    pub fn base64(&self) -> &str {
        &self.base64
    }

    /// Returns the picture's bytes; `None` where its text is cut off in the middle.
    pub fn bytes(&self) -> Option<Bytes> {
        STANDARD.decode(&self.base64).ok().map(Bytes::from)
    }
}

/// Metadata of a song, written out.
#[derive(Debug)]
pub struct SongMetadata {
    /// Title.
    pub title: Option<String>,
    /// Artist.
    pub artist: Option<String>,
    /// Pushed message `{"type":"meta",…}`, without the cover.
    pub push_text: Arc<str>,
    /// Answer to a poll, without the cover.
    pub slim_json: Bytes,
    /// Cover.
    pub cover: Option<Arc<CoverImage>>,
    /// Entity tag of an answer.
    pub etag: String,
    /// Time until which it is shown.
    pub fresh_until: UnixMillis,
}

impl SongMetadata {
    /// Reads the document's JSON; a cover that is the same as that of `before` is not kept twice.
    pub fn from_json(
        body: &[u8],
        before: Option<&Self>,
        now: UnixMillis,
        cover: CoverSigner<'_>,
    ) -> Result<Self, MetadataError> {
        let song = serde_json::from_slice(body).map_err(|error| MetadataError::Json(error.to_string()))?;
        Self::from_body(song, before, now, cover)
    }

    fn from_body(
        mut song: MetadataBody,
        before: Option<&Self>,
        now: UnixMillis,
        cover: CoverSigner<'_>,
    ) -> Result<Self, MetadataError> {
        song.check()?;
        let text = song.thumbnail_data.take().filter(|text| !text.is_empty());
        let picture = text.map(|text| reuse_cover(text, before)).transpose()?;
        Ok(Self::render(song, picture, now + METADATA_LIFE, cover))
    }

    /// Reads metadata as `slim_json` has it, with this picture, shown until then.
    pub fn from_slim_json(
        slim: &[u8],
        picture: Option<Arc<CoverImage>>,
        until: UnixMillis,
        cover: CoverSigner<'_>,
    ) -> Result<Self, MetadataError> {
        let mut song: MetadataBody =
            serde_json::from_slice(slim).map_err(|error| MetadataError::Json(error.to_string()))?;
        // It comes through Redis, where anybody may have written it.
        song.check()?;
        song.thumbnail_data = None;
        Ok(Self::render(song, picture, until, cover))
    }

    /// Writes metadata out; `song` has no cover of its own.
    fn render(song: MetadataBody, picture: Option<Arc<CoverImage>>, until: UnixMillis, cover: CoverSigner<'_>) -> Self {
        let slim = serde_json::to_vec(&song).unwrap_or_default();
        let mut pushed = json!(song);
        pushed["type"] = json!("meta");
        pushed["thumb"] = json!(picture.as_ref().map(|picture| cover(&picture.tag)));
        let digest =
            Sha256::new().chain_update(&slim).chain_update(picture.as_ref().map_or("", |it| &it.tag)).finalize();
        Self {
            push_text: pushed.to_string().into(),
            etag: URL_SAFE_NO_PAD.encode(&digest[..16]),
            slim_json: slim.into(),
            cover: picture,
            title: song.title,
            artist: song.artist,
            fresh_until: until,
        }
    }

    /// Returns the metadata as it came, without the cover.
    pub fn to_body(&self) -> MetadataBody {
        serde_json::from_slice(&self.slim_json).unwrap_or_default()
    }

    /// Returns about how many bytes it has, with its cover or without.
    pub fn approximate_bytes(&self, with_picture: bool) -> usize {
        self.slim_json.len() + self.cover.as_ref().filter(|_| with_picture).map_or(0, |picture| picture.base64.len())
    }

    /// Returns the parts of an answer to a poll, to be sent one after the other.
    pub fn json_parts(&self, with_picture: bool) -> Vec<Bytes> {
        const FIELD: &[u8] = b"\"thumbnailData\":";
        let picture = self.cover.as_ref().filter(|_| with_picture);
        // The last one: a title may hold the same text.
        let at = memchr::memmem::rfind(&self.slim_json, FIELD).map(|at| at + FIELD.len());
        let (Some(picture), Some(at)) = (picture, at) else { return vec![self.slim_json.clone()] };
        let text = Bytes::from_owner(CoverText(Arc::clone(picture)));
        let (quote, rest) = (Bytes::from_static(b"\""), self.slim_json.slice(at + "null".len()..));
        vec![self.slim_json.slice(..at), quote.clone(), text, quote, rest]
    }
}

/// Base64 of a cover that is still in use.
struct CoverText(Arc<CoverImage>);

impl AsRef<[u8]> for CoverText {
    fn as_ref(&self) -> &[u8] {
        self.0.base64.as_bytes()
    }
}

fn reuse_cover(text: String, before: Option<&SongMetadata>) -> Result<Arc<CoverImage>, MetadataError> {
    let same = before.and_then(|before| before.cover.as_ref()).filter(|picture| picture.base64 == text);
    // Hosts send the cover with every change of the position; so its thumbnail is made once.
    same.map_or_else(|| CoverImage::new(text), |same| Ok(Arc::clone(same)))
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

    fn read(value: &Value, before: Option<&SongMetadata>) -> Result<SongMetadata, MetadataError> {
        SongMetadata::from_json(value.to_string().as_bytes(), before, UnixMillis::EPOCH, &|tag| format!("{tag}.signed"))
    }

    fn shown(metadata: &SongMetadata, with_picture: bool) -> Value {
        serde_json::from_slice(&metadata.json_parts(with_picture).concat()).expect("it is JSON")
    }

    #[test]
    fn what_was_sent_is_shown() {
        let metadata = read(&sent(), None).expect("good metadata");
        assert_eq!(shown(&metadata, true), sent());
        let mut slim = sent();
        slim["thumbnailData"] = Value::Null;
        assert_eq!(shown(&metadata, false), slim);
        assert_eq!(shown(&read(&slim, None).expect("good metadata"), true), slim);
        let pushed: Value = serde_json::from_str(&metadata.push_text).expect("it is JSON");
        assert_eq!((&pushed["type"], &pushed["title"]), (&json!("meta"), &sent()["title"]));
        assert!(!metadata.push_text.contains("/9j/4AAQ"));
        let tag = &metadata.cover.as_ref().expect("a cover").tag;
        assert_eq!(pushed["thumb"], format!("{tag}.signed"));
    }

    #[test]
    fn the_same_cover_is_kept_once() {
        let first = read(&sent(), None).expect("good metadata");
        let mut later = sent();
        later["elapsedSeconds"] = json!(45.7);
        let second = read(&later, Some(&first)).expect("good metadata");
        let (first_cover, second_cover) = (first.cover.expect("a cover"), second.cover.expect("a cover"));
        assert!(Arc::ptr_eq(&first_cover, &second_cover));
        assert_ne!(first.etag, second.etag);
        assert_eq!(first_cover.bytes().as_deref(), Some(&[0xff, 0xd8, 0xff, 0xe0, 0, 0x10][..]));
    }

    #[test]
    fn fields_may_be_missing_but_not_wrong() {
        assert!(read(&json!({"title": "Only a title"}), None).is_ok());
        for (key, value) in [("title", json!(7)), ("elapsedSeconds", json!("x")), ("hasSyncedLyrics", json!("yes"))] {
            let mut wrong = sent();
            wrong[key] = value;
            assert!(matches!(read(&wrong, None), Err(MetadataError::Json(_))), "{key}");
        }
        let mut wrong = sent();
        wrong["elapsedSeconds"] = json!(-1.0);
        assert_eq!(read(&wrong, None).err(), Some(MetadataError::Time));
        wrong = sent();
        wrong["thumbnailData"] = json!("<svg>");
        assert_eq!(read(&wrong, None).err(), Some(MetadataError::Thumbnail));
        assert!(matches!(
            SongMetadata::from_json(b"[]x", None, UnixMillis::EPOCH, &str::to_owned),
            Err(MetadataError::Json(_))
        ));
    }
}
