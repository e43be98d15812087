//! Buffer of a recording: the pages that are not stored yet, and the song at each time. Knows neither the store nor the
//! session.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::audio::ogg::OggMuxer;
use crate::session::id::SessionId;
use crate::session::metadata::SongMetadata;
use primitives::unix_time::UnixMillis;
use s3::upload::MIN_PART_BYTES;

/// Songs that are listed.
const MAX_SONGS: usize = 2_000;
/// Characters of a title or an artist.
const MAX_TEXT_CHARS: usize = 500;

/// Song in the index.
#[derive(Debug, PartialEq, Serialize)]
struct RecordedSong {
    /// Seconds from the recording's beginning.
    offset: f64,
    title: Option<String>,
    artist: Option<String>,
}

/// Recording as it grows.
pub struct RecordingBuffer {
    session: SessionId,
    session_started: UnixMillis,
    started: UnixMillis,
    muxer: Option<OggMuxer>,
    pages: Vec<u8>,
    bytes: u64,
    songs: Vec<RecordedSong>,
}

/// Index that is stored beside the recording.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordingIndex<'a> {
    session: SessionId,
    session_started: UnixMillis,
    started: UnixMillis,
    seconds: f64,
    bytes: u64,
    songs: &'a [RecordedSong],
}

impl RecordingBuffer {
    /// Creates the buffer of a session that began at `session_started`, for a recording from `started` on.
    pub fn new(session: SessionId, session_started: UnixMillis, started: UnixMillis) -> Self {
        Self { session, session_started, started, muxer: None, pages: Vec::new(), bytes: 0, songs: Vec::new() }
    }

    /// Notes the song that is played from here on.
    pub fn note_song(&mut self, song: &SongMetadata) {
        // The index stays small whatever a host sends.
        let short =
            |text: &Option<String>| text.as_ref().map(|text| text.chars().take(MAX_TEXT_CHARS).collect::<String>());
        let (offset, title, artist) = (self.seconds(), short(&song.title), short(&song.artist));
        let room = self.songs.len() < MAX_SONGS;
        match self.songs.last_mut() {
            Some(last) if last.title == title && last.artist == artist => {}
            // Nothing was heard of the one before.
            Some(last) if last.offset >= offset => (last.title, last.artist) = (title, artist),
            _ if room => self.songs.push(RecordedSong { offset, title, artist }),
            _ => {}
        }
    }

    /// Adds a frame; the first makes the stream's headers too, which name the song of the beginning.
    pub fn append_frame(&mut self, frame: &Bytes) {
        let (songs, started) = (&self.songs, self.started);
        let muxer = self.muxer.get_or_insert_with(|| {
            let song = songs.first();
            let date = jiff::Timestamp::from_millisecond(started.as_millis()).map(|time| time.to_string()).ok();
            OggMuxer::new(&[
                ("TITLE", song.and_then(|song| song.title.as_deref())),
                ("ARTIST", song.and_then(|song| song.artist.as_deref())),
                ("DATE", date.as_deref()),
            ])
        });
        muxer.write_frame(frame);
        let pages = muxer.take_pages();
        self.bytes += pages.len() as u64;
        self.pages.extend(pages);
    }

    /// Ends the stream.
    pub fn finish(&mut self) {
        let Some(muxer) = &mut self.muxer else { return };
        muxer.finish();
        let pages = muxer.take_pages();
        self.bytes += pages.len() as u64;
        self.pages.extend(pages);
    }

    /// Returns the next part, where there is a whole one.
    pub fn take_part(&mut self) -> Option<Bytes> {
        (self.pages.len() >= MIN_PART_BYTES).then(|| {
            let rest = self.pages.split_off(MIN_PART_BYTES);
            std::mem::replace(&mut self.pages, rest).into()
        })
    }

    /// Returns the pages that are left; empty where nothing was heard.
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.pages).into()
    }

    /// Returns the bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how long the recording plays.
    pub fn played(&self) -> Duration {
        self.muxer.as_ref().map_or(Duration::ZERO, OggMuxer::played)
    }

    /// Returns the index as JSON.
    pub fn index(&self) -> Bytes {
        let (session, session_started, started) = (self.session, self.session_started, self.started);
        let index = RecordingIndex {
            session,
            session_started,
            started,
            seconds: self.seconds(),
            bytes: self.bytes,
            songs: &self.songs,
        };
        serde_json::to_vec(&index).unwrap_or_default().into()
    }

    fn seconds(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "no recording lasts 285,000 years")]
        let millis = self.played().as_millis() as f64;
        millis / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::audio::frame::{self, Codec, FrameHeader};
    use primitives::unix_time::UnixMicros;

    fn song(title: &str) -> SongMetadata {
        let song = json!({"title": title, "artist": "Artist", "thumbnailData": "/9j/4AAQ"});
        SongMetadata::from_json(song.to_string().as_bytes(), None, UnixMillis::EPOCH, &str::to_owned)
            .expect("good metadata")
    }

    /// A second of packets of so many bytes.
    fn second(size: usize) -> Bytes {
        let mut packet = vec![0; size];
        packet[0] = 0xfc;
        let head = FrameHeader {
            codec: Codec::Opus,
            discontinuity: false,
            ends_epoch: false,
            sequence: 0,
            server_time: UnixMicros::EPOCH,
            sample_time: 0,
        };
        frame::encode(&head, vec![Bytes::from(packet); 50].iter())
    }

    #[test]
    fn songs_are_listed_by_where_they_begin() {
        let mut buffer =
            RecordingBuffer::new(SessionId::from_number(7), UnixMillis::new(1_000), UnixMillis::new(1_792_318_500_000));
        buffer.note_song(&song("before any sound"));
        buffer.note_song(&song("first"));
        buffer.append_frame(&second(3));
        buffer.note_song(&song("first"));
        buffer.append_frame(&second(3));
        buffer.note_song(&song("second"));
        buffer.append_frame(&second(3));
        buffer.finish();
        let index: Value = serde_json::from_slice(&buffer.index()).expect("it is JSON");
        let expected = json!({"session": "000007", "sessionStarted": 1_000, "started": 1_792_318_500_000_i64,
            "seconds": 2.92, "bytes": buffer.bytes(), "songs": [{"offset": 0.0, "title": "first", "artist": "Artist"},
            {"offset": 1.92, "title": "second", "artist": "Artist"}]});
        assert_eq!(index, expected);
        let rest = buffer.take_rest();
        assert_eq!(rest.len() as u64, buffer.bytes());
        let text = String::from_utf8_lossy(&rest);
        assert!(text.contains("TITLE=first") && text.contains("DATE=2026-10-18T"), "{text}");
    }

    #[test]
    fn parts_are_cut_when_they_are_whole() {
        let mut buffer = RecordingBuffer::new(SessionId::from_number(7), UnixMillis::EPOCH, UnixMillis::EPOCH);
        assert!(buffer.take_rest().is_empty());
        buffer.finish();
        assert!(buffer.take_rest().is_empty(), "nothing was heard");
        let mut parts = Vec::new();
        for _ in 0..200 {
            buffer.append_frame(&second(1200));
            parts.extend(buffer.take_part());
        }
        buffer.finish();
        assert!(parts.len() == 2 && parts.iter().all(|part| part.len() == MIN_PART_BYTES));
        let rest = buffer.take_rest();
        assert_eq!((2 * MIN_PART_BYTES + rest.len()) as u64, buffer.bytes());
    }
}
