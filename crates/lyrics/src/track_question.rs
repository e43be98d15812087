//! Question for the lyrics of one track, put to the sources in their order.

use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::LyricsTrack;
use crate::metrics::SourceOutcome;
use crate::service::{LyricsState, STORE_TIMEOUT};
use crate::sources::embedded::{self, TrackTags};
use crate::sources::{LyricsSource, SourceFailure, genius, lrclib, sidecar};
use crate::track_lyrics::{SongQuery, TrackLyrics};

/// Answers of the sources.
pub struct CollectedLyrics {
    /// The lyrics of the first source that has any.
    pub lyrics: Option<TrackLyrics>,
    /// Failure of a source that comes before it.
    pub failure: Option<SourceFailure>,
}

impl LyricsState {
    /// Asks the sources in their order until one has lyrics.
    pub(crate) async fn ask_sources(&self, track: &LyricsTrack) -> CollectedLyrics {
        let mut question = TrackQuestion { state: self, track, exists: None, tags: None };
        let mut failure = None;
        for source in &self.settings.sources {
            let found = question.ask(*source).await;
            let outcome = match &found {
                Ok(Some(_)) => SourceOutcome::Found,
                Ok(None) => SourceOutcome::Missing,
                Err(_) => SourceOutcome::Failed,
            };
            self.metrics.count_source(*source, outcome);
            match found {
                Ok(None) => {}
                Ok(Some(lyrics)) => return CollectedLyrics { lyrics: Some(lyrics), failure },
                // One that was asked and has failed is worse than one that was not asked.
                Err(SourceFailure::Unavailable) => failure = Some(SourceFailure::Unavailable),
                Err(SourceFailure::Busy) => failure = failure.or(Some(SourceFailure::Busy)),
            }
        }
        CollectedLyrics { lyrics: None, failure }
    }

    /// Memory for a file of a store, for as long as it is read.
    async fn file_permit(&self) -> Result<SemaphorePermit<'_>, SourceFailure> {
        let permit = timeout(STORE_TIMEOUT, self.files.acquire()).await;
        // It is never closed.
        permit.ok().and_then(Result::ok).ok_or(SourceFailure::Busy)
    }
}

/// Question for the lyrics of one track, with what was learned of its object.
struct TrackQuestion<'a> {
    state: &'a LyricsState,
    track: &'a LyricsTrack,
    exists: Option<Result<bool, SourceFailure>>,
    tags: Option<Result<Option<TrackTags>, SourceFailure>>,
}

impl TrackQuestion<'_> {
    async fn ask(&mut self, source: LyricsSource) -> Result<Option<TrackLyrics>, SourceFailure> {
        // The files of another object are not the track's, whatever its name would be.
        if !self.exists().await? {
            return Ok(None);
        }
        match source {
            LyricsSource::Edited => Ok(None),
            LyricsSource::Sidecar => {
                let read = self.sidecars().await;
                if let Err(failure) = read {
                    // The tags are in the same store.
                    self.tags.get_or_insert(Err(failure));
                }
                read
            }
            LyricsSource::Embedded => {
                let Some(mut tags) = self.tags().await? else { return Ok(None) };
                let lyrics = tags.lyrics.take().map(|parsed| TrackLyrics::from_parsed(parsed, source));
                Ok(lyrics.map(|lyrics| lyrics.with_names(&tags)))
            }
            LyricsSource::Lrclib => match (&self.state.lrclib, self.song().await?) {
                (Some(service), Some(song)) => lrclib::find(service, &song).await,
                _ => Ok(None),
            },
            LyricsSource::Genius => match (&self.state.genius, self.song().await?) {
                (Some(service), Some(song)) => Ok(genius::search(service, &song).await?.into_iter().next()),
                _ => Ok(None),
            },
        }
    }

    /// Returns true where the track's object is there; asked once.
    async fn exists(&mut self) -> Result<bool, SourceFailure> {
        if let Some(exists) = self.exists {
            return exists;
        }
        let LyricsTrack { bucket, key, .. } = self.track;
        let exists = within(STORE_TIMEOUT, self.state.reader.exists(bucket, key)).await;
        *self.exists.insert(exists)
    }

    async fn sidecars(&self) -> Result<Option<TrackLyrics>, SourceFailure> {
        let LyricsState { reader, parser, settings, .. } = self.state;
        let _permit = self.state.file_permit().await?;
        let LyricsTrack { bucket, key, .. } = self.track;
        let parsed = within(STORE_TIMEOUT, sidecar::read(reader, parser, bucket, key, &settings.formats)).await?;
        Ok(parsed.map(|parsed| TrackLyrics::from_parsed(parsed, LyricsSource::Sidecar)))
    }

    /// The track's tags, read once.
    async fn tags(&mut self) -> Result<Option<TrackTags>, SourceFailure> {
        if let Some(tags) = &self.tags {
            return tags.clone();
        }
        let LyricsState { reader, parser, .. } = self.state;
        let tags = match self.state.file_permit().await {
            Ok(_permit) => {
                let LyricsTrack { bucket, key, .. } = self.track;
                within(STORE_TIMEOUT, embedded::read(reader, parser, bucket, key)).await
            }
            Err(failure) => Err(failure),
        };
        self.tags.insert(tags).clone()
    }

    /// The names by which services know the track.
    async fn song(&mut self) -> Result<Option<SongQuery>, SourceFailure> {
        Ok(SongQuery::of_track(self.tags().await?.as_ref(), &self.track.key))
    }
}

async fn within<T>(limit: Duration, read: impl Future<Output = Result<T, SourceFailure>>) -> Result<T, SourceFailure> {
    timeout(limit, read).await.unwrap_or(Err(SourceFailure::Unavailable))
}
