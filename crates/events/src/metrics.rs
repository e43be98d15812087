//! Metrics of events.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of events. Clones share them.
#[derive(Clone)]
pub struct EventMetrics {
    /// Events that their sink took.
    pub published: IntCounter,
    /// Bytes in the outbox that are not delivered yet.
    backlog_bytes: IntGauge,
    /// Events in the outbox that are not delivered yet.
    backlog_events: IntGauge,
    dropped: IntCounterVec,
}

/// Reason why an event is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Derived from a stream while the outbox was full.
    Full,
    /// Derived from a stream while the outbox's disk failed.
    Disk,
    /// Derived from a stream while more were waiting than are kept in memory.
    Busy,
    /// It was damaged in the outbox.
    Damaged,
    /// The broker refuses it for good, for its size or form.
    Rejected,
}

impl DropReason {
    /// Returns the value of the label `reason`.
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Disk => "disk",
            Self::Busy => "busy",
            Self::Damaged => "broken",
            Self::Rejected => "rejected",
        }
    }
}

impl EventMetrics {
    /// Registers the metrics; `sink` is `file` or `kafka`. Fails where the registry has them already.
    pub fn new(registry: &Registry, sink: &str) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| IntGauge::new(name, help);
        let published =
            IntCounterVec::new(Opts::new("tidegate_events_published_total", "Events that their sink took"), &["sink"])?;
        let dropped = IntCounterVec::new(
            Opts::new("tidegate_events_dropped_total", "Events that are lost, by cause"),
            &["reason"],
        )?;
        let numbers = Self {
            published: published.with_label_values(&[sink]),
            backlog_bytes: gauge("tidegate_events_backlog_bytes", "Bytes in the outbox that are not delivered yet")?,
            backlog_events: gauge("tidegate_events_backlog_events", "Events in the outbox that are not delivered yet")?,
            dropped,
        };
        registry.register(Box::new(published))?;
        registry.register(Box::new(numbers.dropped.clone()))?;
        registry.register(Box::new(numbers.backlog_bytes.clone()))?;
        registry.register(Box::new(numbers.backlog_events.clone()))?;
        // Every reason is there from the start, as 0: a counter that first appears with a loss shows no increase.
        for reason in [DropReason::Full, DropReason::Disk, DropReason::Busy, DropReason::Damaged, DropReason::Rejected]
        {
            numbers.record_dropped(reason, 0);
        }
        Ok(numbers)
    }

    /// Counts `count` events that are lost because of `reason`.
    pub fn record_dropped(&self, reason: DropReason, count: u64) {
        self.dropped.with_label_values(&[reason.name()]).inc_by(count);
    }

    /// Sets the number of events that wait, and their bytes.
    pub fn set_backlog(&self, events: u64, bytes: u64) {
        self.backlog_events.set(signed(events));
        self.backlog_bytes.set(signed(bytes));
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
