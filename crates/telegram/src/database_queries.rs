//! Queries within their time, with a log of a database that does not answer.

use std::time::Duration;

use tokio::time::timeout;

use crate::Error;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use server_kit::database::Database;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Database of the bot.
pub struct BotDatabase {
    pub(crate) database: Database,
    failures: FailureLog,
}

impl BotDatabase {
    /// Creates it over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: FailureLog::default() }
    }

    /// Runs a query within its time.
    pub async fn run<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("the Telegram bot's database answers again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            tracing::warn!(error = reason, "the Telegram bot's database does not answer");
        }
        Err(Error::Unavailable)
    }
}
