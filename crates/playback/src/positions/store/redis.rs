//! Positions in Redis, under the documents' key `player:{userId}:{trackId}`: in front of the database, or alone.
//!
//! Each key holds one text: time, position, length, time of writing, and time of the report; `-` stands for an absent
//! value. One script writes any number of keys, each unless it holds something newer; a key that Redis refuses (it has
//! another type of value) fails alone. Lists are read from an index per user, a sorted set of items by time: it may
//! name items that have expired or were cleared, and never lacks one that has a position.

use std::time::Duration;

use async_trait::async_trait;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, KeysInterface, SortedSetsInterface};
use fred::types::config::Server;
use futures::future::{try_join, try_join_all};
use tokio::sync::broadcast::Receiver;

use super::{PositionListQuery, PositionStore, PositionStoreError, ProgressCursor};
use crate::positions::{ItemKind, PositionKey, PositionRecord, ProgressPage};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::{UnixMillis, whole_millis};
use server_kit::redis::{Redis, keys};

/// Timeout of a write or a list where Redis is the only store.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
/// Keys per script: Redis does nothing else meanwhile.
const SCRIPT_BATCH: usize = 250;
/// Script that writes positions. ARGV: now, then time, position, length, time of the report and TTL of each key.
/// Returns for each key the reason for which it was not written, or nothing. Only an error that concerns one key is
/// returned for it; any other is an error of the script.
const SCRIPT: &str = "
local refused = {}
for i = 1, #KEYS do
    local at = i * 5 - 3
    local t, p, d, r, life = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local old = redis.pcall('GET', KEYS[i])
    refused[i] = ''
    if type(old) == 'table' then
        if string.sub(old.err, 1, 9) ~= 'WRONGTYPE' then return old end
        refused[i] = old.err
    else
        local ot, od
        if old then ot, od = string.match(old, '^(%d+) %S+ (%S+)') end
        if not ot or tonumber(ot) <= tonumber(t) then
            if d == '-' and od then d = od end
            redis.call('SET', KEYS[i], t .. ' ' .. p .. ' ' .. d .. ' ' .. ARGV[1] .. ' ' .. r, 'PX', life)
        end
    end
end
return refused";
/// Script that writes the indexes. ARGV: the TTL, then time and item of each index. Returns the same.
const INDEX_SCRIPT: &str = "
local refused = {}
for i = 1, #KEYS do
    local added = redis.pcall('ZADD', KEYS[i], 'GT', ARGV[i * 2], ARGV[i * 2 + 1])
    refused[i] = ''
    if type(added) == 'table' then
        if string.sub(added.err, 1, 9) ~= 'WRONGTYPE' then return added end
        refused[i] = added.err
    else
        redis.call('PEXPIRE', KEYS[i], ARGV[1])
    end
end
return refused";
/// Error code of Redis for a key that holds another type of value.
const WRONG_TYPE: &str = "WRONGTYPE";

/// Store over Redis.
pub struct RedisPositionStore {
    redis: Redis,
    ttl: Duration,
    clock: Clock,
}

impl RedisPositionStore {
    /// Creates the store over `redis`; each key expires after `ttl`.
    pub fn new(redis: Redis, ttl: Duration, clock: Clock) -> Self {
        Self { redis, ttl, clock }
    }

    /// Writes each entry unless a newer one is there; returns the keys that Redis refused.
    pub async fn put(
        &self,
        entries: &[PositionRecord],
        budget: Duration,
    ) -> Result<Vec<PositionKey>, PositionStoreError> {
        let now = self.clock.unix_millis();
        let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let arguments = |entry: &PositionRecord| {
            // At least 1: `PX 0` is an error, and a report that waited too long is then simply gone.
            let life = whole_millis(entry.reported_at + self.ttl - now).max(1);
            let (updated_at, reported_at) = (entry.updated_at.as_millis(), entry.reported_at.as_millis());
            [Some(updated_at), entry.position, entry.duration, Some(reported_at), Some(life)].map(number).to_vec()
        };
        self.write(SCRIPT, now.as_millis(), entries, budget, |entry| self.key(&entry.key), arguments).await
    }

