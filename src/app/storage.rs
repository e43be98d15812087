//! Storage of the modules' state: Redis and the database, each where the settings name one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::StartError;
use crate::config::Settings;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::health::ComponentStatus;
use server_kit::database::{self, Database, DatabaseFile, DatabaseOpenError};
use server_kit::redis::Redis;

/// Time between two health checks, and between two attempts to migrate.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time limit of a health check.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Time limit of closing a connection: the server may be gone.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The open connections.
#[derive(Clone, Default)]
pub struct StateStorage {
    /// Redis; `None`: state is kept in memory.
    pub redis: Option<Redis>,
    /// The database; `None`: nothing is recorded.
    pub database: Option<Database>,
    /// The database's file, where it is one.
    database_file: Option<DatabaseFile>,
    health: Arc<StorageHealth>,
}

/// Reason why a server could not be used when it was asked last; `None`: it could.
type LastFault = Mutex<Option<Arc<str>>>;

/// Health as it was seen last.
#[derive(Default)]
struct StorageHealth {
    redis: LastFault,
    database: LastFault,
    file_is_lost: AtomicBool,
}

impl StateStorage {
    /// Connects to the servers that the settings name. A server that does not answer stops no stream: it is tried again
    /// in the background, and what needs it answers 503 meanwhile. Fails where a URL or the schema is wrong, or the folder of the
    /// SQLite file cannot be used.
    pub async fn open(settings: &Settings, tasks: &BackgroundTasks) -> Result<Self, StartError> {
        let redis = match &settings.state {
            Some(state) => Some(Redis::connect(state).await?),
            None => None,
        };
        let database = match &settings.database {
            Some(database) => Some(Database::open(database).await?),
            None => None,
        };
        let migrated = match &database {
            Some(database) => migrate(database).await?,
            None => true,
        };
        let file = match &settings.database {
            Some(database::settings::Settings::Sqlite(path)) => {
                Some(DatabaseFile::at(path).map_err(database::DatabaseOpenError::Folder)?)
            }
            Some(database::settings::Settings::Postgres { .. }) | None => None,
        };
        let this = Self { redis, database, database_file: file, health: Arc::default() };
        this.check_health().await;
        tasks.spawn(this.clone().watch(migrated, tasks.clone()));
        Ok(this)
    }

    /// Redis, as it was seen last.
    pub fn redis_status(&self) -> ComponentStatus {
        component_status(self.redis.is_some(), &self.health.redis)
    }

    /// Reason why Redis cannot be used, for the operator.
    pub fn redis_fault(&self) -> Option<Arc<str>> {
        self.health.redis.lock().clone()
    }

    /// The database, as it was seen last.
    pub fn database_status(&self) -> ComponentStatus {
        component_status(self.database.is_some(), &self.health.database)
    }

    /// Reason why the database cannot be used, for the operator.
    pub fn database_fault(&self) -> Option<Arc<str>> {
        self.health.database.lock().clone()
    }

    /// True where the database's file was moved or removed: what is written then is lost, so the node should get no
    /// requests.
    pub fn has_lost_file(&self) -> bool {
        self.health.file_is_lost.load(Ordering::Relaxed)
    }

    async fn watch(self, mut migrated: bool, tasks: BackgroundTasks) {
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = tasks.stopping() => return,
            }
            if let (false, Some(database)) = (migrated, &self.database) {
                migrated = migrate(database).await.unwrap_or_else(|error| {
                    tracing::error!(%error, "the database cannot be used");
                    false
                });
            }
            self.check_health().await;
        }
    }

    async fn check_health(&self) {
        let redis = async {
            match &self.redis {
                Some(redis) => redis.check(LOOK_LIMIT).await.err(),
                None => None,
            }
        };
        let database = async {
            match &self.database {
                Some(database) => database.check(LOOK_LIMIT).await.err(),
                None => None,
            }
        };
        let (redis, database) = tokio::join!(redis, database);
        let lost = self.database_file.as_ref().and_then(|file| file.check().err());
        if lost.is_some() != self.health.file_is_lost.swap(lost.is_some(), Ordering::Relaxed) {
            match lost {
                Some(error) => tracing::error!(
                    %error,
                    "the file of the database (Database.Url) is not where it was opened: nothing is kept; put it back, or restart"
                ),
                None => tracing::info!("the file of the database (Database.Url) is back"),
            }
        }
        *self.health.redis.lock() = redis.map(Arc::from);
        *self.health.database.lock() = database.map(Arc::from);
    }

    /// Closes them.
    pub async fn close(self) {
        if let Some(redis) = self.redis {
            // Whoever is gone already needs no farewell.
            let _ = redis.close(CLOSE_LIMIT).await;
        }
        if let Some(database) = self.database {
            let _ = timeout(CLOSE_LIMIT, database.close()).await;
        }
    }
}

/// False where the server does not answer yet; any other failure is an error.
async fn migrate(database: &Database) -> Result<bool, DatabaseOpenError> {
    match database.migrate().await {
        Ok(_) => Ok(true),
        Err(error) if error.is_unreachable() => {
            tracing::warn!(%error, "the database (Database.Url) does not answer: going on without it, and trying again");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn component_status(configured: bool, fault: &LastFault) -> ComponentStatus {
    match (configured, fault.lock().is_some()) {
        (false, _) => ComponentStatus::Disabled,
        (true, false) => ComponentStatus::Ok,
        (true, true) => ComponentStatus::Unavailable,
    }
}
