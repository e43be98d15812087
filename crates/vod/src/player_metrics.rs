//! Metrics of playback as players tell of it ([`crate::cmcd`]): how often it stalls, and at which bitrates.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::cmcd::{MalformedClientData, MediaKind, PlaybackState};

/// Bitrates in bit/s: from speech to film in 8K.
const RATES: [f64; 14] = [64e3, 128e3, 256e3, 500e3, 1e6, 2e6, 3e6, 5e6, 8e6, 12e6, 20e6, 40e6, 80e6, 160e6];
/// Buffers in seconds.
const BUFFERS: [f64; 9] = [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0];

/// Metrics of playback. Clones share them.
#[derive(Clone, Debug)]
pub struct PlayerMetrics {
    requests: IntCounterVec,
    bitrate: HistogramVec,
    throughput: Histogram,
    buffer: Histogram,
}

impl PlayerMetrics {
    /// Registers the metrics, each series at zero; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = "Requests of players that say how they play (CMCD), by that";
        let bitrate = HistogramOpts::new(
            "tidegate_vod_bitrate_bits_per_second",
            "Encoded bitrate of what players ask for, by kind of media",
        );
        let throughput =
            HistogramOpts::new("tidegate_vod_throughput_bits_per_second", "Throughput as players measure it");
        let buffer = HistogramOpts::new("tidegate_vod_buffer_seconds", "Media that players have buffered");
        let metrics = Self {
            requests: IntCounterVec::new(Opts::new("tidegate_vod_cmcd_requests_total", requests), &["playback"])?,
            bitrate: HistogramVec::new(bitrate.buckets(RATES.to_vec()), &["media"])?,
            throughput: Histogram::with_opts(throughput.buckets(RATES.to_vec()))?,
            buffer: Histogram::with_opts(buffer.buckets(BUFFERS.to_vec()))?,
        };
        for playback in ["smooth", "stalled", "malformed"] {
            metrics.requests.with_label_values(&[playback]);
        }
        for kind in [MediaKind::Audio, MediaKind::Video, MediaKind::Muxed] {
            metrics.bitrate.with_label_values(&[media(kind)]);
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.bitrate.clone()))?;
        registry.register(Box::new(metrics.throughput.clone()))?;
        registry.register(Box::new(metrics.buffer.clone()))?;
        Ok(metrics)
    }

    /// Counts what a player says with a request.
    pub fn count(&self, said: &Result<PlaybackState, MalformedClientData>) {
        let playback = match said {
            Ok(state) if state.has_stalled => "stalled",
            Ok(_) => "smooth",
            Err(MalformedClientData) => "malformed",
        };
        self.requests.with_label_values(&[playback]).inc();
        let Ok(state) = said else { return };
        if let (Some(kind), Some(rate)) = (state.kind, state.bitrate) {
            self.bitrate.with_label_values(&[media(kind)]).observe(f64::from(rate) * 1000.0);
        }
        if let Some(rate) = state.throughput {
            self.throughput.observe(f64::from(rate) * 1000.0);
        }
        if let Some(buffer) = state.buffer {
            self.buffer.observe(buffer.as_secs_f64());
        }
    }
}

fn media(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::Muxed => "muxed",
    }
}
