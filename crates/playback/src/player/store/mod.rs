//! Store of live players: memory for one node, Redis for several. A record is replaced only by whoever has read it last,
//! so that of two changes at once neither is lost.

mod memory;
mod redis;

use std::sync::Arc;

use async_trait::async_trait;

use super::channel::PlayerKey;
use super::record::PlayerRecord;
use super::settings::Settings;
use memory::MemoryPlayerStore;
use primitives::unix_time::UnixMillis;
use redis::RedisPlayerStore;
use server_kit::redis::Redis;

/// Failure of the store. Its text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("Redis: {0}")]
pub struct PlayerStoreError(pub String);

/// Outcome of replacing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaceOutcome {
    /// The record is stored.
    Replaced,
    /// Another one was stored meanwhile: read it and try again.
    Changed,
    /// There is no room for another player, or for another one of this user.
    Full,
}

/// Store of live players.
#[async_trait]
pub trait PlayerStore: Send + Sync {
    /// Returns the player of `key`.
    async fn get(&self, key: &PlayerKey) -> Result<Option<PlayerRecord>, PlayerStoreError>;

    /// Stores `next` where the record is still the one of revision `known`, or where there is none and `known` is `None`.
    /// [`PlayerStore::due`] finds it from `deadline` on; some time after that the store may drop it.
    async fn replace(
        &self,
        key: &PlayerKey,
        known: Option<u64>,
        next: &PlayerRecord,
        deadline: UnixMillis,
    ) -> Result<ReplaceOutcome, PlayerStoreError>;

    /// Returns players whose deadline was before `now`, some hundreds at most.
    async fn due(&self, now: UnixMillis) -> Result<Vec<PlayerKey>, PlayerStoreError>;

    /// Corrects the deadline of a player.
    async fn set_deadline(&self, key: &PlayerKey, deadline: UnixMillis) -> Result<(), PlayerStoreError>;

    /// Drops a player whose record is still the one of revision `known`, or is gone.
    async fn drop_player(&self, key: &PlayerKey, known: Option<u64>) -> Result<(), PlayerStoreError>;

    /// Drops a player, whatever its record is by now.
    async fn remove_player(&self, key: &PlayerKey) -> Result<(), PlayerStoreError>;
}

/// Creates the store: over Redis where there is one, else in memory.
pub fn open(redis: Option<Redis>, settings: &Settings) -> Arc<dyn PlayerStore> {
    match redis {
        Some(redis) => Arc::new(RedisPlayerStore::new(redis)),
        None => Arc::new(MemoryPlayerStore::new(settings)),
    }
}
