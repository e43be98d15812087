//! Metrics of the relay. No label names a session or a listener.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Metrics of the relay.
pub struct Metrics {
    /// Live sessions.
    pub active_sessions: IntGauge,
    /// Sessions that began.
    pub sessions_started: IntCounter,
    /// Sessions that ended, by reason.
    pub sessions_ended: IntCounterVec,
    /// Listeners now, by transport.
    pub listeners: IntGaugeVec,
    /// Most listeners that a session had until it ended.
    pub session_listeners: Histogram,
    /// Bytes of audio, by direction.
    pub audio_bytes: IntCounterVec,
    /// Chunks and frames from hosts, by outcome.
    pub chunks: IntCounterVec,
    /// Times that a listener fell behind and was moved to the live edge.
    pub gaps: IntCounter,
    /// Listeners that were closed, by reason.
    pub closed_sockets: IntCounterVec,
    /// Audio that was dropped because a queue was full.
    pub overflows: IntCounter,
    /// Sessions whose audio is turned into another format.
    pub active_transcodes: IntGauge,
    /// Transcodes beyond the limit.
    pub refused_transcodes: IntCounter,
    /// Recordings under way, their storing too.
    pub active_recordings: IntGauge,
    /// Recordings that ended, by result.
    pub ended_recordings: IntCounterVec,
    /// Bytes that were recorded.
    pub recorded_bytes: IntCounter,
    /// Lines of the chat, by result.
    pub chat_lines: IntCounterVec,
    /// Messages between nodes, by direction.
    pub replica_messages: IntCounterVec,
    /// Operations that Redis did not do in time.
    pub state_errors: IntCounterVec,
    /// Requests, by operation and status class.
    pub requests: IntCounterVec,
    /// Seconds until an answer, by operation.
    pub request_seconds: HistogramVec,
    /// Requests without the token or a ticket.
    pub unauthorized: IntCounter,
    /// Requests of addresses that guess session ids.
    pub refused_guesses: IntCounter,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help)?);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let by = |name: &str, help: &str, label: &str| counters(name, help, &[label]);
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help)?);
        let listeners = Opts::new("tidegate_share_listeners", "Listeners now, by transport");
        let many = HistogramOpts::new("tidegate_share_session_listeners", "Most listeners that an ended session had")
            .buckets(vec![0.0, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0]);
        let seconds = HistogramOpts::new("tidegate_share_request_seconds", "Time of an answer, by operation")
            .buckets(vec![0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0]);
        Ok(Self {
            active_sessions: gauge("tidegate_share_sessions_active", "Live sharing sessions")?,
            sessions_started: counter("tidegate_share_sessions_started_total", "Sharing sessions begun")?,
            sessions_ended: by("tidegate_share_sessions_ended_total", "Sharing sessions ended, by reason", "reason")?,
            listeners: register(registry, IntGaugeVec::new(listeners, &["transport"])?)?,
            session_listeners: register(registry, Histogram::with_opts(many)?)?,
            audio_bytes: by("tidegate_share_audio_bytes_total", "Bytes of shared audio, by direction", "direction")?,
            chunks: by("tidegate_share_chunks_total", "Audio of hosts, by what became of it", "result")?,
            gaps: counter("tidegate_share_gaps_total", "Listeners that fell behind and went on at the live edge")?,
            closed_sockets: by("tidegate_share_closed_total", "Listeners' sockets closed, by reason", "reason")?,
            overflows: counter("tidegate_share_overflows_total", "Audio dropped since a queue was full")?,
            active_transcodes: gauge("tidegate_share_transcodes_active", "Sessions turned into another format")?,
            refused_transcodes: counter("tidegate_share_transcodes_refused_total", "Transcodes over MaxTranscodes")?,
            active_recordings: gauge("tidegate_share_recordings_active", "Recordings under way, their storing too")?,
            ended_recordings: by("tidegate_share_recordings_total", "Recordings that ended, by result", "result")?,
            recorded_bytes: counter("tidegate_share_recorded_bytes_total", "Bytes that were recorded")?,
            chat_lines: by("tidegate_share_chat_lines_total", "Lines of the chat, by what became of them", "result")?,
            replica_messages: by("tidegate_share_crossed_total", "Messages between nodes, by direction", "direction")?,
            state_errors: by(
                "tidegate_share_state_errors_total",
                "What Redis did not do in time, by operation",
                "operation",
            )?,
            requests: counters(
                "tidegate_share_requests_total",
                "Requests to the relay, by operation and status class",
                &["operation", "class"],
            )?,
            request_seconds: register(registry, HistogramVec::new(seconds, &["operation"])?)?,
            unauthorized: counter("tidegate_share_unauthorized_total", "Requests without the token or a ticket")?,
            refused_guesses: counter(
                "tidegate_share_guesses_refused_total",
                "Requests of addresses that guess session ids",
            )?,
        })
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
