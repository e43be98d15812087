//! Components of a backup.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Component of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BackupComponent)]
pub enum BackupComponent {
    /// The database, where it is PostgreSQL: `pg_dump` in its custom format.
    Postgres,
    /// The database, where it is a file of SQLite: a copy of it.
    Sqlite,
    /// Everything in Redis: an RDB file.
    Redis,
    /// The configuration file, without secrets.
    Config,
    /// The file of the access log.
    Logs,
}

impl BackupComponent {
    /// All components, in the order in which they are stored: what others refer to comes first.
    pub const ALL: [Self; 5] = [Self::Postgres, Self::Sqlite, Self::Redis, Self::Config, Self::Logs];

    /// Returns its name in requests, manifests and the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::Config => "config",
            Self::Logs => "logs",
        }
    }

    /// Returns the component of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.name() == name)
    }

    /// Returns the name of its file when it is restored.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres.dump",
            Self::Sqlite => "sqlite.db",
            Self::Redis => "redis.rdb",
            Self::Config => "config.yaml",
            Self::Logs => "access.log",
        }
    }

    /// Returns the last part of its object's key, in the folder of its backup.
    pub fn object_name(self) -> String {
        format!("{}.zst", self.file_name())
    }
}

impl fmt::Display for BackupComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
