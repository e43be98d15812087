//! Section `Recognition`.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigLocation;
use crate::config::file;
use crate::config::report::ConfigProblem;
use recognition::settings::Settings;

const SECOND: Duration = Duration::from_secs(1);

/// Resolves recognition; `Some(None)` if there is none. `has_database` is true if there is a catalogue.
pub fn recognition(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Recognition>,
    has_database: bool,
) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let default = Settings::default();
    let index = raw.index.as_ref().map(|text| at.key("Index").text(text).map(PathBuf::from));
    let index = index.unwrap_or(Some(default.index));
    let length = at.key("ClipLength").span(raw.clip_length, default.clip_length, 5 * SECOND, 120 * SECOND);
    let history = at.number("MaxHistory", raw.max_history, default.max_history, 1..=100_000);
    if !has_database {
        let problem = ConfigProblem::new("there is no catalogue whose tracks could be recognised");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
        return None;
    }
    Some(Some(Settings { index: index?, clip_length: length?, max_history: history? }))
}
