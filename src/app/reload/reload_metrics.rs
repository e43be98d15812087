//! Metrics of reloads of the configuration.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of reloads.
pub struct ReloadMetrics {
    reloads: IntCounterVec,
    last_success: IntGauge,
    is_current: IntGauge,
}

impl ReloadMetrics {
    /// Registers the metrics; the configuration in force is that of the file since `now`, in Unix seconds.
    pub fn new(registry: &Registry, now: u64) -> Result<Self, prometheus::Error> {
        let reloads = Opts::new("tidegate_config_reloads_total", "Reloads of the configuration, by outcome");
        let metrics = Self {
            reloads: IntCounterVec::new(reloads, &["outcome"])?,
            last_success: IntGauge::new(
                "tidegate_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was put in force",
            )?,
            is_current: IntGauge::new(
                "tidegate_config_last_reload_successful",
                "1, or 0 where the file is not in force: it was refused, or cannot be read",
            )?,
        };
        for outcome in ["reloaded", "refused"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        metrics.is_current.set(1);
        metrics.last_success.set(i64::try_from(now).unwrap_or(i64::MAX));
        registry.register(Box::new(metrics.reloads.clone()))?;
        registry.register(Box::new(metrics.last_success.clone()))?;
        registry.register(Box::new(metrics.is_current.clone()))?;
        Ok(metrics)
    }

    /// Notes a reload at `now`, in Unix seconds.
    pub fn reloaded(&self, now: u64) {
        self.reloads.with_label_values(&["reloaded"]).inc();
        self.is_current.set(1);
        self.last_success.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Notes a reload that was refused.
    pub fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
        self.is_current.set(0);
    }

    /// Notes that the file is what is in force.
    pub fn found_in_force(&self) {
        self.is_current.set(1);
    }
}
