//! Queues in Redis, for several nodes. All keys of a channel are on one node of a cluster, and each operation is one script.
//!
//! | key | type | content |
//! |---|---|---|
//! | `queue:{channel}` | sorted set | ids of items that wait, by their turn |
//! | `…:items` | hash | record of each item by its id, claimed ones too |
//! | `…:claims` | hash | `until since token` of each claimed item by its id |
//! | `…:tracks` | hash | id of the item by its track |
//! | `…:use` | hash | items and bytes: `n`, `b`, and `n:user`, `b:user` of each user |
//! | `…:lapsed` | hash | how often an item's player has vanished |
//! | `…:playlist` | list | records of the playlist that were not played yet |

use std::collections::HashMap;

use async_trait::async_trait;
use fred::types::FromValue;
use uuid::Uuid;

use super::{
    AddOutcome, COMMAND_TIMEOUT, ClaimOutcome, ClaimRequest, ClaimToken, MAX_LAPSED_CLAIMS, QueueSnapshot, QueueStore,
    QueueStoreError, RemoveOutcome, Renewal, WaitingItem,
};
use crate::channel::ChannelId;
use crate::queue::item::QueueItem;
use crate::settings::QueueSettings;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::redis::Redis;
use server_kit::redis::keys::{QueueKeyPart, RedisKey};

/// Functions that several scripts share. KEYS are those of [`RedisQueueStore::keys`], in their order.
const PRELUDE: &str = "
local queue, items, claims, tracks, use, lapsed, playlist = unpack(KEYS)
local function count(user, n, bytes)
    redis.call('HINCRBY', use, 'n', n)
    redis.call('HINCRBY', use, 'b', bytes)
    redis.call('HINCRBY', use, 'b:' .. user, bytes)
    if redis.call('HINCRBY', use, 'n:' .. user, n) <= 0 then
        redis.call('HDEL', use, 'n:' .. user, 'b:' .. user)
    end
