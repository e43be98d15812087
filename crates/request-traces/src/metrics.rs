//! Metrics of the way to the collector.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counts of spans. Clones count together.
#[derive(Clone)]
pub struct TraceMetrics {
    exported: IntCounter,
    dropped: IntCounterVec,
}

/// Reason why spans did not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// As many as may wait were waiting.
    QueueFull,
    /// The collector was away or asked for patience for too long.
    Unavailable,
    /// The collector refused them.
    Refused,
    /// The process ended first.
    Stopped,
}

impl DropReason {
    fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

impl TraceMetrics {
    /// Registers them; fails where a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let exported = IntCounter::new("tidegate_trace_spans_exported_total", "spans that the collector took")?;
        let dropped =
            Opts::new("tidegate_trace_spans_dropped_total", "spans that did not reach the collector, by reason");
        let dropped = IntCounterVec::new(dropped, &["reason"])?;
        registry.register(Box::new(exported.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        Ok(Self { exported, dropped })
    }

    /// Counts spans that the collector took.
    pub(crate) fn exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    /// Counts spans that did not reach it.
    pub(crate) fn dropped(&self, reason: DropReason, spans: usize) {
        if spans > 0 {
            self.dropped.with_label_values(&[reason.name()]).inc_by(spans as u64);
        }
    }
}
