//! What the operator says of the database.

use std::path::PathBuf;

use primitives::secret::Secret;

/// Where records are kept.
#[derive(Clone, Debug)]
pub enum Settings {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A server of PostgreSQL.
    Postgres {
        /// Its address, which may hold a password.
        url: Secret,
        /// Connections at most.
        connections: u32,
    },
}
