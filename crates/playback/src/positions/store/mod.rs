//! Where positions are kept: a port with three ways to fill it, by what is configured.

mod fronted;
mod records;
mod shared;

use std::sync::Arc;

use async_trait::async_trait;

use super::metrics::Numbers;
use super::settings::Settings;
use super::{Entry, Key, Kind, Page};
use fronted::Fronted;
use primitives::clock::Clock;
use records::Records;
use server_kit::database::Database;
use server_kit::redis::Redis;
use shared::Shared;

/// The store did not do it, or did not say so in time. Its text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Away {
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// Redis.
    #[error("Redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// Time ran out.
    #[error("no answer in time")]
    Late,
}

impl Away {
    /// Time ran out.
    pub fn late() -> Self {
        Self::Late
    }
}

/// Where a list goes on: behind the entry with these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    at: i64,
    kind: Kind,
    item: String,
}

impl Mark {
    /// Behind `entry`.
    pub fn of(entry: &Entry) -> Self {
        Self { at: entry.at, kind: entry.key.kind, item: entry.key.item.clone() }
    }

    /// As a cursor holds it.
    pub fn text(&self) -> String {
        format!("{} {} {}", self.at, self.kind.name(), self.item)
    }

    /// What [`Mark::text`] wrote.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (at, kind, item) = (words.next()?, words.next()?, words.next()?);
        Some(Self { at: at.parse().ok()?, kind: Kind::named(kind)?, item: item.to_owned() })
    }
}

/// What a list asks for.
pub struct Listing<'a> {
    /// Whose.
    pub user: &'a str,
    /// Of this kind only.
    pub kind: Option<Kind>,
    /// Behind this.
    pub after: Option<&'a Mark>,
    /// Reported since then.
    pub since: i64,
    /// So many at most.
    pub count: usize,
}

/// The port.
#[async_trait]
pub trait Store: Send + Sync {
    /// Keeps each entry unless a newer one is there; of two of one time the later call's is kept. A length that an entry
    /// does not know stays as it was. All are kept when this returns.
    async fn save(&self, entries: &[Entry]) -> Result<(), Away>;

    /// Tells of `entries`, which are kept, whoever answers for the store; whoever reports them waits for it, the next commit
    /// does not.
    async fn tell(&self, _entries: &[Entry]) {}

    /// The entry of `key`, cleared ones too.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, Away>;

    /// Entries with a position, by time (the newest first), kind and item; `next` unless that was all.
    async fn list(&self, listing: &Listing<'_>) -> Result<Page, Away>;

    /// Removes entries that were reported before `before`.
    async fn sweep(&self, before: i64) -> Result<(), Away>;

    /// Makes good, for as long as it runs, what whoever answers for the store has missed.
    async fn reconcile(&self) {
        std::future::pending().await
    }
}

/// The store for what there is.
pub fn open(
    database: Option<Database>,
    redis: Option<Redis>,
    settings: &Settings,
    clock: &Clock,
    numbers: &Numbers,
) -> Option<Arc<dyn Store>> {
    let shared = |redis| Shared::new(redis, settings.ttl, clock.clone());
    Some(match (database.map(|database| Records::new(database, settings.ttl, clock.clone())), redis.map(shared)) {
        (Some(records), Some(shared)) => Arc::new(Fronted::new(records, shared, clock.clone(), numbers.clone())),
        (Some(records), None) => Arc::new(records),
        (None, Some(shared)) => Arc::new(shared),
        (None, None) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was_and_anything_else_is_refused() {
        let mark = Mark { at: 17, kind: Kind::Film, item: "a b/ü".to_owned() };
        assert_eq!(Mark::read(&mark.text()), Some(mark));
        for text in ["", "17", "17 song a", "x film a"] {
            assert_eq!(Mark::read(text), None, "{text}");
        }
    }
}
