//! Section `Playlists`.

use super::{ConfigLocation, cache};
use crate::config::file;
use crate::config::report::ConfigProblem;
use playlists::settings::Settings;

/// Resolves playlists; `Some(None)` if there are none. `has_database` is true if there is something to keep them in.
pub fn playlists(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Playlists>,
    has_database: bool,
) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let default = Settings::default();
    let per_user = raw.max_playlists_per_user;
    let per_user = at.number("MaxPlaylistsPerUser", per_user, default.max_playlists_per_user, 1..=100_000);
    let items = at.number("MaxItems", raw.max_items, default.max_items, 1..=100_000);
    let size = cache::size(&at.key("MaxSize"), raw.max_size, default.max_bytes, 1 << 10, 64 << 20);
    if !has_database {
        let problem = ConfigProblem::new("there is no database to keep playlists in");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
        return None;
    }
    Some(Some(Settings { max_playlists_per_user: per_user?, max_items: items?, max_bytes: size? }))
}
