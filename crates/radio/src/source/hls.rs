//! HLS stations as one stream of bytes: the playlist is read again and again, and its new segments one after another. Sound
//! comes as it is in packed audio, and is taken out of MPEG transport streams.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use primitives::clock::monotonic_now;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::SourceError;
use super::client::{ResponseBody, StationClient, StationLink};
use super::intake_pace::IntakePace;
use super::playlist::{HlsSegments, Playlist, parse_playlist};
use super::transport_stream::SegmentReader;

/// Largest playlist, in bytes: an hour of segments of six seconds.
pub const MAX_PLAYLIST_BYTES: usize = 256 * 1024;
/// Largest segment, in bytes: a minute at 2 Mbit/s.
const MAX_SEGMENT_BYTES: usize = 16 << 20;
/// Least time between two requests for segments, which may be anybody's addresses.
const SEGMENT_INTERVAL: Duration = Duration::from_millis(200);
/// Segments before the end at which a listener begins (RFC 8216 §6.3.3).
const BEGIN_BEFORE_END: usize = 3;

/// Stream of an HLS station.
pub struct HlsStream {
    client: StationClient,
    playlist: StationLink,
    target: Duration,
    waiting: VecDeque<Url>,
    next_sequence: u64,
    is_finished: bool,
    refresh_at: Instant,
    segment: Option<ResponseBody>,
    /// Time before which no other segment is asked for.
    next_request_at: Instant,
    /// Pace of the last segment, which the next one goes on with.
    pace: IntakePace,
    reader: SegmentReader,
    segment_bytes: usize,
}

impl HlsStream {
    /// Creates the stream of the playlist `found` at `playlist`.
    pub fn new(client: StationClient, playlist: StationLink, found: HlsSegments) -> Result<Self, SourceError> {
        let now = Instant::from_std(monotonic_now());
        let mut this = Self {
            client,
            playlist,
            target: Duration::from_secs(found.target_seconds),
            waiting: VecDeque::new(),
            next_sequence: 0,
            is_finished: false,
            refresh_at: now,
            segment: None,
            next_request_at: now,
            pace: IntakePace::new(),
            reader: SegmentReader::default(),
            segment_bytes: 0,
        };
        this.next_sequence =
            found.first_sequence.saturating_add(found.segments.len().saturating_sub(BEGIN_BEFORE_END) as u64);
        this.add(found)?;
        Ok(this)
    }

    /// Returns the longest time without sound that is usual.
    pub fn idle_limit(&self) -> Duration {
        3 * self.target
    }

    /// Returns the next sound; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        loop {
            match self.advance().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Some(Ok(bytes)),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, SourceError> {
        if let Some(segment) = &mut self.segment {
            let Some(bytes) = segment.next().await else {
                self.pace = segment.pace;
                self.segment = None;
                return Ok(Some(Bytes::new()));
            };
            let bytes = bytes?;
            self.segment_bytes += bytes.len();
            if self.segment_bytes > MAX_SEGMENT_BYTES {
                return Err(SourceError::TooLarge);
            }
            return self.reader.push(&bytes).map(Some);
        }
        if !self.waiting.is_empty() {
            sleep_until(self.next_request_at).await;
            self.next_request_at = Instant::from_std(monotonic_now()) + SEGMENT_INTERVAL;
            let Some(url) = self.waiting.pop_front() else { return Ok(Some(Bytes::new())) };
            let mut body = self.client.get(&self.playlist.to(url)).await?.body;
            body.pace = self.pace;
            self.segment = Some(body);
            self.segment_bytes = 0;
            self.reader.begin_segment();
            return Ok(Some(Bytes::new()));
        }
        if self.is_finished {
            return Ok(None);
        }
        sleep_until(self.refresh_at).await;
        let (link, text) = self.client.get_text(&self.playlist, MAX_PLAYLIST_BYTES).await?;
        let Some(Playlist::Segments(found)) = parse_playlist(&text, &link.url) else {
            return Err(SourceError::BadAnswer);
        };
        self.add(found)?;
        Ok(Some(Bytes::new()))
    }

    fn add(&mut self, found: HlsSegments) -> Result<(), SourceError> {
        if found.is_unsupported {
            return Err(SourceError::UnsupportedHls);
        }
        let end = found.first_sequence.saturating_add(found.segments.len() as u64);
        // A station that began anew counts from another number.
        if end < self.next_sequence {
            self.next_sequence = found.first_sequence;
        }
        let known = usize::try_from(self.next_sequence.saturating_sub(found.first_sequence)).unwrap_or(usize::MAX);
        self.waiting.extend(found.segments.into_iter().skip(known));
        self.next_sequence = end;
        self.is_finished = found.is_finished;
        // RFC 8216 §6.3.4: half the target duration where there is nothing new.
        self.refresh_at = Instant::from_std(monotonic_now()) + self.target / 2;
        Ok(())
    }
}
