//! Settings of schedules.

use std::time::Duration;

/// Bounds of what users keep, and times of its running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most schedules of one user.
    pub max_schedules_per_user: u32,
    /// Least time between two instants of one schedule.
    pub min_interval: Duration,
    /// Time for which an instant that was missed is made good, unless the schedule says another.
    pub misfire_grace: Duration,
    /// Time without a sign of life after which another node takes over what one has claimed.
    pub lease: Duration,
    /// Time for which runs that have ended are kept.
    pub history_for: Duration,
}

impl Default for Settings {
    /// The grace is the document's scheduler's. Nothing that plays begins more often than once a minute.
    fn default() -> Self {
        Self {
            max_schedules_per_user: 100,
            min_interval: Duration::from_secs(60),
            misfire_grace: Duration::from_secs(300),
            lease: Duration::from_secs(30),
            history_for: Duration::from_secs(90 * 86_400),
        }
    }
}