end
local function forget(id, text)
    redis.call('ZREM', queue, id)
    redis.call('HDEL', items, id)
    redis.call('HDEL', claims, id)
    redis.call('HDEL', lapsed, id)
    local item = cjson.decode(text)
    if item.source == 'request' then
        redis.call('HDEL', tracks, item.track)
        count(item.user, -1, -#text)
    end
end
local function wait_again(id, text)
    redis.call('HDEL', claims, id)
    redis.call('ZADD', queue, 'NX', string.format('%.0f', cjson.decode(text).turn_at), id)
end
local function give_back(id, text)
    if not text then
        redis.call('HDEL', claims, id)
    elseif cjson.decode(text).source == 'playlist' then
        forget(id, text)
        redis.call('LPUSH', playlist, text)
    else
        wait_again(id, text)
    end
end
local function is_claimed_by(id, token)
    local claim = redis.call('HGET', claims, id)
    return claim and string.match(claim, '(%S+)$') == token
end
";
/// ARGV: id, record, user, track, turn, most items and bytes of the channel, and of a user.
const ADD: &str = "
local id, text, user, track, turn = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('HEXISTS', tracks, track) == 1 then return 'duplicate' end
local function has_room(n, b, most, most_bytes)
    local used, bytes = redis.call('HGET', use, n) or 0, redis.call('HGET', use, b) or 0
    return tonumber(used) < tonumber(most) and tonumber(bytes) + #text <= tonumber(most_bytes)
end
if not has_room('n:' .. user, 'b:' .. user, ARGV[8], ARGV[9]) then return 'user-full' end
if not has_room('n', 'b', ARGV[6], ARGV[7]) then return 'channel-full' end
redis.call('HSET', items, id, text)
redis.call('HSET', tracks, track, id)
redis.call('ZADD', queue, 'NX', turn, id)
count(user, 1, #text)
return 'added'";
/// ARGV: id, and the user whose it must be, or nothing. A claim stays until it lapses, without its token: its player learns that the
/// item was taken out, and can tell that from a store that was emptied.
const REMOVE: &str = "
local text = redis.call('HGET', items, ARGV[1])
if not text then return 'missing' end
if ARGV[2] ~= '' and cjson.decode(text).user ~= ARGV[2] then return 'foreign' end
local claim = redis.call('HGET', claims, ARGV[1])
forget(ARGV[1], text)
if claim then redis.call('HSET', claims, ARGV[1], string.match(claim, '^%S+ %S+') .. ' removed') end
return 'removed'";
/// Returns ids and records, ids and claims, and the length of the playlist.
const SNAPSHOT: &str = "
return { redis.call('HGETALL', items), redis.call('HGETALL', claims), { tostring(redis.call('LLEN', playlist)) } }";
/// ARGV: records.
const SET_PLAYLIST: &str = "
redis.call('DEL', playlist)
for i = 1, #ARGV do redis.call('RPUSH', playlist, ARGV[i]) end
return 1";
/// ARGV: now, end of the claim, token, id of an item of the playlist, most vanished players. Returns id and record of the next
/// item, or two empty texts; how many items wait again; how many were dropped.
const CLAIM: &str = "
local now, until_time, token = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local back, gone = 0, 0
local held = redis.call('HGETALL', claims)
for i = 1, #held, 2 do
    local id = held[i]
    if tonumber(string.match(held[i + 1], '^(%S+)')) <= now then
        local text = redis.call('HGET', items, id)
        if not text then
            redis.call('HDEL', claims, id)
        elseif cjson.decode(text).source == 'playlist' or redis.call('HINCRBY', lapsed, id, 1) >= tonumber(ARGV[5]) then
            forget(id, text)
            gone = gone + 1
        else
            wait_again(id, text)
            back = back + 1
        end
    end
end
local id, text = '', ''
local first = redis.call('ZPOPMIN', queue)
if #first > 0 then
    id = first[1]
    text = redis.call('HGET', items, id) or ''
else
    local entry = redis.call('LPOP', playlist)
    if entry then
        id, text = ARGV[4], entry
        redis.call('HSET', items, id, text)
    end
end
if text ~= '' then redis.call('HSET', claims, id, until_time .. ' ' .. ARGV[1] .. ' ' .. token) end
return { id, text, tostring(back), tostring(gone) }";
/// ARGV: id, token, end of the claim. Returns 2 where nothing is known of the item.
const RENEW: &str = "
if redis.call('HEXISTS', claims, ARGV[1]) + redis.call('HEXISTS', items, ARGV[1]) == 0 then return 2 end
if not is_claimed_by(ARGV[1], ARGV[2]) then return 0 end
local since = string.match(redis.call('HGET', claims, ARGV[1]), '^%S+ (%S+)')
redis.call('HSET', claims, ARGV[1], ARGV[3] .. ' ' .. since .. ' ' .. ARGV[2])
return 1";
/// ARGV: id, token.
const COMPLETE: &str = "
if not is_claimed_by(ARGV[1], ARGV[2]) then return 0 end
local text = redis.call('HGET', items, ARGV[1])
if text then forget(ARGV[1], text) else redis.call('HDEL', claims, ARGV[1]) end
return 1";
/// ARGV: id, token.
const RELEASE: &str = "
if not is_claimed_by(ARGV[1], ARGV[2]) then return 0 end
give_back(ARGV[1], redis.call('HGET', items, ARGV[1]))
return 1";
/// ARGV: token.
const RELEASE_ALL: &str = "
local ids = redis.call('HKEYS', claims)
for i = 1, #ids do
    if is_claimed_by(ids[i], ARGV[1]) then give_back(ids[i], redis.call('HGET', items, ids[i])) end
end
return 1";

/// Store over Redis.
pub struct RedisQueueStore(Redis);

impl RedisQueueStore {
    /// Creates the store over `redis`.
    pub fn new(redis: Redis) -> Self {
        Self(redis)
    }

    fn keys(&self, channel: &ChannelId) -> Vec<String> {
        let key = |part| self.0.key(RedisKey::Queue { channel: channel.as_str(), part });
        QueueKeyPart::ALL.map(key).to_vec()
    }

    async fn run<R: FromValue>(
        &self,
        channel: &ChannelId,
        script: &str,
        arguments: Vec<String>,
    ) -> Result<R, QueueStoreError> {
        let script = format!("{PRELUDE}{script}");
        let run = self.0.script(COMMAND_TIMEOUT, &script, self.keys(channel), arguments);
        run.await.map_err(|error| QueueStoreError(self.0.error_text(&error)))
    }

    async fn act_on_claim(
        &self,
        channel: &ChannelId,
        script: &str,
        arguments: Vec<String>,
    ) -> Result<bool, QueueStoreError> {
        Ok(self.run::<i64>(channel, script, arguments).await? == 1)
    }
}

#[async_trait]
impl QueueStore for RedisQueueStore {
    async fn add(
        &self,
        channel: &ChannelId,
        item: &QueueItem,
        settings: &QueueSettings,
    ) -> Result<AddOutcome, QueueStoreError> {
        let QueueSettings { channel_limits, user_limits, .. } = settings;
        let texts = [item.id.to_string(), record(item)?, item.user.as_str().to_owned(), item.track.as_str().to_owned()];
        let numbers = [
            item.turn_at.as_millis().to_string(),
            channel_limits.items.to_string(),
            channel_limits.bytes.to_string(),
            user_limits.items.to_string(),
            user_limits.bytes.to_string(),
        ];
        let outcome: String = self.run(channel, ADD, texts.into_iter().chain(numbers).collect()).await?;
        match outcome.as_str() {
            "added" => Ok(AddOutcome::Added),
            "duplicate" => Ok(AddOutcome::Duplicate),
            "channel-full" => Ok(AddOutcome::ChannelFull),
            "user-full" => Ok(AddOutcome::UserFull),
            other => Err(QueueStoreError(format!("unexpected answer {other:?}"))),
        }
    }

    async fn remove(
        &self,
        channel: &ChannelId,
        id: Uuid,
        owner: Option<&UserId>,
    ) -> Result<RemoveOutcome, QueueStoreError> {
        let arguments = vec![id.to_string(), owner.map(|owner| owner.as_str().to_owned()).unwrap_or_default()];
        let outcome: String = self.run(channel, REMOVE, arguments).await?;
        match outcome.as_str() {
            "removed" => Ok(RemoveOutcome::Removed),
            "missing" => Ok(RemoveOutcome::Missing),
            "foreign" => Ok(RemoveOutcome::Foreign),
            other => Err(QueueStoreError(format!("unexpected answer {other:?}"))),
        }
    }

    async fn snapshot(&self, channel: &ChannelId) -> Result<QueueSnapshot, QueueStoreError> {
        let parts: Vec<Vec<String>> = self.run(channel, SNAPSHOT, Vec::new()).await?;
        let [records, claims, playlist] = parts.as_slice() else {
            return Err(QueueStoreError("unexpected answer".to_owned()));
        };
        let claims: HashMap<&str, UnixMillis> = claims
            .as_chunks::<2>()
            .0
            .iter()
            .filter_map(|[id, claim]| Some((id.as_str(), UnixMillis::new(claim.split(' ').nth(1)?.parse().ok()?))))
            .collect();
        let items = records.as_chunks::<2>().0.iter().filter_map(|[id, record]| {
            let item = QueueItem::from_record(Uuid::parse_str(id).ok()?, record)?;
            Some(WaitingItem { item, claimed_at: claims.get(id.as_str()).copied() })
        });
        let mut items: Vec<WaitingItem> = items.collect();
        items.sort_by_key(|item| match item.claimed_at {
            Some(since) => (false, since, item.item.id),
            None => (true, item.item.turn_at, item.item.id),
        });
        let playlist_tracks = playlist.first().and_then(|count| count.parse().ok()).unwrap_or_default();
        Ok(QueueSnapshot { items, playlist_tracks })
    }

    async fn set_playlist(&self, channel: &ChannelId, items: &[QueueItem]) -> Result<(), QueueStoreError> {
        let records = items.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        self.run::<i64>(channel, SET_PLAYLIST, records).await.map(drop)
    }

    async fn claim(&self, channel: &ChannelId, request: ClaimRequest) -> Result<ClaimOutcome, QueueStoreError> {
        let ClaimRequest { now, until, token, playlist_item_id } = request;
        let times = [now, until].map(|time| time.as_millis().to_string());
        let rest = [token.0.to_string(), playlist_item_id.to_string(), MAX_LAPSED_CLAIMS.to_string()];
        let answer: Vec<String> = self.run(channel, CLAIM, times.into_iter().chain(rest).collect()).await?;
        let [id, text, returned, dropped] = answer.as_slice() else {
            return Err(QueueStoreError("unexpected answer".to_owned()));
        };
        let mut outcome = ClaimOutcome {
            item: None,
            returned: returned.parse().unwrap_or_default(),
            dropped: dropped.parse().unwrap_or_default(),
        };
        if text.is_empty() {
            return Ok(outcome);
        }
        let id = Uuid::parse_str(id).map_err(|error| QueueStoreError(error.to_string()))?;
        outcome.item = QueueItem::from_record(id, text);
        if outcome.item.is_none() {
            // Another version wrote it, and it would be claimed again and again.
            self.complete(channel, id, token).await?;
            outcome.dropped += 1;
        }
        Ok(outcome)
    }

    async fn renew(
        &self,
        channel: &ChannelId,
        id: Uuid,
        token: ClaimToken,
        until: UnixMillis,
    ) -> Result<Renewal, QueueStoreError> {
        let arguments = vec![id.to_string(), token.0.to_string(), until.as_millis().to_string()];
        match self.run::<i64>(channel, RENEW, arguments).await? {
            1 => Ok(Renewal::Renewed),
            2 => Ok(Renewal::Unknown),
            _ => Ok(Renewal::Lost),
        }
    }

    async fn complete(&self, channel: &ChannelId, id: Uuid, token: ClaimToken) -> Result<bool, QueueStoreError> {
        self.act_on_claim(channel, COMPLETE, vec![id.to_string(), token.0.to_string()]).await
    }

    async fn release(&self, channel: &ChannelId, id: Uuid, token: ClaimToken) -> Result<bool, QueueStoreError> {
        self.act_on_claim(channel, RELEASE, vec![id.to_string(), token.0.to_string()]).await
    }

    async fn release_all(&self, channel: &ChannelId, token: ClaimToken) -> Result<(), QueueStoreError> {
        self.run::<i64>(channel, RELEASE_ALL, vec![token.0.to_string()]).await.map(drop)
    }
}

fn record(item: &QueueItem) -> Result<String, QueueStoreError> {
    item.to_record().map_err(|error| QueueStoreError(error.to_string()))
}
