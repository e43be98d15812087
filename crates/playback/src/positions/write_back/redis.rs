//! Dirty positions in Redis: a hash per user with a field per film, and per shard a sorted set of what is dirty, by the
//! time at which it is due, with its size in bytes. A user's keys and those of the user's shard are on one node of a
//! cluster, so that one script writes them all.

use std::time::Duration;

use fred::interfaces::{HashesInterface, KeysInterface, SortedSetsInterface};
use futures::future::try_join_all;

use crate::positions::settings::Settings;
use crate::positions::store::PositionStoreError;
use crate::positions::{ItemKind, PositionKey, PositionRecord};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::{UnixMillis, whole_millis};
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// Shards: enough to spread over the nodes of a cluster, few enough to look at each once a second. Never changed: the
/// marks of a shard that is gone would stay.
pub const SHARDS: u16 = 16;
/// Timeout of a command for which a player waits.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of a command for which nobody waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which the node that writes a shard keeps it.
const LEASE: Duration = Duration::from_secs(15);
/// Positions that are not dirty and stay in a user's hash; beyond them they go as soon as the database has them.
const MAX_CLEAN: u32 = 100;
/// Approximate bytes of a dirty position besides its ids, in the hash and in the sorted set.
const ENTRY_OVERHEAD: usize = 200;
/// Ending of a value that is in the database.
const CLEAN: &str = " c";
/// Script that saves a position and marks it dirty. KEYS: hash, marks, bytes. ARGV: field, the player's time or nothing,
/// position, length, time of the report, member, due, cost, most bytes, most fields. Returns what became of it, and the
/// time that counts: by the clock of Redis, which is one for all nodes.
const SAVE_SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', math.min(tonumber(ARGV[2]) or now, now))
local old, d = redis.call('HGET', KEYS[1], ARGV[1]), ARGV[4]
if old then
    local ot, od = string.match(old, '^(%d+) %S+ (%S+)')
    if ot and tonumber(ot) > tonumber(at) then return {'outdated', at} end
    if d == '-' and od then d = od end
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[10]) then
    return {'full', at}
end
if redis.call('ZSCORE', KEYS[2], ARGV[6]) then
    redis.call('ZADD', KEYS[2], 'LT', ARGV[7], ARGV[6])
else
    if tonumber(redis.call('GET', KEYS[3]) or '0') + tonumber(ARGV[8]) > tonumber(ARGV[9]) then return {'full', at} end
    redis.call('ZADD', KEYS[2], ARGV[7], ARGV[6])
    redis.call('INCRBY', KEYS[3], ARGV[8])
end
redis.call('HSET', KEYS[1], ARGV[1], at .. ' ' .. ARGV[3] .. ' ' .. d .. ' ' .. ARGV[5])
redis.call('PERSIST', KEYS[1])
return {'saved', at}";
/// Script that takes due members, by one node at a time. KEYS: marks, lease. ARGV: now, most, the node, the lease.
const TAKE_SCRIPT: &str = "
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due == 0 then return due end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[3] then return {} end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return due";
/// Script that clears the mark of a position that was written, unless there is another one by now; that is due later.
/// KEYS: hash, marks, bytes. ARGV: field, value or nothing, member, cost, TTL, due, most clean fields.
const CLEAR_SCRIPT: &str = "
local now = redis.call('HGET', KEYS[1], ARGV[1])
if now and now ~= ARGV[2] and now ~= ARGV[2] .. ' c' then
    redis.call('ZADD', KEYS[2], 'XX', ARGV[6], ARGV[3])
    return 0
end
if redis.call('ZREM', KEYS[2], ARGV[3]) == 1 then redis.call('DECRBY', KEYS[3], ARGV[4]) end
if not now then return 1 end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[7]) then
    redis.call('HDEL', KEYS[1], ARGV[1])
else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' c')
end
for _, value in ipairs(redis.call('HVALS', KEYS[1])) do
    if string.sub(value, -2) ~= ' c' then return 1 end
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1";

/// Outcome of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveReply {
    /// It is stored and marked, with this time.
    Saved(UnixMillis),
    /// A newer one is stored.
    Outdated,
    /// More waits for the database than may wait.
    Full,
}

/// Position that is not in the database yet.
#[derive(Clone, Debug)]
pub struct DirtyPosition {
    key: PositionKey,
    /// Stored text; empty if there is none any more.
    value: String,
    /// Position, if there is one and it can be read.
    pub record: Option<PositionRecord>,
}

impl DirtyPosition {
    /// Returns the one that a save of `record` has stored.
    pub fn of(record: PositionRecord) -> Self {
        Self { key: record.key.clone(), value: value(&record), record: Some(record) }
    }
}