    /// Adds `entries` to the indexes of their users; returns the keys that Redis refused.
    async fn note(&self, entries: &[PositionRecord], budget: Duration) -> Result<Vec<PositionKey>, PositionStoreError> {
        let arguments = |entry: &PositionRecord| {
            vec![entry.updated_at.to_string(), member(entry.key.kind, entry.key.item.as_str())]
        };
        self.write(
            INDEX_SCRIPT,
            whole_millis(self.ttl),
            entries,
            budget,
            |entry| self.index(&entry.key.user),
            arguments,
        )
        .await
    }

    /// Runs `script` over a key for each of `entries`, with `first` and the arguments of each.
    async fn write(
        &self,
        script: &str,
        first: i64,
        entries: &[PositionRecord],
        budget: Duration,
        key: impl Fn(&PositionRecord) -> String,
        arguments: impl Fn(&PositionRecord) -> Vec<String>,
    ) -> Result<Vec<PositionKey>, PositionStoreError> {
        // In a cluster each key may be on another node, and a script may only touch keys of one slot.
        let at_once = if self.redis.client().is_clustered() { 1 } else { SCRIPT_BATCH };
        let parts = entries.chunks(at_once).map(|part| {
            let keys = part.iter().map(&key).collect();
            let arguments = std::iter::once(first.to_string()).chain(part.iter().flat_map(&arguments)).collect();
            self.redis.script::<Vec<String>>(budget, script, keys, arguments)
        });
        let refusals: Vec<String> = try_join_all(parts).await?.into_iter().flatten().collect();
        let refused = entries.iter().zip(&refusals).filter(|(_, error)| !error.is_empty());
        let keys: Vec<PositionKey> = refused.map(|(entry, _)| entry.key.clone()).collect();
        if let Some(error) = refusals.iter().find(|error| !error.is_empty()) {
            tracing::warn!(error, keys = keys.len(), "Redis refuses to keep positions");
        }
        Ok(keys)
    }

    /// Returns the entry of `key`, and the time at which it was written.
    pub async fn read(
        &self,
        key: &PositionKey,
        budget: Duration,
    ) -> Result<Option<(PositionRecord, UnixMillis)>, PositionStoreError> {
        let client = self.redis.client_with_timeout(budget);
        let text: Option<String> = self.redis.run_with_timeout(budget, client.get(self.key(key))).await?;
        Ok(text.and_then(|text| parse(key, &text)))
    }

    fn key(&self, PositionKey { user, kind, item }: &PositionKey) -> String {
        let kind = match kind {
            // The documents' key has no kind; it is that of music.
            ItemKind::Audio => None,
            ItemKind::Audiobook | ItemKind::Podcast | ItemKind::Film => Some(kind.name()),
        };
        self.redis.key(keys::RedisKey::Position { user: user.as_str(), kind, item: item.as_str() })
    }

    fn index(&self, user: &UserId) -> String {
        self.redis.key(keys::RedisKey::PositionIndex { user: user.as_str() })
    }

    /// Waits for a connection, for at most `budget`.
    pub async fn wait_connected(&self, budget: Duration) {
        self.redis.wait_connected(budget).await;
    }

    /// Returns a receiver of reconnections.
    pub fn reconnections(&self) -> Receiver<Server> {
        self.redis.client().reconnect_rx()
    }

