//! Metrics of recognition.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Registry};

use server_kit::telemetry::registration;

/// Outcome of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipOutcome {
    /// A track was recognised.
    Matched,
    /// No track has the sound.
    Unmatched,
    /// It is no sound, or cannot be decoded.
    Refused,
    /// 503.
    Unavailable,
}

impl ClipOutcome {
    const ALL: [Self; 4] = [Self::Matched, Self::Unmatched, Self::Refused, Self::Unavailable];

    fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Unmatched => "unmatched",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Metrics of recognition.
#[derive(Clone, Debug)]
pub struct RecognitionMetrics {
    clips: IntCounterVec,
    search_seconds: Histogram,
    tracks: IntGauge,
}

impl RecognitionMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let clips = "tidegate_recognition_clips_total";
        let clips = registration::counters(registry, clips, "Clips that were to be recognised, by outcome", "outcome")?;
        ClipOutcome::ALL.iter().for_each(|outcome| drop(clips.with_label_values(&[outcome.name()])));
        let seconds = "tidegate_recognition_search_seconds";
        let seconds = HistogramOpts::new(seconds, "Time to decode a clip and to search the index for it");
        let seconds = seconds.buckets(vec![0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0]);
        let search_seconds = Histogram::with_opts(seconds)?;
        registry.register(Box::new(search_seconds.clone()))?;
        let tracks = "tidegate_recognition_indexed_tracks";
        let tracks = registration::gauge(registry, tracks, "Tracks of the index at the last clip")?;
        Ok(Self { clips, search_seconds, tracks })
    }

    /// Counts a clip.
    pub fn count_clip(&self, outcome: ClipOutcome) {
        self.clips.with_label_values(&[outcome.name()]).inc();
    }

    /// Notes a search of an index of so many tracks.
    pub fn observe_search(&self, took: Duration, tracks: usize) {
        self.search_seconds.observe(took.as_secs_f64());
        self.tracks.set(i64::try_from(tracks).unwrap_or(i64::MAX));
    }
}
