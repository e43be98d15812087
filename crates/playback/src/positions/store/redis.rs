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
use fred::types::FromValue;
use fred::types::config::Server;
use futures::future::try_join_all;
use tokio::sync::broadcast::Receiver;

use super::{DroppedPosition, PositionListQuery, PositionStore, PositionStoreError, ProgressCursor, SaveOutcome};
use crate::positions::settings::Settings;
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
/// Script that writes the indexes. ARGV: the TTL, the most items of an index and of one removal, then time and item of
/// each index. Returns for each index the same in a list, followed by the items that were removed from it because they
/// were too many, the oldest, each before its time.
const INDEX_SCRIPT: &str = "
local outcomes = {}
for i = 1, #KEYS do
    local added = redis.pcall('ZADD', KEYS[i], 'GT', ARGV[i * 2 + 2], ARGV[i * 2 + 3])
    local outcome = {''}
    if type(added) == 'table' then
        if string.sub(added.err, 1, 9) ~= 'WRONGTYPE' then return added end
        outcome[1] = added.err
    else
        redis.call('PEXPIRE', KEYS[i], ARGV[1])
        local over = redis.call('ZCARD', KEYS[i]) - ARGV[2]
        if over > 0 then
            local removed = redis.call('ZPOPMIN', KEYS[i], math.min(over, ARGV[3]))
            for n = 1, #removed do outcome[n + 1] = removed[n] end
        end
    end
    outcomes[i] = outcome
end
return outcomes";
/// Most items that are removed from an index at once; one with more over gets rid of them by and by.
const MAX_REMOVED: i64 = 1000;
/// Script that removes positions, each unless it is newer than it is said to be. ARGV: time of each key.
const REMOVE_SCRIPT: &str = "
for i = 1, #KEYS do
    local old = redis.pcall('GET', KEYS[i])
    local t = type(old) == 'string' and string.match(old, '^(%d+) ')
    if t and tonumber(t) <= tonumber(ARGV[i]) then redis.call('DEL', KEYS[i]) end
end
return {}";
/// Script that removes items from an index, each unless it has another time by now. ARGV: time and item of each.
const FORGET_SCRIPT: &str = "
for i = 1, #ARGV, 2 do
    local at = redis.call('ZSCORE', KEYS[1], ARGV[i + 1])
    if at and tonumber(at) == tonumber(ARGV[i]) then redis.call('ZREM', KEYS[1], ARGV[i + 1]) end
end
return {}";
/// Error code of Redis for a key that holds another type of value.
const WRONG_TYPE: &str = "WRONGTYPE";

/// Store over Redis.
pub struct RedisPositionStore {
    redis: Redis,
    ttl: Duration,
    max_items: i64,
    clock: Clock,
}

impl RedisPositionStore {
    /// Creates the store over `redis`.
    pub fn new(redis: Redis, settings: &Settings, clock: Clock) -> Self {
        Self { redis, ttl: settings.ttl, max_items: settings.max_items_per_user.into(), clock }
    }

    /// Writes each entry unless a newer one is there; returns the keys that hold another type of value, which Redis
    /// refuses. Fails where Redis does not answer within `budget` or reports any other error; some entries may be
    /// written by then.
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
        let key = |entry: &PositionRecord| self.key(&entry.key);
        let refusals: Vec<String> = self.run(SCRIPT, &[now.as_millis()], entries, budget, key, arguments).await?;
        Ok(refused_keys(entries, refusals.iter().map(String::as_str)))
    }

    /// Adds `entries` to the indexes of their users. Returns the keys that Redis refused, and the items that were too
    /// many and are in no index any more.
    async fn note(&self, entries: &[PositionRecord], budget: Duration) -> Result<SaveOutcome, PositionStoreError> {
        let arguments = |entry: &PositionRecord| {
            vec![entry.updated_at.to_string(), member(entry.key.kind, entry.key.item.as_str())]
        };
        let key = |entry: &PositionRecord| self.index(&entry.key.user);
        let first = [whole_millis(self.ttl), self.max_items, MAX_REMOVED];
        let outcomes: Vec<Vec<String>> = self.run(INDEX_SCRIPT, &first, entries, budget, key, arguments).await?;
        let refusals = outcomes.iter().map(|outcome| outcome.first().map_or("", String::as_str));
        let refused = refused_keys(entries, refusals);
        let removed = entries.iter().zip(&outcomes).flat_map(|(entry, outcome)| {
            let items = outcome.get(1..).unwrap_or_default().as_chunks::<2>().0;
            items.iter().filter_map(|[member, at]| {
                let (kind, item) = parse_member(member)?;
                let key = PositionKey { user: entry.key.user.clone(), kind, item };
                Some(DroppedPosition { key, updated_at: UnixMillis::new(at.parse::<f64>().ok()? as i64) })
            })
        });
        Ok(SaveOutcome { refused, dropped: removed.collect() })
    }

    /// Removes positions of items that were dropped.
    pub async fn remove(&self, dropped: &[DroppedPosition], budget: Duration) -> Result<(), PositionStoreError> {
        let (key, at) =
            (|item: &DroppedPosition| self.key(&item.key), |item: &DroppedPosition| vec![item.updated_at.to_string()]);
        let _: Vec<String> = self.run(REMOVE_SCRIPT, &[], dropped, budget, key, at).await?;
        Ok(())
    }

    /// Runs `script` over a key for each of `entries`, with `first` and the arguments of each; returns what it returns for
    /// each.
    async fn run<T, R: FromValue>(
        &self,
        script: &str,
        first: &[i64],
        entries: &[T],
        budget: Duration,
        key: impl Fn(&T) -> String,
        arguments: impl Fn(&T) -> Vec<String>,
    ) -> Result<Vec<R>, PositionStoreError> {
        // In a cluster each key may be on another node, and a script may only touch keys of one slot.
        let at_once = if self.redis.client().is_clustered() { 1 } else { SCRIPT_BATCH };
        let parts = entries.chunks(at_once).map(|part| {
            let keys = part.iter().map(&key).collect();
            let arguments = first.iter().map(i64::to_string).chain(part.iter().flat_map(&arguments)).collect();
            self.redis.script::<Vec<R>>(budget, script, keys, arguments)
        });
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
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
            let (kind, item) = parse_member(&member)?;
            // Exact: scores are doubles, and milliseconds stay below 2^53.
            Some(ProgressCursor { at: UnixMillis::new(at as i64), kind, item })
        };
        Ok((named.into_iter().filter_map(mark).collect(), whole))
    }

    /// Removes items that have expired from the index of `user`, which would name them for as long as the user comes.
    async fn forget(&self, user: &UserId, expired: &[&ProgressCursor]) {
        if expired.is_empty() {
            return;
        }
        let item = |mark: &&ProgressCursor| [mark.at.to_string(), member(mark.kind, mark.item.as_str())];
        let arguments = expired.iter().flat_map(item).collect();
        // If it fails the next list removes them.
        let _: Result<Vec<String>, _> =
            self.redis.script(COMMAND_TIMEOUT, FORGET_SCRIPT, vec![self.index(user)], arguments).await;
    }

    /// Returns the entry that the index names; [`ListedItem::Expired`] if there is none any more.
    async fn listed(&self, user: &UserId, mark: &ProgressCursor) -> Result<ListedItem, PositionStoreError> {
        let key = PositionKey { user: user.clone(), kind: mark.kind, item: mark.item.clone() };
        match self.read(&key, COMMAND_TIMEOUT).await {
            // The index decides the order: a report that came late, after a newer one had expired, takes the place of
            // that one.
            Ok(Some((entry, _))) => Ok(ListedItem::Kept(PositionRecord { updated_at: mark.at, ..entry })),
            Ok(None) => Ok(ListedItem::Expired),
            Err(PositionStoreError::Redis(error)) if is_wrong_type(&error) => Ok(ListedItem::Unreadable),
            Err(away) => Err(away),
        }
    }
}

