//! A recording as it grows: the pages that are not stored yet, and which song began where. Knows neither the store nor the
//! session.

use bytes::Bytes;
use serde::Serialize;

use super::super::id::SessionId;
use super::super::metadata::Metadata;
use super::super::ogg::Muxer;
use s3::upload::MIN_PART_BYTES;

/// Songs that are listed.
const SONGS: usize = 2_000;
/// Characters of a title or an artist.
const TEXT: usize = 500;

/// A song in the list.
#[derive(Debug, PartialEq, Serialize)]
struct Song {
    /// Seconds from the recording's beginning.
    offset: f64,
    title: Option<String>,
    artist: Option<String>,
}

/// The recording.
pub struct Tape {
    session: SessionId,
    session_started: i64,
    started: i64,
    muxer: Option<Muxer>,
    pages: Vec<u8>,
    bytes: u64,
    songs: Vec<Song>,
}

/// What is stored beside it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Journal<'a> {
    session: SessionId,
    session_started: i64,
    started: i64,
    seconds: f64,
    bytes: u64,
    songs: &'a [Song],
}

impl Tape {
    /// Of a session that began at `session_started`, from `started` on.
    pub fn new(session: SessionId, session_started: i64, started: i64) -> Self {
        Self { session, session_started, started, muxer: None, pages: Vec::new(), bytes: 0, songs: Vec::new() }
    }

    /// Notes what is played from here on.
    pub fn song(&mut self, song: &Metadata) {
        let short = |text: &Option<String>| text.as_ref().map(|text| text.chars().take(TEXT).collect::<String>());
        let (offset, title, artist) = (self.seconds(), short(&song.title), short(&song.artist));
        let room = self.songs.len() < SONGS;
        match self.songs.last_mut() {
            Some(last) if last.title == title && last.artist == artist => {}
            // Nothing was heard of the one before.
            Some(last) if last.offset >= offset => (last.title, last.artist) = (title, artist),
            _ if room => self.songs.push(Song { offset, title, artist }),
            _ => {}
        }
    }

    /// Adds a frame; the first makes the heads too, which name the song of the beginning.
    pub fn audio(&mut self, frame: &Bytes) {
        let (songs, started) = (&self.songs, self.started);
        let muxer = self.muxer.get_or_insert_with(|| {
            let song = songs.first();
            let date = jiff::Timestamp::from_millisecond(started).map(|time| time.to_string()).ok();
            Muxer::new(&[
                ("TITLE", song.and_then(|song| song.title.as_deref())),
                ("ARTIST", song.and_then(|song| song.artist.as_deref())),
                ("DATE", date.as_deref()),
            ])
        });
        muxer.frame(frame);
        let pages = muxer.take();
        self.bytes += pages.len() as u64;
        self.pages.extend(pages);
    }

    /// Ends it.
    pub fn end(&mut self) {
        let Some(muxer) = &mut self.muxer else { return };
        muxer.end();
        let pages = muxer.take();
        self.bytes += pages.len() as u64;
        self.pages.extend(pages);
    }

    /// The next part, where there is a whole one.
    pub fn part(&mut self) -> Option<Bytes> {
        (self.pages.len() >= MIN_PART_BYTES).then(|| {
            let rest = self.pages.split_off(MIN_PART_BYTES);
            std::mem::replace(&mut self.pages, rest).into()
        })
    }

    /// What is left; empty where nothing was heard.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.pages).into()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long it plays.
    pub fn millis(&self) -> u64 {
        self.muxer.as_ref().map_or(0, Muxer::millis)
    }

    /// What is stored beside it.
    pub fn journal(&self) -> Bytes {
        let (session, session_started, started) = (self.session, self.session_started, self.started);
        let journal = Journal {
            session,
            session_started,
            started,
            seconds: self.seconds(),
            bytes: self.bytes,
            songs: &self.songs,
        };
        serde_json::to_vec(&journal).unwrap_or_default().into()
    }

    fn seconds(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "no recording lasts 285,000 years")]
        let millis = self.millis() as f64;
        millis / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::frame::{self, Codec, Head};
    use super::*;

    fn song(title: &str) -> Metadata {
        let song = json!({"title": title, "artist": "Artist", "thumbnailData": "/9j/4AAQ"});
        Metadata::from_json(song.to_string().as_bytes(), None, 0, &str::to_owned).expect("good metadata")
    }

    /// A second of packets of so many bytes.
    fn second(size: usize) -> Bytes {
        let mut packet = vec![0; size];
        packet[0] = 0xfc;
        let head = Head { codec: Codec::Opus, discontinuity: false, last: false, sequence: 0, time: 0, sample: 0 };
        frame::write(&head, vec![Bytes::from(packet); 50].iter())
    }

    #[test]
    fn songs_are_listed_by_where_they_begin() {
        let mut tape = Tape::new(SessionId::from_number(7), 1_000, 1_792_318_500_000);
        tape.song(&song("before any sound"));
        tape.song(&song("first"));
        tape.audio(&second(3));
        tape.song(&song("first"));
        tape.audio(&second(3));
        tape.song(&song("second"));
        tape.audio(&second(3));
        tape.end();
        let journal: Value = serde_json::from_slice(&tape.journal()).expect("it is JSON");
        let expected = json!({"session": "000007", "sessionStarted": 1_000, "started": 1_792_318_500_000_i64,
            "seconds": 2.92, "bytes": tape.bytes(), "songs": [{"offset": 0.0, "title": "first", "artist": "Artist"},
            {"offset": 1.92, "title": "second", "artist": "Artist"}]});
        assert_eq!(journal, expected);
        let rest = tape.rest();
        assert_eq!(rest.len() as u64, tape.bytes());
        let text = String::from_utf8_lossy(&rest);
        assert!(text.contains("TITLE=first") && text.contains("DATE=2026-10-18T"), "{text}");
    }

    #[test]
    fn parts_are_cut_when_they_are_whole() {
        let mut tape = Tape::new(SessionId::from_number(7), 0, 0);
        assert!(tape.rest().is_empty());
        tape.end();
        assert!(tape.rest().is_empty(), "nothing was heard");
        let mut parts = Vec::new();
        for _ in 0..200 {
            tape.audio(&second(1200));
            parts.extend(tape.part());
        }
        tape.end();
        assert!(parts.len() == 2 && parts.iter().all(|part| part.len() == MIN_PART_BYTES));
        let rest = tape.rest();
        assert_eq!((2 * MIN_PART_BYTES + rest.len()) as u64, tape.bytes());
    }
}
