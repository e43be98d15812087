//! Where egress is kept: the database (table `egress`), or Redis where there is only that (`egress:{policy}:{subject}:{period}`,
//! which lasts as long as Redis keeps it).

use std::time::Duration;

use async_trait::async_trait;
use fred::interfaces::KeysInterface;
use futures::future::try_join_all;
use tokio::time::timeout;

use super::egress::{Account, Ledger, Unavailable};
use crate::database::Database;
use crate::on;
use crate::redis::Redis;
use crate::redis::keys::Key;

/// A request waits no longer for it.
const READ_BUDGET: Duration = Duration::from_millis(100);
/// For saving, which nobody waits for.
const WRITE_BUDGET: Duration = Duration::from_secs(5);

const READ: &str = "SELECT bytes FROM egress WHERE policy = $1 AND subject = $2 AND period = $3";
const ADD: &str = "INSERT INTO egress (policy, subject, period, ends_at, bytes) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (policy, subject, period) DO UPDATE SET bytes = egress.bytes + excluded.bytes RETURNING bytes";
const FORGET: &str = "DELETE FROM egress WHERE ends_at <= $1";

/// In the database.
pub struct InDatabase(pub Database);

#[async_trait]
impl Ledger for InDatabase {
    async fn read(&self, account: &Account) -> Result<u64, Unavailable> {
        let read = on!(&self.0, pool => timeout(READ_BUDGET, sqlx::query_scalar::<_, i64>(READ)
            .bind(&*account.policy).bind(&*account.subject).bind(signed(account.period))
            .fetch_optional(pool)).await);
        Ok(unsigned(read.map_err(|_| late())?.map_err(sql)?.unwrap_or(0)))
    }

    async fn add(&self, entries: &[(Account, u64)]) -> Result<Vec<u64>, Unavailable> {
        let adding = async {
            let mut totals = Vec::with_capacity(entries.len());
            on!(&self.0, pool => {
                let mut transaction = pool.begin().await?;
                for (account, bytes) in entries {
                    let total = sqlx::query_scalar::<_, i64>(ADD)
                        .bind(&*account.policy).bind(&*account.subject).bind(signed(account.period))
                        .bind(signed(account.ends)).bind(signed(*bytes))
                        .fetch_one(&mut *transaction).await?;
                    totals.push(unsigned(total));
                }
                transaction.commit().await?;
            });
            Ok::<_, sqlx::Error>(totals)
        };
        timeout(WRITE_BUDGET, adding).await.map_err(|_| late())?.map_err(sql)
    }

    async fn forget(&self, now: u64) -> Result<(), Unavailable> {
        let delete =
            async { on!(&self.0, pool => sqlx::query(FORGET).bind(signed(now)).execute(pool).await.map(|_| ())) };
        timeout(WRITE_BUDGET, delete).await.map_err(|_| late())?.map_err(sql)
    }
}

/// In Redis.
pub struct InRedis(pub Redis);

impl InRedis {
    fn key(&self, account: &Account) -> String {
        self.0.key(Key::Egress { policy: &account.policy, subject: &account.subject, period: account.period })
    }

    fn unavailable(&self, error: &fred::error::Error) -> Unavailable {
        Unavailable(format!("Redis: {}", self.0.words(error)))
    }
}

#[async_trait]
impl Ledger for InRedis {
    async fn read(&self, account: &Account) -> Result<u64, Unavailable> {
        let client = self.0.within(READ_BUDGET);
        let read = self.0.in_time(READ_BUDGET, client.get::<Option<i64>, _>(self.key(account))).await;
        Ok(unsigned(read.map_err(|error| self.unavailable(&error))?.unwrap_or(0)))
    }

    async fn add(&self, entries: &[(Account, u64)]) -> Result<Vec<u64>, Unavailable> {
        let client = &self.0.within(WRITE_BUDGET);
        let add = |(account, bytes): &(Account, u64)| {
            let (key, left, bytes) = (self.key(account), signed(account.left), signed(*bytes));
            async move {
                let total: i64 = client.incr_by(&key, bytes).await?;
                client.pexpire::<(), _>(&key, left, None).await?;
                Ok::<_, fred::error::Error>(unsigned(total))
            }
        };
        let added = self.0.in_time(WRITE_BUDGET, try_join_all(entries.iter().map(add))).await;
        added.map_err(|error| self.unavailable(&error))
    }

    /// Its keys expire by themselves.
    async fn forget(&self, _now: u64) -> Result<(), Unavailable> {
        Ok(())
    }
}

fn late() -> Unavailable {
    Unavailable("the database: no answer in time".to_owned())
}

fn sql(error: sqlx::Error) -> Unavailable {
    Unavailable(format!("the database: {error}"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