#[async_trait]
impl PositionStore for RedisPositionStore {
    async fn save(&self, entries: &[PositionRecord]) -> Result<SaveOutcome, PositionStoreError> {
        // In this order: an item that the index names and that has no key is taken for expired.
        let refused = self.put(entries, COMMAND_TIMEOUT).await?;
        let mut outcome = self.note(entries, COMMAND_TIMEOUT).await?;
        outcome.refused.extend(refused);
        if !outcome.dropped.is_empty() {
            // No list names them any more; if it fails they expire by themselves.
            let _ = self.remove(&outcome.dropped, COMMAND_TIMEOUT).await;
        }
        Ok(outcome)
    }

    async fn get(&self, key: &PositionKey) -> Result<Option<PositionRecord>, PositionStoreError> {
        Ok(self.read(key, COMMAND_TIMEOUT).await?.map(|(entry, _)| entry))
    }

    async fn list(&self, listing: &PositionListQuery<'_>) -> Result<ProgressPage, PositionStoreError> {
        let (named, whole) = self.listed_items(listing).await?;
        let found = try_join_all(named.iter().map(|mark| self.listed(listing.user, mark))).await?;
        let expired = named.iter().zip(&found).filter(|(_, item)| matches!(item, ListedItem::Expired));
        self.forget(listing.user, &expired.map(|(mark, _)| mark).collect::<Vec<_>>()).await;
        let wanted = |item: ListedItem| match item {
            ListedItem::Kept(entry) => Some(entry)
                .filter(|entry| entry.position.is_some() && listing.kind.is_none_or(|kind| kind == entry.key.kind)),
            ListedItem::Expired | ListedItem::Unreadable => None,
        };
        let entries = found.into_iter().filter_map(wanted).collect();
        Ok(ProgressPage { entries, next: named.into_iter().next_back().filter(|_| !whole) })
    }

    /// Does nothing: Redis expires keys by itself, and an index with its user's last report; a list removes from it what
    /// has expired.
    async fn remove_expired(&self, _: UnixMillis) -> Result<(), PositionStoreError> {
        Ok(())
    }
}

/// Item that an index names.
enum ListedItem {
    /// Its entry.
    Kept(PositionRecord),
    /// There is no entry any more.
    Expired,
    /// Something else is in its place.
    Unreadable,
}

/// Returns the member of the index for an item.
fn member(kind: ItemKind, item: &str) -> String {
    format!("{}:{item}", kind.name())
}

/// Parses a member of the index.
fn parse_member(text: &str) -> Option<(ItemKind, TrackId)> {
    let (kind, item) = text.split_once(':')?;
    Some((ItemKind::from_name(kind)?, TrackId::parse(item)?))
}

/// Returns the keys of the entries whose refusal is not empty, which is logged.
fn refused_keys<'a>(entries: &[PositionRecord], refusals: impl Iterator<Item = &'a str>) -> Vec<PositionKey> {
    let mut refused = entries.iter().zip(refusals).filter(|(_, error)| !error.is_empty()).peekable();
    let error = refused.peek().map(|(_, error)| *error);
    let keys: Vec<PositionKey> = refused.map(|(entry, _)| entry.key.clone()).collect();
    if let Some(error) = error {
        tracing::warn!(error, keys = keys.len(), "Redis refuses to keep positions");
    }
    keys
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
