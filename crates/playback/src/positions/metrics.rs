//! Metrics of positions.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of positions. Clones share them.
#[derive(Clone, Debug)]
pub struct PositionMetrics {
    /// Reports that were stored.
    pub kept: IntCounter,
    /// Reports that were answered by 503.
    pub failed: IntCounter,
    /// Rows written: fewer than reports, where several of one key came together.
    pub rows: IntCounter,
    /// Items dropped because their user had too many.
    pub dropped: IntCounter,
    /// Reads that failed.
    pub read_failures: IntCounter,
    /// Commits that could not be written to Redis.
    pub cache_failures: IntCounter,
    /// Duration of a commit, in seconds.
    pub commit: Histogram,
    /// Positions in Redis that wait for the database.
    pub backlog: IntGauge,
    /// Their bytes.
    pub backlog_bytes: IntGauge,
}

impl PositionMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = "tidegate_positions_reports_total";
        let reports = IntCounterVec::new(Opts::new(name, "Positions reported, by what became of them"), &["outcome"])?;
        let rows = IntCounter::new("tidegate_positions_rows_total", "Rows written for the reports")?;
        let dropped = "tidegate_positions_dropped_total";
        let dropped = IntCounter::new(dropped, "Items dropped because their user had more than MaxItemsPerUser")?;
        let unread = IntCounter::new("tidegate_positions_reads_failed_total", "Positions that could not be read")?;
        let front_failed = "tidegate_positions_front_failed_total";
        let front_failed = IntCounter::new(front_failed, "Commits that Redis could not be told of")?;
        let times = HistogramOpts::new("tidegate_positions_commit_seconds", "One commit of many reports")
            .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0]);
        let commit = Histogram::with_opts(times)?;
        let backlog = "tidegate_positions_backlog";
        let backlog = IntGauge::new(backlog, "Positions in Redis that wait for the database")?;
        let backlog_bytes = IntGauge::new("tidegate_positions_backlog_bytes", "Bytes of tidegate_positions_backlog")?;
        registry.register(Box::new(reports.clone()))?;
        registry.register(Box::new(rows.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(unread.clone()))?;
        registry.register(Box::new(front_failed.clone()))?;
        registry.register(Box::new(commit.clone()))?;
        registry.register(Box::new(backlog.clone()))?;
        registry.register(Box::new(backlog_bytes.clone()))?;
        let (kept, failed) = (reports.with_label_values(&["kept"]), reports.with_label_values(&["failed"]));
        Ok(Self {
            kept,
            failed,
            rows,
            dropped,
            read_failures: unread,
            cache_failures: front_failed,
            commit,
            backlog,
            backlog_bytes,
        })
    }
}
