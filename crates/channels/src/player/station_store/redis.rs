//! Stations in Redis, for several nodes: who plays a channel and what, under keys that expire, and what was played, in a list.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::FromValue;

use crate::channel::ChannelId;
use crate::player::station::{MAX_HISTORY, PlayedRecord, StationRecord, StationStore};
use crate::queue::store::{COMMAND_TIMEOUT, ClaimToken, QueueStoreError};
use primitives::unix_time::whole_millis;
use server_kit::redis::Redis;
use server_kit::redis::keys::{QueueKeyPart, RedisKey};

/// Names of the keys, in the order of [`RedisStationStore::run`].
const PRELUDE: &str = "local player, station, history = KEYS[1], KEYS[2], KEYS[3]\n";
/// ARGV: token, life.
const HOLD: &str = "
local holder = redis.call('GET', player)
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', player, ARGV[1], 'PX', ARGV[2])
return 1";
/// ARGV: token.
const LET_GO: &str = "
if redis.call('GET', player) == ARGV[1] then redis.call('DEL', player, station) end
return 1";
/// ARGV: token, record, life.
const SET_RECORD: &str = "
if redis.call('GET', player) ~= ARGV[1] then return 0 end
redis.call('SET', station, ARGV[2], 'PX', ARGV[3])
return 1";
const RECORD: &str = "return redis.call('GET', station) or ''";
/// ARGV: record, most records.
const ADD_PLAYED: &str = "
redis.call('LPUSH', history, ARGV[1])
redis.call('LTRIM', history, 0, ARGV[2] - 1)
return 1";
const HISTORY: &str = "return redis.call('LRANGE', history, 0, -1)";

/// Store over Redis.
pub struct RedisStationStore(Redis);

impl RedisStationStore {
    /// Creates the store over `redis`.
    pub fn new(redis: Redis) -> Self {
        Self(redis)
    }

    async fn run<R: FromValue>(
        &self,
        channel: &ChannelId,
        script: &str,
        arguments: Vec<String>,
    ) -> Result<R, QueueStoreError> {
        let parts = [QueueKeyPart::Player, QueueKeyPart::Station, QueueKeyPart::History];
        let keys = parts.map(|part| self.0.key(RedisKey::Queue { channel: channel.as_str(), part }));
        let run = self.0.script(COMMAND_TIMEOUT, &format!("{PRELUDE}{script}"), keys.to_vec(), arguments).await;
        run.map_err(|error| QueueStoreError(self.0.error_text(&error)))
    }
}

#[async_trait]
impl StationStore for RedisStationStore {
    async fn hold(&self, channel: &ChannelId, token: ClaimToken, life: Duration) -> Result<bool, QueueStoreError> {
        let arguments = vec![token.0.to_string(), whole_millis(life).to_string()];
        Ok(self.run::<i64>(channel, HOLD, arguments).await? == 1)
    }

    async fn let_go(&self, channel: &ChannelId, token: ClaimToken) -> Result<(), QueueStoreError> {
        self.run::<i64>(channel, LET_GO, vec![token.0.to_string()]).await.map(drop)
    }

    async fn set_record(
        &self,
        channel: &ChannelId,
        token: ClaimToken,
        record: &StationRecord,
        life: Duration,
    ) -> Result<(), QueueStoreError> {
        let arguments = vec![token.0.to_string(), json(record)?, whole_millis(life).to_string()];
        self.run::<i64>(channel, SET_RECORD, arguments).await.map(drop)
    }

    async fn record(&self, channel: &ChannelId) -> Result<Option<StationRecord>, QueueStoreError> {
        let text: String = self.run(channel, RECORD, Vec::new()).await?;
        // What another version wrote and this one cannot read is said again soon.
        Ok(serde_json::from_str(&text).ok())
    }

    async fn add_played(&self, channel: &ChannelId, played: &PlayedRecord) -> Result<(), QueueStoreError> {
        let arguments = vec![json(played)?, MAX_HISTORY.to_string()];
        self.run::<i64>(channel, ADD_PLAYED, arguments).await.map(drop)
    }

    async fn history(&self, channel: &ChannelId) -> Result<Vec<PlayedRecord>, QueueStoreError> {
        let texts: Vec<String> = self.run(channel, HISTORY, Vec::new()).await?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, QueueStoreError> {
    serde_json::to_string(value).map_err(|error| QueueStoreError(error.to_string()))
}