/// Dirty positions of all users.
pub struct DirtyPositions {
    redis: Redis,
    /// Name of this process among those that write.
    node: String,
    ttl: Duration,
    shard_bytes: u64,
    max_fields: u32,
}

impl DirtyPositions {
    /// Creates the positions over `redis`.
    pub fn new(redis: Redis, settings: &Settings) -> Self {
        let shard_bytes = settings.write_back.max_bytes / u64::from(SHARDS);
        let (ttl, max_fields) = (settings.write_back.cache_ttl, settings.max_items_per_user);
        Self { redis, node: uuid::Uuid::now_v7().to_string(), ttl, shard_bytes, max_fields }
    }

    /// Saves `record` unless a newer one is stored, and marks it dirty; it is due at `due`. Its time is the player's, `at`, or now,
    /// by the clock of Redis: those of the nodes may differ, or be put back.
    pub async fn save(
        &self,
        record: &PositionRecord,
        at: Option<UnixMillis>,
        due: UnixMillis,
    ) -> Result<SaveReply, PositionStoreError> {
        let key = &record.key;
        let text = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let arguments = vec![
            key.item.as_str().to_owned(),
            at.map(|at| at.to_string()).unwrap_or_default(),
            text(record.position),
            text(record.duration),
            record.reported_at.to_string(),
            member(key),
            due.to_string(),
            cost(key).to_string(),
            self.shard_bytes.to_string(),
            self.max_fields.to_string(),
        ];
        let reply: Vec<String> = self.redis.script(COMMAND_TIMEOUT, SAVE_SCRIPT, self.keys(key), arguments).await?;
        let at = reply.get(1).and_then(|at| at.parse().ok()).map_or(record.updated_at, UnixMillis::new);
        Ok(match reply.first().map(String::as_str) {
            Some("saved") => SaveReply::Saved(at),
            Some("outdated") => SaveReply::Outdated,
            _ => SaveReply::Full,
        })
    }

    /// Returns what is stored of `key`, dirty or not.
    pub async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        Ok(parse(key, &self.read(key, COMMAND_TIMEOUT).await?))
    }

    /// Returns the dirty positions of a user.
    pub async fn of_user(&self, user: &UserId) -> Result<Vec<PositionRecord>, PositionStoreError> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let fields: Vec<(String, String)> =
            self.redis.run_with_timeout(COMMAND_TIMEOUT, client.hgetall(self.hash(user))).await?;
        let dirty = fields.into_iter().filter(|(_, value)| !value.ends_with(CLEAN));
        let record = |(item, value): (String, String)| {
            let key = PositionKey { user: user.clone(), kind: ItemKind::Film, item: TrackId::parse(item)? };
            parse(&key, &value)
        };
        Ok(dirty.filter_map(record).collect())
    }

    /// Returns positions of a shard that are due, at most `most`; none while another node writes that shard.
    pub async fn take_due(
        &self,
        shard: u16,
        now: UnixMillis,
        most: usize,
    ) -> Result<Vec<DirtyPosition>, PositionStoreError> {
        let keys = [RedisKey::DirtyPositions { shard }, RedisKey::PositionFlusher { shard }];
        let keys = keys.map(|key| self.redis.key(key)).to_vec();
        let arguments = vec![now.to_string(), most.to_string(), self.node.clone(), whole_millis(LEASE).to_string()];
        let members: Vec<String> = self.redis.script(FLUSH_TIMEOUT, TAKE_SCRIPT, keys, arguments).await?;
        let due = members.iter().filter_map(|member| parse_member(member));
        try_join_all(due.map(async |key| {
            let value = self.read(&key, FLUSH_TIMEOUT).await?;
            let record = parse(&key, &value);
            Ok(DirtyPosition { key, value, record })
        }))
        .await
    }

    /// Clears the marks of what was written; what has changed since is due at `later`.
    pub async fn clear(&self, written: &[DirtyPosition], later: UnixMillis) -> Result<(), PositionStoreError> {
        let clear = async |DirtyPosition { key, value, .. }: &DirtyPosition| {
            let arguments = vec![
                key.item.as_str().to_owned(),
                value.strip_suffix(CLEAN).unwrap_or(value).to_owned(),
                member(key),
                cost(key).to_string(),
                whole_millis(self.ttl).to_string(),
                later.to_string(),
                MAX_CLEAN.to_string(),
            ];
            self.redis.script::<i64>(FLUSH_TIMEOUT, CLEAR_SCRIPT, self.keys(key), arguments).await
        };
        try_join_all(written.iter().map(clear)).await?;
        Ok(())
    }

    /// Returns the number of dirty positions and their bytes.
    pub async fn backlog(&self) -> Result<(i64, i64), PositionStoreError> {
        let client = self.redis.client_with_timeout(FLUSH_TIMEOUT);
        let (mut entries, mut bytes) = (0, 0);
        for shard in 0..SHARDS {
            let (marks, size) = (RedisKey::DirtyPositions { shard }, RedisKey::DirtyPositionBytes { shard });
            let count = client.zcard::<i64, _>(self.redis.key(marks));
            entries += self.redis.run_with_timeout(FLUSH_TIMEOUT, count).await?;
            let size = client.get::<Option<i64>, _>(self.redis.key(size));
            bytes += self.redis.run_with_timeout(FLUSH_TIMEOUT, size).await?.unwrap_or_default();
        }
        Ok((entries, bytes))
    }

    async fn read(&self, key: &PositionKey, budget: Duration) -> Result<String, PositionStoreError> {
        let client = self.redis.client_with_timeout(budget);
        let value = client.hget::<Option<String>, _, _>(self.hash(&key.user), key.item.as_str());
        Ok(self.redis.run_with_timeout(budget, value).await?.unwrap_or_default())
    }

    fn hash(&self, user: &UserId) -> String {
        self.redis.key(RedisKey::FilmPositions { shard: shard(user), user: user.as_str() })
    }

    /// Returns hash, marks and bytes of a position.
    fn keys(&self, key: &PositionKey) -> Vec<String> {
        let shard = shard(&key.user);
        let marks = self.redis.key(RedisKey::DirtyPositions { shard });
        vec![self.hash(&key.user), marks, self.redis.key(RedisKey::DirtyPositionBytes { shard })]
    }
}

