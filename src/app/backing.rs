//! What the modules keep things in: Redis and the database, each where the settings name one.

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

/// Between two looks at whether they answer, and two tries to migrate.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For an answer to a look.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// For the farewell to a server, which may not be there.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The open connections.
#[derive(Clone, Default)]
pub struct Backing {
    /// Redis; `None`: state is kept in memory.
    pub redis: Option<Redis>,
    /// The database; `None`: nothing is recorded.
    pub database: Option<Database>,
    /// The database's file, where it is one.
    file: Option<DatabaseFile>,
    looks: Arc<Looks>,
}

/// Reason why a server could not be used when it was asked last; `None`: it could.
type Fault = Mutex<Option<Arc<str>>>;

/// What was seen last.
#[derive(Default)]
struct Looks {
    redis: Fault,
    database: Fault,
    file_is_lost: AtomicBool,
}

impl Backing {
    /// Connects to what the settings name. A server that does not answer keeps nobody from streaming: it is waited for
    /// beside, and what needs it answers 503 meanwhile.
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
        let this = Self { redis, database, file, looks: Arc::default() };
        this.look().await;
        tasks.spawn(this.clone().watch(migrated, tasks.clone()));
        Ok(this)
    }

    /// Redis, as it was seen last.
    pub fn redis_part(&self) -> ComponentStatus {
        part(self.redis.is_some(), &self.looks.redis)
    }

    /// Reason why Redis cannot be used, for the operator.
    pub fn redis_fault(&self) -> Option<Arc<str>> {
        self.looks.redis.lock().clone()
    }

    /// The database, as it was seen last.
    pub fn database_part(&self) -> ComponentStatus {
        part(self.database.is_some(), &self.looks.database)
    }

    /// Reason why the database cannot be used, for the operator.
    pub fn database_fault(&self) -> Option<Arc<str>> {
        self.looks.database.lock().clone()
    }

    /// Whether the database's file was moved or removed: what this node keeps nobody has, so it should be sent nobody.
    pub fn has_lost_file(&self) -> bool {
        self.looks.file_is_lost.load(Ordering::Relaxed)
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
            self.look().await;
        }
    }

    async fn look(&self) {
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
        let lost = self.file.as_ref().and_then(|file| file.check().err());
        if lost.is_some() != self.looks.file_is_lost.swap(lost.is_some(), Ordering::Relaxed) {
            match lost {
                Some(error) => tracing::error!(
                    %error,
                    "the file of the database (Database.Url) is not where it was opened: nothing is kept; put it back, or restart"
                ),
                None => tracing::info!("the file of the database (Database.Url) is back"),
            }
        }
        *self.looks.redis.lock() = redis.map(Arc::from);
        *self.looks.database.lock() = database.map(Arc::from);
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

fn part(configured: bool, fault: &Fault) -> ComponentStatus {
    match (configured, fault.lock().is_some()) {
        (false, _) => ComponentStatus::Disabled,
        (true, false) => ComponentStatus::Ok,
        (true, true) => ComponentStatus::Unavailable,
    }
}
