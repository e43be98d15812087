//! Settings of backups.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use primitives::secret::Secret;

/// Where backups go, how long they stay, and what they are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of the object store.
    pub store: Arc<str>,
    /// Bucket in the store.
    pub bucket: String,
    /// Prefix of keys.
    pub prefix: String,
    /// Time between the beginnings of two backups that nobody asks for; `None`: there are none.
    pub every: Option<Duration>,
    /// Time for which verified backups are kept.
    pub keep_for: Duration,
    /// Verified backups that are kept however old they are.
    pub keep_at_least: u32,
    /// Time without a sign of life after which the backup of another node counts as failed.
    pub lease: Duration,
    /// Folder of copies and of files that are tried out.
    pub work_folder: PathBuf,
    /// Variables of the environment for the programs that are run.
    pub environment: ToolEnvironment,
    /// What is backed up.
    pub sources: SourceSettings,
}

/// Variables of the environment for the programs that are run: nothing else of it reaches them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolEnvironment {
    /// `PATH`, where programs are looked for.
    pub search_path: String,
    /// What libpq knows and the address may leave out, such as `PGPASSFILE`.
    pub postgres: Vec<(&'static str, Secret)>,
}

/// What is there to be backed up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceSettings {
    /// Address of PostgreSQL, where the database is there.
    pub postgres: Option<Secret>,
    /// File of SQLite, where the database is one.
    pub sqlite: Option<PathBuf>,
    /// Address of Redis, where state is in a single one.
    pub redis: Option<Secret>,
    /// File of the access log, where it has one.
    pub access_log: Option<PathBuf>,
}

impl ToolEnvironment {
    /// Names of the variables of PostgreSQL's programs; `HOME` has the file of passwords and certificates.
    pub const POSTGRES: [&str; 8] =
        ["HOME", "PGPASSWORD", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL"];
}

impl Settings {
    /// Time for which verified backups are kept (document 002: 30 days).
    pub const KEEP_FOR: Duration = Duration::from_secs(30 * 86_400);
    /// Verified backups that are kept however old they are.
    pub const KEEP_AT_LEAST: u32 = 3;
    /// Time without a sign of life after which a backup counts as failed.
    pub const LEASE: Duration = Duration::from_secs(60);
    /// Folder of copies: on disk, where `/tmp` is often memory, and emptied less often than it.
    pub const WORK_FOLDER: &str = "/var/tmp";
}
