//! Positions in Redis, under the documents' key `player:{userId}:{trackId}`: the front of the database, or all there is.
//!
//! Each key holds one text: time, position, length, when it was written, and when it was reported; `-` for what is not
//! there. One script writes any number of keys, each unless it holds something newer. Lists are read from an index per user, a sorted set
//! of items by time: it may name what has expired or was cleared, never leaves out what has a position.

use std::time::Duration;

use async_trait::async_trait;
use fred::interfaces::{ClientLike, EventInterface, KeysInterface, SortedSetsInterface};
use fred::types::config::Server;
use fred::types::sorted_sets::Ordering;
use futures::future::{try_join, try_join_all};
use tokio::sync::broadcast::Receiver;

use super::{PositionListQuery, PositionStore, PositionStoreError, ProgressCursor};
use crate::positions::{ItemKind, PositionKey, PositionRecord, ProgressPage};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use server_kit::redis::{Redis, keys};

/// For a write or a list, where Redis is all there is.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
/// Keys that one script writes: Redis does nothing else meanwhile.
const SCRIPT_BATCH: usize = 250;
/// ARGV: now, then time, position, length, time of the report and time to live of each key.
const SCRIPT: &str = "
for i = 1, #KEYS do
    local at = i * 5 - 3
    local t, p, d, r, life = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local old = redis.call('GET', KEYS[i])
    local ot, od
    if old then ot, od = string.match(old, '^(%d+) %S+ (%S+)') end
    if not ot or tonumber(ot) <= tonumber(t) then
        if d == '-' and od then d = od end
        redis.call('SET', KEYS[i], t .. ' ' .. p .. ' ' .. d .. ' ' .. ARGV[1] .. ' ' .. r, 'PX', life)
    end
end
return 1";

/// The keys.
pub struct RedisPositionStore {
    redis: Redis,
    ttl: i64,
    clock: Clock,
}

impl RedisPositionStore {
    /// In `redis`, each key for `ttl`.
    pub fn new(redis: Redis, ttl: Duration, clock: Clock) -> Self {
        Self { redis, ttl: i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX), clock }
    }

    /// Writes each entry unless a newer one is there.
    pub async fn put(&self, entries: &[PositionRecord], budget: Duration) -> Result<(), PositionStoreError> {
        // In a cluster each key may be on another node.
        let at_once = if self.redis.client().is_clustered() { 1 } else { SCRIPT_BATCH };
        let now = self.clock.unix_millis();
        let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let writes = entries.chunks(at_once).map(|part| {
            let keys: Vec<String> = part.iter().map(|entry| self.key(&entry.key)).collect();
            let each = part.iter().flat_map(|entry| {
                let life = (entry.reported_at + self.ttl - now).max(1);
                [Some(entry.updated_at), entry.position, entry.duration, Some(entry.reported_at), Some(life)]
            });
            let arguments: Vec<String> = std::iter::once(Some(now)).chain(each).map(number).collect();
            self.redis.script::<i64>(budget, SCRIPT, keys, arguments)
        });
        try_join_all(writes).await?;
        Ok(())
    }

    /// The entry of `key`, and when it was written.
    pub async fn read(
        &self,
        key: &PositionKey,
        budget: Duration,
    ) -> Result<Option<(PositionRecord, i64)>, PositionStoreError> {
        let client = self.redis.client_with_timeout(budget);
        let text: Option<String> = self.redis.run_with_timeout(budget, client.get(self.key(key))).await?;
        Ok(text.and_then(|text| parse(key, &text)))
    }

    fn key(&self, PositionKey { user, kind, item }: &PositionKey) -> String {
        let kind = match kind {
            ItemKind::Audio => None,
            ItemKind::Audiobook | ItemKind::Podcast | ItemKind::Film => Some(kind.name()),
        };
        self.redis.key(keys::RedisKey::Position { user: user.as_str(), kind, item: item.as_str() })
    }

    fn index(&self, user: &UserId) -> String {
        self.redis.key(keys::RedisKey::PositionIndex { user: user.as_str() })
    }

    /// Resolves when there is a connection, at once where there is one; then also where there is none within `budget`.
    pub async fn wait_connected(&self, budget: Duration) {
        self.redis.wait_connected(budget).await;
    }

    /// Tells of connections that came after others had broken.
    pub fn reconnections(&self) -> Receiver<Server> {
        self.redis.client().reconnect_rx()
    }

    /// The newest items first: beyond what is asked for by those of the cursor's own millisecond.
    async fn listed_items(
        &self,
        listing: &PositionListQuery<'_>,
    ) -> Result<Vec<(ItemKind, TrackId)>, PositionStoreError> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let most = listing.after.map_or(f64::INFINITY, |mark| mark.at as f64);
        let count = i64::try_from(listing.limit).unwrap_or(i64::MAX);
        // Whatever its time, an item is there for as long as its key is.
        let range = client.zrevrangebyscore(self.index(listing.user), most, f64::NEG_INFINITY, false, Some((0, count)));
        let members: Vec<String> = self.redis.run_with_timeout(COMMAND_TIMEOUT, range).await?;
        let name = |member: String| {
            member.split_once(':').and_then(|(kind, item)| Some((ItemKind::from_name(kind)?, TrackId::parse(item)?)))
        };
        Ok(members.into_iter().filter_map(name).collect())
    }
}

