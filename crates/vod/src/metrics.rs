//! Metrics of video on demand.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::session::ManifestType;

/// Metrics of video on demand. Clones share them.
#[derive(Clone, Debug)]
pub struct VodMetrics {
    starts: IntCounterVec,
    views_ended: IntCounterVec,
    subscription_checks: IntCounterVec,
    subscription_purges: IntCounterVec,
    /// Sessions that this node has served or heard of lately.
    pub sessions: IntGauge,
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
    /// The user has started too many.
    TooMany,
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

impl StartOutcome {
    /// All outcomes.
    const ALL: [Self; 5] = [Self::Started, Self::NoSubscription, Self::NotFound, Self::TooMany, Self::Unavailable];

    fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::NoSubscription => "no_subscription",
            Self::NotFound => "not_found",
            Self::TooMany => "too_many",
            Self::Unavailable => "unavailable",
        }
    }
}

impl ViewEndCause {
    /// All causes.
    const ALL: [Self; 4] = [Self::Stopped, Self::Silent, Self::Displaced, Self::Revoked];

    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Silent => "silent",
            Self::Displaced => "displaced",
            Self::Revoked => "revoked",
        }
    }
}

impl VodMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let starts = Opts::new("tidegate_vod_starts_total", "Films started, by manifest and outcome");
        let ended = Opts::new("tidegate_vod_views_ended_total", "Views that have ended, by cause");
        let checks = "tidegate_vod_subscription_checks_total";
        let checks = Opts::new(checks, "Questions whether a user has a subscription, by outcome");
        let purges = "tidegate_vod_subscription_purges_total";
        let purges = Opts::new(purges, "Messages of Kafka that a subscription has changed, by outcome");
        let metrics = Self {
            starts: IntCounterVec::new(starts, &["manifest", "outcome"])?,
            views_ended: IntCounterVec::new(ended, &["cause"])?,
            subscription_checks: IntCounterVec::new(checks, &["outcome"])?,
            subscription_purges: IntCounterVec::new(purges, &["outcome"])?,
            sessions: IntGauge::new("tidegate_vod_sessions_active", "Sessions that play at this node")?,
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
        for manifest in [ManifestType::Hls, ManifestType::Dash] {
            for outcome in StartOutcome::ALL {
                metrics.starts.with_label_values(&[manifest_name(manifest), outcome.name()]);
            }
        }
        for cause in ViewEndCause::ALL {
            metrics.views_ended.with_label_values(&[cause.name()]);
        }
        for outcome in ["cached", "active", "inactive", "grace", "unavailable"] {
            metrics.subscription_checks.with_label_values(&[outcome]);
        }
        for outcome in ["purged", "malformed"] {
            metrics.subscription_purges.with_label_values(&[outcome]);
        }
        registry.register(Box::new(metrics.starts.clone()))?;
        registry.register(Box::new(metrics.views_ended.clone()))?;
        registry.register(Box::new(metrics.subscription_checks.clone()))?;
        registry.register(Box::new(metrics.subscription_purges.clone()))?;
        registry.register(Box::new(metrics.sessions.clone()))?;
        registry.register(Box::new(metrics.reports.clone()))?;
        registry.register(Box::new(metrics.waiting_rows.clone()))?;
        registry.register(Box::new(metrics.dropped_rows.clone()))?;
        Ok(metrics)
    }

    /// Counts a start.
    pub fn count_start(&self, manifest: ManifestType, outcome: StartOutcome) {
        self.starts.with_label_values(&[manifest_name(manifest), outcome.name()]).inc();
    }

    /// Counts the end of a view.
    pub fn count_end(&self, cause: ViewEndCause) {
        self.views_ended.with_label_values(&[cause.name()]).inc();
    }

    /// Counts a message that a subscription has changed; `is_read` is false for one of another form.
    pub fn count_subscription_purge(&self, is_read: bool) {
        self.subscription_purges.with_label_values(&[if is_read { "purged" } else { "malformed" }]).inc();
    }

    /// Counts a question about a subscription, by its outcome.
    pub fn count_subscription_check(&self, outcome: &'static str) {
        self.subscription_checks.with_label_values(&[outcome]).inc();
    }
}

fn manifest_name(manifest: ManifestType) -> &'static str {
    match manifest {
        ManifestType::Hls => "hls",
        ManifestType::Dash => "dash",
    }
}
