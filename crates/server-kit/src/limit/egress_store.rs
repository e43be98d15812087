//! Egress stores: the database (table `egress`), or Redis without one (`egress:{policy}:{subject}:{period}`, which
//! lasts as long as Redis keeps it).

use std::time::Duration;

use async_trait::async_trait;
use fred::interfaces::KeysInterface;
use futures::future::try_join_all;
use tokio::time::timeout;

use super::egress::{EgressAccount, EgressStore, EgressStoreError};
use crate::database::Database;
use crate::on;
use crate::redis::Redis;
use crate::redis::keys::RedisKey;
use primitives::unix_time::{UnixMillis, whole_millis};

/// Timeout of a read, for which a request waits.
const READ_TIMEOUT: Duration = Duration::from_millis(100);
/// Timeout of a write, for which nobody waits.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

const READ_SQL: &str = "SELECT bytes FROM egress WHERE policy = $1 AND subject = $2 AND period = $3";
const ADD_SQL: &str = "INSERT INTO egress (policy, subject, period, ends_at, bytes) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (policy, subject, period) DO UPDATE SET bytes = egress.bytes + excluded.bytes RETURNING bytes";
const DELETE_ENDED_SQL: &str = "DELETE FROM egress WHERE ends_at <= $1";

/// Egress store over the database.
pub struct DatabaseEgressStore(pub Database);

#[async_trait]
impl EgressStore for DatabaseEgressStore {
    async fn read(&self, account: &EgressAccount) -> Result<u64, EgressStoreError> {
        let read = on!(&self.0, pool => timeout(READ_TIMEOUT, sqlx::query_scalar::<_, i64>(READ_SQL)
            .bind(&*account.policy).bind(&*account.subject).bind(signed(account.period))
            .fetch_optional(pool)).await);
        match read.map_err(|_| timed_out())? {
            Ok(bytes) => Ok(unsigned(bytes.unwrap_or(0))),
            // The row cannot exist, so nothing is counted.
            Err(error) if is_refusal(&error) => Ok(0),
            Err(error) => Err(database_error(error)),
        }
    }

    async fn add(&self, entries: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, EgressStoreError> {
        match timeout(WRITE_TIMEOUT, self.add_all(entries)).await.map_err(|_| timed_out())? {
            Ok(totals) => Ok(totals.into_iter().map(Some).collect()),
            // One bad row rolls the whole transaction back, and would do so for ever.
            Err(error) if is_refusal(&error) => self.add_each(entries).await,
            Err(error) => Err(database_error(error)),
        }
    }

    async fn delete_ended(&self, now: UnixMillis) -> Result<(), EgressStoreError> {
        let delete = async {
            on!(&self.0, pool => sqlx::query(DELETE_ENDED_SQL).bind(now.as_millis()).execute(pool).await.map(|_| ()))
        };
        timeout(WRITE_TIMEOUT, delete).await.map_err(|_| timed_out())?.map_err(database_error)
    }
}

impl DatabaseEgressStore {
    async fn add_all(&self, entries: &[(EgressAccount, u64)]) -> Result<Vec<u64>, sqlx::Error> {
        let mut totals = Vec::with_capacity(entries.len());
        on!(&self.0, pool => {
            let mut transaction = pool.begin().await?;
            for (account, bytes) in entries {
                let total = sqlx::query_scalar::<_, i64>(ADD_SQL)
                    .bind(&*account.policy).bind(&*account.subject).bind(signed(account.period))
                    .bind(account.ends.as_millis()).bind(signed(*bytes))
                    .fetch_one(&mut *transaction).await?;
                totals.push(unsigned(total));
            }
            transaction.commit().await?;
        });
        Ok(totals)
    }

    /// Saves the accounts in halves until the refused ones are known: one row keeps no other from being saved.
    async fn add_each(&self, entries: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, EgressStoreError> {
        let mut totals = vec![None; entries.len()];
        let middle = entries.len() / 2;
        let mut open = vec![0..middle, middle..entries.len()];
        while let Some(part) = open.pop() {
            match timeout(WRITE_TIMEOUT, self.add_all(&entries[part.clone()])).await {
                Ok(Ok(saved)) => totals[part].iter_mut().zip(saved).for_each(|(total, saved)| *total = Some(saved)),
                Ok(Err(error)) if is_refusal(&error) => {
                    let middle = part.start + part.len() / 2;
                    open.extend([part.start..middle, middle..part.end].into_iter().filter(|_| part.len() > 1));
                }
                // Saved rows are counted once more with the rest: too much, never too little.
                Ok(Err(error)) => return Err(database_error(error)),
                Err(_) => return Err(timed_out()),
            }
        }
        Ok(totals)
    }
}

/// Returns true if the database has read a row and will never accept it, rather than being unavailable: a string with
/// NUL, a number that is out of range (SQLSTATE classes 22 and 23; SQLite's constraint and mismatch).
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| match code.len() {
            5 => code.starts_with("22") || code.starts_with("23"),
            // The low byte is the kind, the others tell more of it.
            _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 19 | 20)),
        }),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// Egress store over Redis.
pub struct RedisEgressStore(pub Redis);

impl RedisEgressStore {
    fn key(&self, account: &EgressAccount) -> String {
        self.0.key(RedisKey::Egress { policy: &account.policy, subject: &account.subject, period: account.period })
    }

    fn unavailable(&self, error: &fred::error::Error) -> EgressStoreError {
        EgressStoreError(format!("Redis: {}", self.0.error_text(error)))
    }
}

#[async_trait]
impl EgressStore for RedisEgressStore {
    async fn read(&self, account: &EgressAccount) -> Result<u64, EgressStoreError> {
        let client = self.0.client_with_timeout(READ_TIMEOUT);
        let read = self.0.run_with_timeout(READ_TIMEOUT, client.get::<Option<i64>, _>(self.key(account))).await;
        Ok(unsigned(read.map_err(|error| self.unavailable(&error))?.unwrap_or(0)))
    }

    async fn add(&self, entries: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, EgressStoreError> {
        let client = &self.0.client_with_timeout(WRITE_TIMEOUT);
        let add = |(account, bytes): &(EgressAccount, u64)| {
            let (key, left, bytes) = (self.key(account), whole_millis(account.left), signed(*bytes));
            async move {
                let total: i64 = client.incr_by(&key, bytes).await?;
                // After the count: a key without an expiry is corrected by the next saving, a lost count would not be.
                client.pexpire::<(), _>(&key, left, None).await?;
                Ok::<_, fred::error::Error>(Some(unsigned(total)))
            }
        };
        let added = self.0.run_with_timeout(WRITE_TIMEOUT, try_join_all(entries.iter().map(add))).await;
        added.map_err(|error| self.unavailable(&error))
    }

    /// Does nothing: keys expire by themselves.
    async fn delete_ended(&self, _now: UnixMillis) -> Result<(), EgressStoreError> {
        Ok(())
    }
}

fn timed_out() -> EgressStoreError {
    EgressStoreError("the database: no answer in time".to_owned())
}

fn database_error(error: sqlx::Error) -> EgressStoreError {
    EgressStoreError(format!("the database: {error}"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
