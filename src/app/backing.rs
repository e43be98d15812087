//! What the modules keep things in: Redis and the database, each where the settings name one.

use super::StartError;
use crate::config::Settings;
use crate::database::Database;
use crate::redis::Redis;

/// The open connections.
#[derive(Clone, Default)]
pub struct Backing {
    /// Redis; `None`: state is kept in memory.
    pub redis: Option<Redis>,
    /// The database; `None`: nothing is recorded.
    pub database: Option<Database>,
}

impl Backing {
    /// Connects to what the settings name.
    pub async fn open(settings: &Settings) -> Result<Self, StartError> {
        let redis = match &settings.state {
            Some(state) => Some(Redis::connect(state).await?),
            None => None,
        };
        let database = match &settings.database {
            Some(database) => Some(Database::open(database).await?),
            None => None,
        };
        if let Some(database) = &database {
            database.migrate().await?;
        }
        Ok(Self { redis, database })
    }

    /// Closes them.
    pub async fn close(self) {
        if let Some(redis) = self.redis {
            // Whoever is gone already needs no farewell.
            let _ = redis.close().await;
        }
        if let Some(database) = self.database {
            database.close().await;
        }
    }
}