/// Returns the shard of a user, by FNV-1a, which all versions of the program compute alike.
fn shard(user: &UserId) -> u16 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let hash = user.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    (hash % u64::from(SHARDS)) as u16
}

/// Returns the member of the marks for a film: the length of the user's id, the id, and the film's.
fn member(key: &PositionKey) -> String {
    let user = key.user.as_str();
    format!("{}:{user}{}", user.len(), key.item.as_str())
}

fn parse_member(text: &str) -> Option<PositionKey> {
    let (length, rest) = text.split_once(':')?;
    let (user, item) = rest.split_at_checked(length.parse().ok()?)?;
    Some(PositionKey { user: UserId::parse(user)?, kind: ItemKind::Film, item: TrackId::parse(item)? })
}

/// Returns the approximate bytes of a dirty position.
fn cost(key: &PositionKey) -> usize {
    ENTRY_OVERHEAD + 2 * key.user.as_str().len() + 2 * key.item.as_str().len()
}

fn value(record: &PositionRecord) -> String {
    let text = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let PositionRecord { position, duration, updated_at, reported_at, .. } = record;
    format!("{updated_at} {} {} {reported_at}", text(*position), text(*duration))
}

fn parse(key: &PositionKey, text: &str) -> Option<PositionRecord> {
    let mut words = text.split(' ');
    let updated_at = UnixMillis::new(words.next()?.parse().ok()?);
    let (position, duration) = (words.next()?.parse().ok(), words.next()?.parse().ok());
    let reported_at = UnixMillis::new(words.next()?.parse().ok()?);
    Some(PositionRecord { key: key.clone(), position, duration, updated_at, reported_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: &str, item: &str) -> PositionKey {
        let (user, item) = (UserId::parse(user).expect("an id"), TrackId::parse(item).expect("an id"));
        PositionKey { user, kind: ItemKind::Film, item }
    }

    #[test]
    fn a_member_comes_back_as_it_was_whatever_is_in_the_ids() {
        for key in [key("u", "m"), key("a:b", "1:x"), key("ü", "%"), key("1", "2:34")] {
            assert_eq!(parse_member(&member(&key)), Some(key));
        }
        for text in ["", "u:m", "9:um", "1:ü", "0:m"] {
            assert_eq!(parse_member(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_comes_back_as_it_was_dirty_or_not() {
        let record = PositionRecord {
            key: key("u", "m"),
            position: Some(5),
            duration: None,
            updated_at: UnixMillis::new(7),
            reported_at: UnixMillis::new(8),
        };
        let text = value(&record);
        assert_eq!(text, "7 5 - 8");
        assert_eq!(parse(&record.key, &text), Some(record.clone()));
        assert_eq!(parse(&record.key, &format!("{text}{CLEAN}")), Some(record));
    }

    #[test]
    fn the_shard_of_a_user_never_changes() {
        let shards = ["alice", "bob", "u-1"].map(|user| shard(&UserId::parse(user).expect("an id")));
        assert_eq!(shards, SHARDS_OF_USERS);
    }

    /// Shards that nodes of other versions use too.
    const SHARDS_OF_USERS: [u16; 3] = [7, 4, 2];
}
