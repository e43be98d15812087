//! Database: one SQL for SQLite (embedded) and PostgreSQL, and the migrations of both.
//!
//! Owns opening and migrating. Knows no table: each module has an adapter file with its own SQL, written once for both
//! (`$1` parameters, `ON CONFLICT … DO UPDATE`, `RETURNING`, `BIGINT` and `TEXT`; times are milliseconds since the Unix
//! epoch) and run through [`on!`](crate::on).

mod file;
pub mod settings;

use std::future::ready;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgPool, SqlitePool};
use tokio::time::timeout;

pub use file::DatabaseFile;
use primitives::failure_log::{chain, line};
use settings::Settings;

/// Timeout of taking a connection from the pool, including its creation.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which SQLite waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Migrations in their order; numbered, never changed once released.
static MIGRATIONS: Migrator = sqlx::migrate!("src/database/migrations");

/// The database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseOpenError {
    /// The address.
    #[error("Database.Url cannot be used: expected sqlite://PATH or postgres://USER@HOST/NAME")]
    BadUrl,
    /// The folder of the file.
    #[error("the folder of the database cannot be made: {0}")]
    Folder(#[from] std::io::Error),
    /// The server does not answer, or not as a database.
    #[error("the database cannot be opened: {0}")]
    Open(#[from] sqlx::Error),
    /// Its tables.
    #[error("the database cannot be migrated: {0}")]
    Migrate(#[from] MigrateError),
}

impl DatabaseOpenError {
    /// Returns true if the server does not answer (yet), so that another try may succeed.
    pub fn is_unreachable(&self) -> bool {
        let error = match self {
            Self::Open(error) | Self::Migrate(MigrateError::Execute(error)) => error,
            Self::BadUrl | Self::Folder(_) | Self::Migrate(_) => return false,
        };
        match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
            // 57P03: it is starting or stopping (PostgreSQL, appendix A).
            sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
            _ => false,
        }
    }
}

/// Pool of connections. Clones share it.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// Runs `$body` with `$pool` bound to the pool of whichever database `$database` is: one text of SQL, two drivers.
#[macro_export]
macro_rules! on {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            $crate::database::Database::Sqlite($pool) => $body,
            $crate::database::Database::Postgres($pool) => $body,
        }
    };
}

impl Database {
    /// Opens the database and migrates it. A server that does not answer yet is no error where it was migrated before:
    /// see [`Database::migrate`].
    pub async fn open(settings: &Settings) -> Result<Self, DatabaseOpenError> {
        match settings {
            Settings::Sqlite(path) => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    // Readers and the one writer do not block each other.
                    .journal_mode(SqliteJournalMode::Wal)
                    // What was committed survives the end of the process; only a loss of power may lose the last commits.
                    .synchronous(SqliteSynchronous::Normal)
                    .foreign_keys(true)
                    .busy_timeout(BUSY_TIMEOUT);
                // Creates the file once; the pool below must not.
                options.connect().await?.close().await?;
                // From now on a file that is missing is an error, and not a reason to begin a new one.
                let (options, file) = (options.create_if_missing(false), DatabaseFile::at(path)?);
                let (connected, kept) = (file.clone(), file);
                let pool = SqlitePoolOptions::new()
                    // SQLite has one writer at a time; more connections would only wait for it.
                    .max_connections(4)
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .after_connect(move |_, _| Box::pin(ready(connected.check().map_err(sqlx::Error::Io))))
                    // A connection to a file that is gone is not used again: its writes would be lost.
                    .before_acquire(move |_, _| Box::pin(ready(Ok(kept.check().is_ok()))));
                Ok(Self::Sqlite(pool.connect_with(options).await?))
            }
            Settings::Postgres { url, connections } => {
                let options: PgConnectOptions = url.expose().parse().map_err(|_| DatabaseOpenError::BadUrl)?;
                let pool = PgPoolOptions::new().max_connections(*connections).acquire_timeout(ACQUIRE_TIMEOUT);
                // Lazily: a server that does not answer yet must not keep the proxy from starting.
                Ok(Self::Postgres(pool.connect_lazy_with(options.application_name("tidegate"))))
            }
        }
    }

    /// Migrates the tables; returns the number of migrations.
    pub async fn migrate(&self) -> Result<usize, DatabaseOpenError> {
        on!(self, pool => MIGRATIONS.run(pool).await)?;
        Ok(MIGRATIONS.iter().count())
    }

    /// Checks that the database answers within `limit`; an error is the reason, in its own or the system's words, for
    /// the operator.
    pub async fn check(&self, limit: Duration) -> Result<(), String> {
        let asked = async { on!(self, pool => sqlx::query("SELECT 1").execute(pool).await.map(|_| ())) };
        let error = match timeout(limit, asked).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        // A pool retries until its time is up, and then reports only the timeout.
        let reason = match (error, self) {
            (None | Some(sqlx::Error::PoolTimedOut), Self::Postgres(pool)) => {
                // A connection of its own tells the reason that the pool keeps to itself.
                let connected = timeout(limit, pool.connect_options().connect()).await;
                connected.ok().and_then(Result::err)
            }
            (error, _) => error,
        };
        Err(reason.map_or_else(|| "no answer in time".to_owned(), |error| line(&chain(&error)).to_owned()))
    }

    /// Closes the connections once running queries have ended.
    pub async fn close(&self) {
        on!(self, pool => pool.close().await);
    }
}