#[async_trait]
impl PositionStore for RedisPositionStore {
    async fn save(&self, entries: &[PositionRecord]) -> Result<(), PositionStoreError> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let index = entries.iter().map(|entry| {
            let (index, client) = (self.index(&entry.key.user), &client);
            let member = (entry.updated_at as f64, format!("{}:{}", entry.key.kind.name(), entry.key.item.as_str()));
            async move {
                let newer = Some(Ordering::GreaterThan);
                client.zadd::<(), _, _>(&index, None, newer, false, false, member).await?;
                client.pexpire::<(), _>(&index, self.ttl, None).await
            }
        });
        try_join(self.put(entries, COMMAND_TIMEOUT), async { Ok(try_join_all(index).await.map(|_| ())?) }).await?;
        Ok(())
    }

    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        Ok(self.read(key, COMMAND_TIMEOUT).await?.map(|(entry, _)| entry))
    }

    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError> {
        let named = self.listed_items(listing).await?;
        let whole = named.len() < listing.limit;
        let keys = named.into_iter().map(|(kind, item)| PositionKey { user: listing.user.clone(), kind, item });
        let reads = keys.map(|key| async move { self.read(&key, COMMAND_TIMEOUT).await });
        let found = try_join_all(reads).await?.into_iter().flatten().map(|(entry, _)| entry);
        let mut entries: Vec<PositionRecord> = found.collect();
        let order = |entry: &PositionRecord| {
            (std::cmp::Reverse(entry.updated_at), entry.key.kind.name(), entry.key.item.clone())
        };
        entries.sort_by_key(order);
        let next = entries.last().filter(|_| !whole).map(ProgressCursor::after);
        if let Some(mark) = listing.after {
            let behind = (std::cmp::Reverse(mark.at), mark.kind.name(), mark.item.clone());
            entries.retain(|entry| order(entry) > behind);
        }
        let wanted =
            |entry: &PositionRecord| entry.position.is_some() && listing.kind.is_none_or(|kind| kind == entry.key.kind);
        entries.retain(wanted);
        Ok(ProgressPage { entries, next })
    }

    /// Redis removes keys by itself, and an index with its last item.
    async fn remove_expired(&self, _: i64) -> Result<(), PositionStoreError> {
        Ok(())
    }
}

fn parse(key: &PositionKey, text: &str) -> Option<(PositionRecord, i64)> {
    let mut words = text.split(' ');
    let at = words.next()?.parse().ok()?;
    let position = words.next()?.parse().ok();
    let duration = words.next()?.parse().ok();
    let written = words.next()?.parse().ok()?;
    // An older version did not say when it was reported.
    let reported = words.next().and_then(|word| word.parse().ok()).unwrap_or(written);
    Some((PositionRecord { key: key.clone(), position, duration, updated_at: at, reported_at: reported }, written))
}