    /// Returns the items of the index after the cursor, and true if those are all.
    async fn listed_items(
        &self,
        listing: &PositionListQuery<'_>,
    ) -> Result<(Vec<ProgressCursor>, bool), PositionStoreError> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let index = self.index(listing.user);
        let range =
            async |first: i64, last: i64| client.zrevrange::<Vec<(String, f64)>, _>(&index, first, last, true).await;
        let reading = async {
            let mut first = 0;
            if let Some(after) = listing.after {
                let mut end = client.zcard::<i64, _>(&index).await?;
                let after = (after.at.as_millis() as f64, member(after.kind, after.item.as_str()));
                // Binary search for the first item after the cursor: the item itself may have gone or got another time
                // meanwhile.
                while first < end {
                    let middle = first + (end - first) / 2;
                    let is_behind = |(member, at): &(String, f64)| (*at, member.as_str()) < (after.0, after.1.as_str());
                    if range(middle, middle).await?.first().is_none_or(is_behind) {
                        end = middle;
                    } else {
                        first = middle + 1;
                    }
                }
            }
            let count = i64::try_from(listing.limit).unwrap_or(i64::MAX);
            range(first, first.saturating_add(count - 1)).await
        };
        // Not filtered by time: an item is listed for as long as its key exists.
        let named = self.redis.run_with_timeout(COMMAND_TIMEOUT, reading).await?;
        let whole = named.len() < listing.limit;
        let mark = |(member, at): (String, f64)| {
            let (kind, item) = member.split_once(':')?;
            // Exact: scores are doubles, and milliseconds stay below 2^53.
            Some(ProgressCursor {
                at: UnixMillis::new(at as i64),
                kind: ItemKind::from_name(kind)?,
                item: TrackId::parse(item)?,
            })
        };
        Ok((named.into_iter().filter_map(mark).collect(), whole))
    }

    /// Returns the entry that the index names; `None` if it has expired, or if something else is in its place.
    async fn listed(&self, user: &UserId, mark: &ProgressCursor) -> Result<Option<PositionRecord>, PositionStoreError> {
        let key = PositionKey { user: user.clone(), kind: mark.kind, item: mark.item.clone() };
        match self.read(&key, COMMAND_TIMEOUT).await {
            // The index decides the order: a report that came late, after a newer one had expired, takes the place of
            // that one.
            Ok(found) => Ok(found.map(|(entry, _)| PositionRecord { updated_at: mark.at, ..entry })),
            Err(PositionStoreError::Redis(error)) if is_wrong_type(&error) => Ok(None),
            Err(away) => Err(away),
        }
    }
}

#[async_trait]
impl PositionStore for RedisPositionStore {
    async fn save(&self, entries: &[PositionRecord]) -> Result<Vec<PositionKey>, PositionStoreError> {
        let (mut refused, unlisted) =
            // Both at once: a position without its index entry would be missing from the list.
            try_join(self.put(entries, COMMAND_TIMEOUT), self.note(entries, COMMAND_TIMEOUT)).await?;
        refused.extend(unlisted);
        Ok(refused)
    }

    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        Ok(self.read(key, COMMAND_TIMEOUT).await?.map(|(entry, _)| entry))
    }

    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError> {
        let (named, whole) = self.listed_items(listing).await?;
        let found = try_join_all(named.iter().map(|mark| self.listed(listing.user, mark))).await?;
        let wanted =
            |entry: &PositionRecord| entry.position.is_some() && listing.kind.is_none_or(|kind| kind == entry.key.kind);
        let entries = found.into_iter().flatten().filter(wanted).collect();
        Ok(ProgressPage { entries, next: named.into_iter().next_back().filter(|_| !whole) })
    }

    /// Does nothing: Redis expires keys by itself, and an index with its last item.
    async fn remove_expired(&self, _: UnixMillis) -> Result<(), PositionStoreError> {
        Ok(())
    }
}

/// Returns the member of the index for an item.
fn member(kind: ItemKind, item: &str) -> String {
    format!("{}:{item}", kind.name())
}

fn is_wrong_type(error: &Error) -> bool {
    error.details().starts_with(WRONG_TYPE)
}

fn parse(key: &PositionKey, text: &str) -> Option<(PositionRecord, UnixMillis)> {
    let mut words = text.split(' ');
    let time = |word: &str| word.parse().map(UnixMillis::new).ok();
    let at = time(words.next()?)?;
    let position = words.next()?.parse().ok();
    let duration = words.next()?.parse().ok();
    let written = time(words.next()?)?;
    // An older version did not write the time of the report.
    let reported = words.next().and_then(time).unwrap_or(written);
    Some((PositionRecord { key: key.clone(), position, duration, updated_at: at, reported_at: reported }, written))
}
