//! Metrics of backups.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use crate::record::BackupState;
use primitives::unix_time::UnixMillis;
use server_kit::telemetry::registration;

/// Metrics of backups.
#[derive(Clone, Debug)]
pub struct BackupMetrics {
    ended: IntCounterVec,
    newest_verified: IntGauge,
    /// Bytes that this node has stored.
    pub stored_bytes: IntCounter,
    /// Backups that this node makes now: one or none.
    pub running: IntGauge,
}

impl BackupMetrics {
    /// Registers the metrics, each with all its labels; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ended = "tidegate_backup_ended_total";
        let ended =
            registration::counters(registry, ended, "Backups of this node that have ended, by outcome", "outcome")?;
        for state in [BackupState::Ok, BackupState::Failed] {
            ended.with_label_values(&[state.name()]);
        }
        Ok(Self {
            ended,
            newest_verified: registration::gauge(
                registry,
                "tidegate_backup_newest_verified_timestamp_seconds",
                "When the newest verified backup was begun, in seconds since the Unix epoch; 0 without one",
            )?,
            stored_bytes: registration::counter(
                registry,
                "tidegate_backup_stored_bytes_total",
                "Compressed bytes of components of backups that this node has stored",
            )?,
            running: registration::gauge(registry, "tidegate_backup_running", "Backups that this node makes now")?,
        })
    }

    /// Counts a backup that has ended.
    pub fn count_end(&self, state: BackupState) {
        self.ended.with_label_values(&[state.name()]).inc();
    }

    /// Notes when the newest verified backup was begun.
    pub fn set_newest_verified(&self, began: Option<UnixMillis>) {
        self.newest_verified.set(began.map_or(0, |began| began.as_millis() / 1000));
    }
}
