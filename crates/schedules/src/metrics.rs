//! Metrics of schedules.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use crate::schedule::RunState;
use server_kit::telemetry::registration;

/// Metrics of schedules.
#[derive(Clone, Debug)]
pub struct ScheduleMetrics {
    runs: IntCounterVec,
    /// Instants that no node performed in time.
    pub missed_instants: IntCounter,
    /// Runs that this node has taken over from another one.
    pub takeovers: IntCounter,
    /// Runs that this node performs now.
    pub running: IntGauge,
}

impl ScheduleMetrics {
    /// Registers the metrics, each with all its labels; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let runs = "tidegate_schedules_runs_total";
        let runs = registration::counters(registry, runs, "Runs of schedules that have ended, by outcome", "outcome")?;
        for state in RunState::ALL.into_iter().filter(|state| !matches!(state, RunState::Claimed | RunState::Running)) {
            runs.with_label_values(&[state.name()]);
        }
        let counter = |name: &str, help: &str| registration::counter(registry, name, help);
        Ok(Self {
            runs,
            missed_instants: counter(
                "tidegate_schedules_missed_instants_total",
                "Instants of schedules that no node performed in time",
            )?,
            takeovers: counter("tidegate_schedules_takeovers_total", "Runs of schedules taken over from other nodes")?,
            running: registration::gauge(registry, "tidegate_schedules_running", "Runs that this node performs now")?,
        })
    }

    /// Counts a run that has ended.
    pub fn count_run(&self, state: RunState) {
        self.runs.with_label_values(&[state.name()]).inc();
    }
}
