//! Section `Schedules`.

use std::time::Duration;

use super::ConfigLocation;
use crate::config::file;
use crate::config::report::ConfigProblem;
use schedules::settings::Settings;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Resolves schedules; `Some(None)` if there are none. `has_database` is true if there is something to keep them in.
pub fn schedules(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Schedules>,
    has_database: bool,
) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let default = Settings::default();
    let per_user = raw.max_schedules_per_user;
    let per_user = at.number("MaxSchedulesPerUser", per_user, default.max_schedules_per_user, 1..=10_000);
    let interval = at.key("MinInterval").span(raw.min_interval, default.min_interval, SECOND, DAY);
    let grace = at.key("MisfireGrace").span(raw.misfire_grace, default.misfire_grace, Duration::ZERO, DAY);
    let lease = at.key("Lease").span(raw.lease, default.lease, SECOND, 600 * SECOND);
    let history = at.key("HistoryFor").span(raw.history_for, default.history_for, HOUR, 3650 * DAY);
    if !has_database {
        let problem = ConfigProblem::new("there is no database to keep schedules in");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
        return None;
    }
    Some(Some(Settings {
        max_schedules_per_user: per_user?,
        min_interval: interval?,
        misfire_grace: grace?,
        lease: lease?,
        history_for: history?,
    }))
}
