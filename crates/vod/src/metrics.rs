//! Metrics of video on demand.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::session::ManifestType;

/// Metrics of video on demand. Clones share them.
#[derive(Clone, Debug)]
pub struct VodMetrics {
    starts: IntCounterVec,
    views_ended: IntCounterVec,
    subscription_checks: IntCounterVec,
    /// Reports of positions.
    pub reports: IntCounter,
    /// Rows of `stream_sessions` that wait for the database.
    pub waiting_rows: IntGauge,
    /// Rows of `stream_sessions` that were dropped: too many waited.
    pub dropped_rows: IntCounter,
}

/// Outcome of a start.
#[derive(Clone, Copy, Debug)]
pub enum StartOutcome {
    /// A session was opened.
    Started,
    /// The user has no subscription.
    NoSubscription,
    /// There is no such film.
    NotFound,
    /// Something that is needed does not answer.
    Unavailable,
}

/// Reason for the end of a view.
#[derive(Clone, Copy, Debug)]
pub enum ViewEndCause {
    /// The viewer stopped.
    Stopped,
    /// Reports are missing.
    Silent,
    /// A newer session of the same user took its place.
    Displaced,
    /// An operator ended it.
    Revoked,
}

impl VodMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let starts = Opts::new("tidegate_vod_starts_total", "Films started, by manifest and outcome");
        let ended = Opts::new("tidegate_vod_views_ended_total", "Views that have ended, by cause");
        let checks = "tidegate_vod_subscription_checks_total";
        let checks = Opts::new(checks, "Questions whether a user has a subscription, by outcome");
        let metrics = Self {
            starts: IntCounterVec::new(starts, &["manifest", "outcome"])?,
            views_ended: IntCounterVec::new(ended, &["cause"])?,
            subscription_checks: IntCounterVec::new(checks, &["outcome"])?,
            reports: IntCounter::new("tidegate_vod_reports_total", "Positions in films that players have reported")?,
            waiting_rows: IntGauge::new(
                "tidegate_vod_waiting_rows",
                "Rows of stream_sessions not yet in the database",
            )?,
            dropped_rows: IntCounter::new(
                "tidegate_vod_dropped_rows_total",
                "Rows of stream_sessions that were dropped, since too many waited for the database",
            )?,
        };
        for outcome in ["cached", "active", "inactive", "grace", "unavailable"] {
            metrics.subscription_checks.with_label_values(&[outcome]);
        }
        registry.register(Box::new(metrics.starts.clone()))?;
        registry.register(Box::new(metrics.views_ended.clone()))?;
        registry.register(Box::new(metrics.subscription_checks.clone()))?;
        registry.register(Box::new(metrics.reports.clone()))?;
        registry.register(Box::new(metrics.waiting_rows.clone()))?;
        registry.register(Box::new(metrics.dropped_rows.clone()))?;
        Ok(metrics)
    }

    /// Counts a start.
    pub fn count_start(&self, manifest: ManifestType, outcome: StartOutcome) {
        let manifest = match manifest {
            ManifestType::Hls => "hls",
            ManifestType::Dash => "dash",
        };
        let outcome = match outcome {
            StartOutcome::Started => "started",
            StartOutcome::NoSubscription => "no_subscription",
            StartOutcome::NotFound => "not_found",
            StartOutcome::Unavailable => "unavailable",
        };
        self.starts.with_label_values(&[manifest, outcome]).inc();
    }

    /// Counts the end of a view.
    pub fn count_end(&self, cause: ViewEndCause) {
        let cause = match cause {
            ViewEndCause::Stopped => "stopped",
            ViewEndCause::Silent => "silent",
            ViewEndCause::Displaced => "displaced",
            ViewEndCause::Revoked => "revoked",
        };
        self.views_ended.with_label_values(&[cause]).inc();
    }

    /// Counts a question about a subscription, by its outcome.
    pub fn count_subscription_check(&self, outcome: &'static str) {
        self.subscription_checks.with_label_values(&[outcome]).inc();
    }
}
