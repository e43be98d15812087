//! Metrics of lyrics.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::sources::LyricsSource;
use server_kit::telemetry::registration;

/// Outcome of a request for the lyrics of a track, or of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Set by the owner or an admin.
    Edited,
    /// From the cache.
    Cached,
    /// From a source.
    Fetched,
    /// From the cache, beyond its time.
    Stale,
    /// There are none.
    Missing,
    /// 503.
    Unavailable,
}

/// Outcome of asking a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceOutcome {
    /// It has lyrics.
    Found,
    /// It has none.
    Missing,
    /// It does not answer, or is left alone.
    Failed,
}

impl RequestOutcome {
    const ALL: [Self; 6] = [Self::Edited, Self::Cached, Self::Fetched, Self::Stale, Self::Missing, Self::Unavailable];

    fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Cached => "cached",
            Self::Fetched => "fetched",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Unavailable => "unavailable",
        }
    }
}

impl SourceOutcome {
    const ALL: [Self; 3] = [Self::Found, Self::Missing, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

/// Metrics of lyrics.
#[derive(Clone, Debug)]
pub struct LyricsMetrics {
    requests: IntCounterVec,
    sources: IntCounterVec,
    /// Lyrics that were set by PUT.
    pub edits: IntCounter,
}

impl LyricsMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = "tidegate_lyrics_requests_total";
        let sources = Opts::new("tidegate_lyrics_source_requests_total", "Sources asked for lyrics, by outcome");
        let metrics = Self {
            requests: registration::counters(registry, requests, "Requests for lyrics, by outcome", "outcome")?,
            sources: IntCounterVec::new(sources, &["source", "outcome"])?,
            edits: registration::counter(registry, "tidegate_lyrics_edits_total", "Lyrics set by owners and admins")?,
        };
        for outcome in RequestOutcome::ALL {
            metrics.requests.with_label_values(&[outcome.name()]);
        }
        for source in LyricsSource::ASKED {
            for outcome in SourceOutcome::ALL {
                metrics.sources.with_label_values(&[source.name(), outcome.name()]);
            }
        }
        registry.register(Box::new(metrics.sources.clone()))?;
        Ok(metrics)
    }

    /// Counts a request.
    pub fn count_request(&self, outcome: RequestOutcome) {
        self.requests.with_label_values(&[outcome.name()]).inc();
    }

    /// Counts that a source was asked.
    pub fn count_source(&self, source: LyricsSource, outcome: SourceOutcome) {
        self.sources.with_label_values(&[source.name(), outcome.name()]).inc();
    }
}
