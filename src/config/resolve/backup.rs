//! Section `Backup`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ConfigLocation;
use super::store::{UploadTarget, upload_target};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use backup::settings::{Settings, SourceSettings, ToolEnvironment};
use primitives::secret::Secret;
use server_kit::database;
use server_kit::redis;
use server_kit::telemetry::settings::TelemetrySettings;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Sections of what is backed up. Of each the outer `None` is one that is wrong.
pub struct BackedUp<'a> {
    /// The database, the inner `None` where there is none.
    pub database: &'a Option<Option<database::settings::Settings>>,
    /// Redis, the inner `None` where state is in memory.
    pub state: &'a Option<Option<redis::settings::Settings>>,
    /// The logs.
    pub telemetry: &'a Option<TelemetrySettings>,
}

/// Resolves backups; `Some(None)` if there are none.
pub fn backup(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Backup>,
    backed_up: &BackedUp<'_>,
) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let target = upload_target(at, &raw.store, &raw.bucket, raw.prefix.as_ref(), "backups/");
    let every = raw.every.map(|every| at.key("Every").span(Some(every), DAY, 600 * SECOND, 365 * DAY));
    let keep_for = at.key("KeepFor").span(raw.keep_for, Settings::KEEP_FOR, HOUR, 3650 * DAY);
    let keep_at_least = at.number("KeepAtLeast", raw.keep_at_least, Settings::KEEP_AT_LEAST, 1..=1000);
    let lease = at.key("Lease").span(raw.lease, Settings::LEASE, SECOND, 600 * SECOND);
    let own = ConfigText(Settings::WORK_FOLDER.to_owned());
    let folder = raw.work_folder.as_ref().unwrap_or(&own);
    let work_folder = at.key("WorkFolder").parse(folder, "the path of a folder that exists", |text| {
        Some(PathBuf::from(text)).filter(|folder| folder.is_dir())
    });
    if matches!(backed_up.database, Some(None)) {
        let problem = ConfigProblem::new("there is no database to keep the history of backups in");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
        return None;
    }
    let UploadTarget { store, bucket, prefix } = target?;
    Some(Some(Settings {
        store,
        bucket,
        prefix,
        every: every.map_or(Some(None), |every| every.map(Some))?,
        keep_for: keep_for?,
        keep_at_least: keep_at_least?,
        lease: lease?,
        work_folder: work_folder?,
        environment: environment(at),
        sources: sources(backed_up)?,
    }))
}

fn sources(backed_up: &BackedUp<'_>) -> Option<SourceSettings> {
    let (postgres, sqlite) = match backed_up.database.as_ref()?.as_ref()? {
        database::settings::Settings::Postgres { url, .. } => (Some(url.clone()), None),
        database::settings::Settings::Sqlite(path) => (None, Some(path.clone())),
    };
    let redis = backed_up.state.as_ref()?.as_ref().map(|state| state.url.clone());
    // Of a cluster no single file has everything.
    let redis = redis.filter(|url| backup::is_single_redis(url.expose()));
    Some(SourceSettings {
        postgres,
        sqlite,
        redis,
        access_log: backed_up.telemetry.as_ref()?.access_file().map(Path::to_owned),
    })
}

/// Returns the variables that the programs are run with.
fn environment(at: &ConfigLocation<'_>) -> ToolEnvironment {
    let variable = |name: &str| (at.context.environment)(name).filter(|value| !value.is_empty());
    let of_postgres = |name: &'static str| Some((name, Secret::new(variable(name)?)));
    ToolEnvironment {
        search_path: variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned()),
        postgres: ToolEnvironment::POSTGRES.into_iter().filter_map(of_postgres).collect(),
    }
}
