//! Live players in Redis, for several nodes. A key holds the revision, a blank, and the record as JSON; a sorted set has
//! the players by their deadlines.

use std::time::Duration;

use async_trait::async_trait;
use fred::interfaces::{KeysInterface, SortedSetsInterface};

use super::{PlayerStore, PlayerStoreError, ReplaceOutcome};
use crate::player::channel::{ChannelId, PlayerKey};
use crate::player::record::{PlayerRecord, STOPPED_RETENTION};
use primitives::ids::UserId;
use primitives::unix_time::{UnixMillis, whole_millis};
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// Timeout of a command: somebody waits for the answer.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// Most players per look.
const DUE_BATCH: i64 = 500;
/// Script that replaces a record. ARGV: the revision that it must have, or nothing where there must be none; the record;
/// its TTL.
const REPLACE_SCRIPT: &str = "
local current = redis.call('GET', KEYS[1])
local revision = current and string.match(current, '^(%d+) ') or ''
if revision ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";
/// Script that removes a record. ARGV: the revision that it must have.
const REMOVE_SCRIPT: &str = "
local current = redis.call('GET', KEYS[1])
if current and string.match(current, '^(%d+) ') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0";

/// Store over Redis.
pub struct RedisPlayerStore(Redis);

impl RedisPlayerStore {
    /// Creates the store over `redis`.
    pub fn new(redis: Redis) -> Self {
        Self(redis)
    }

    fn key(&self, key: &PlayerKey) -> String {
        self.0.key(RedisKey::Player { user: key.user.as_str(), channel: key.channel.as_str() })
    }

    async fn drop_deadline(&self, key: &PlayerKey) -> Result<(), PlayerStoreError> {
        let client = self.0.client_with_timeout(COMMAND_TIMEOUT);
        let remove = client.zrem::<(), _, _>(self.0.key(RedisKey::PlayerDeadlines), member(key));
        self.0.run_with_timeout(COMMAND_TIMEOUT, remove).await.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &fred::error::Error) -> PlayerStoreError {
        PlayerStoreError(self.0.error_text(error))
    }

    async fn script<R: fred::types::FromValue>(
        &self,
        script: &str,
        key: &PlayerKey,
        arguments: Vec<String>,
    ) -> Result<R, PlayerStoreError> {
        let run = self.0.script(COMMAND_TIMEOUT, script, vec![self.key(key)], arguments);
        run.await.map_err(|error| self.error(&error))
    }
}

#[async_trait]
impl PlayerStore for RedisPlayerStore {
    async fn get(&self, key: &PlayerKey) -> Result<Option<PlayerRecord>, PlayerStoreError> {
        let client = self.0.client_with_timeout(COMMAND_TIMEOUT);
        let read = self.0.run_with_timeout(COMMAND_TIMEOUT, client.get::<Option<String>, _>(self.key(key)));
        let text = read.await.map_err(|error| self.error(&error))?;
        let Some((revision, json)) = text.as_deref().and_then(|text| text.split_once(' ')) else { return Ok(None) };
        if let Ok(record) = serde_json::from_str(json) {
            return Ok(Some(record));
        }
        // Another version wrote it, and nothing could replace it.
        self.script::<i64>(REMOVE_SCRIPT, key, vec![revision.to_owned()]).await?;
        Ok(None)
    }

    async fn replace(
        &self,
        key: &PlayerKey,
        known: Option<u64>,
        next: &PlayerRecord,
        deadline: UnixMillis,
    ) -> Result<ReplaceOutcome, PlayerStoreError> {
        // Before the record: one without a deadline would never be closed.
        self.set_deadline(key, deadline).await?;
        let json = serde_json::to_string(next).map_err(|error| PlayerStoreError(error.to_string()))?;
        let life = whole_millis(deadline - next.reported_at).saturating_add(whole_millis(STOPPED_RETENTION));
        let known = known.map(|known| known.to_string()).unwrap_or_default();
        let arguments = vec![known, format!("{} {json}", next.revision), life.to_string()];
        let replaced: i64 = self.script(REPLACE_SCRIPT, key, arguments).await?;
        Ok(if replaced == 1 { ReplaceOutcome::Replaced } else { ReplaceOutcome::Changed })
    }

    async fn due(&self, now: UnixMillis) -> Result<Vec<PlayerKey>, PlayerStoreError> {
        let client = self.0.client_with_timeout(COMMAND_TIMEOUT);
        let deadlines = self.0.key(RedisKey::PlayerDeadlines);
        let now = now.as_millis() as f64;
        let range = client.zrangebyscore::<Vec<String>, _, _, _>(deadlines, 0.0, now, false, Some((0, DUE_BATCH)));
        let members = self.0.run_with_timeout(COMMAND_TIMEOUT, range).await.map_err(|error| self.error(&error))?;
        Ok(members.iter().filter_map(|member| parse_member(member)).collect())
    }

    async fn set_deadline(&self, key: &PlayerKey, deadline: UnixMillis) -> Result<(), PlayerStoreError> {
        let client = self.0.client_with_timeout(COMMAND_TIMEOUT);
        // Exact: scores are doubles, and milliseconds stay below 2^53.
        let entry = (deadline.as_millis() as f64, member(key));
        let add = client.zadd::<(), _, _>(self.0.key(RedisKey::PlayerDeadlines), None, None, false, false, entry);
        self.0.run_with_timeout(COMMAND_TIMEOUT, add).await.map_err(|error| self.error(&error))
    }

    async fn drop_player(&self, key: &PlayerKey, known: Option<u64>) -> Result<(), PlayerStoreError> {
        if let Some(known) = known {
            self.script::<i64>(REMOVE_SCRIPT, key, vec![known.to_string()]).await?;
        }
        self.drop_deadline(key).await
    }

    async fn remove_player(&self, key: &PlayerKey) -> Result<(), PlayerStoreError> {
        let client = self.0.client_with_timeout(COMMAND_TIMEOUT);
        let remove = client.del::<(), _>(self.key(key));
        self.0.run_with_timeout(COMMAND_TIMEOUT, remove).await.map_err(|error| self.error(&error))?;
        self.drop_deadline(key).await
    }
}

/// Returns the member of the set of deadlines: a JSON array, since both ids may have any character.
fn member(key: &PlayerKey) -> String {
    serde_json::Value::from(vec![key.user.as_str(), key.channel.as_str()]).to_string()
}

fn parse_member(text: &str) -> Option<PlayerKey> {
    let (user, channel): (String, String) = serde_json::from_str(text).ok()?;
    Some(PlayerKey { user: UserId::parse(user)?, channel: ChannelId::parse(&channel)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_its_key_whatever_the_ids_are() {
        for (user, channel) in [("u", "main"), ("a:b\"", "[]"), ("ü", " ")] {
            let key = PlayerKey {
                user: UserId::parse(user).expect("an id"),
                channel: ChannelId::parse(channel).expect("an id"),
            };
            assert_eq!(parse_member(&member(&key)), Some(key));
        }
        assert_eq!(parse_member("u:main"), None);
    }
}
