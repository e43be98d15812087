//! Settings of the database.

use std::path::PathBuf;

use primitives::secret::Secret;

/// Database of the records.
#[derive(Clone, Debug, PartialEq)]
pub enum Settings {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A server of PostgreSQL.
    Postgres {
        /// Its address, which may hold a password.
        url: Secret,
        /// Most connections.
        connections: u32,
    },
}
