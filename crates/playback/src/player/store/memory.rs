//! Live players in memory, for one node; bounded in bytes.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{PlayerStore, PlayerStoreError, ReplaceOutcome};
use crate::player::channel::PlayerKey;
use crate::player::record::PlayerRecord;
use crate::player::settings::Settings;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;

/// Memory for players, in bytes: some 80,000 with usual ids and titles.
const MAX_BYTES: usize = 64 << 20;
/// Bytes of an entry besides its record: two copies of its key, and the tables.
const ENTRY_OVERHEAD: usize = 256;
/// Most players per look.
const DUE_BATCH: usize = 500;

/// Store in memory.
pub struct MemoryPlayerStore {
    table: Mutex<PlayerTable>,
    max_per_user: usize,
}

impl MemoryPlayerStore {
    /// Creates a store in which each user has a player for each channel at most, so that nobody takes the room of others.
    pub fn new(settings: &Settings) -> Self {
        let max_per_user = usize::try_from(settings.max_channels_per_user).unwrap_or(usize::MAX);
        Self { table: Mutex::default(), max_per_user }
    }
}

#[derive(Default)]
struct PlayerTable {
    players: HashMap<PlayerKey, PlayerEntry>,
    of_users: HashMap<UserId, usize>,
    deadlines: BTreeSet<(UnixMillis, PlayerKey)>,
    bytes: usize,
}

struct PlayerEntry {
    record: PlayerRecord,
    deadline: UnixMillis,
}

impl PlayerTable {
    fn remove(&mut self, key: &PlayerKey) {
        if let Some(entry) = self.players.remove(key) {
            self.bytes = self.bytes.saturating_sub(memory(key, &entry.record));
            self.deadlines.remove(&(entry.deadline, key.clone()));
            if let Some(count) = self.of_users.get_mut(&key.user) {
                *count -= 1;
                if *count == 0 {
                    self.of_users.remove(&key.user);
                }
            }
        }
    }

    fn insert(&mut self, key: &PlayerKey, record: &PlayerRecord, deadline: UnixMillis) {
        self.bytes += memory(key, record);
        self.deadlines.insert((deadline, key.clone()));
        self.players.insert(key.clone(), PlayerEntry { record: record.clone(), deadline });
        *self.of_users.entry(key.user.clone()).or_default() += 1;
    }
}

fn memory(key: &PlayerKey, record: &PlayerRecord) -> usize {
    2 * (key.user.as_str().len() + key.channel.as_str().len()) + ENTRY_OVERHEAD + record.memory()
}

#[async_trait]
impl PlayerStore for MemoryPlayerStore {
    async fn get(&self, key: &PlayerKey) -> Result<Option<PlayerRecord>, PlayerStoreError> {
        Ok(self.table.lock().players.get(key).map(|entry| entry.record.clone()))
    }

    async fn replace(
        &self,
        key: &PlayerKey,
        known: Option<u64>,
        next: &PlayerRecord,
        deadline: UnixMillis,
    ) -> Result<ReplaceOutcome, PlayerStoreError> {
        let mut table = self.table.lock();
        let current = table.players.get(key);
        if current.map(|entry| entry.record.revision) != known {
            return Ok(ReplaceOutcome::Changed);
        }
        let freed = current.map_or(0, |entry| memory(key, &entry.record));
        let of_user = table.of_users.get(&key.user).copied().unwrap_or_default();
        let has_room = current.is_some() || of_user < self.max_per_user;
        if !has_room || table.bytes - freed + memory(key, next) > MAX_BYTES {
            return Ok(ReplaceOutcome::Full);
        }
        table.remove(key);
        table.insert(key, next, deadline);
        Ok(ReplaceOutcome::Replaced)
    }

    async fn due(&self, now: UnixMillis) -> Result<Vec<PlayerKey>, PlayerStoreError> {
        let table = self.table.lock();
        let due = table.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).take(DUE_BATCH);
        Ok(due.map(|(_, key)| key.clone()).collect())
    }

    async fn set_deadline(&self, key: &PlayerKey, deadline: UnixMillis) -> Result<(), PlayerStoreError> {
        let mut table = self.table.lock();
        let Some(entry) = table.players.get_mut(key) else { return Ok(()) };
        let before = std::mem::replace(&mut entry.deadline, deadline);
        table.deadlines.remove(&(before, key.clone()));
        table.deadlines.insert((deadline, key.clone()));
        Ok(())
    }

    async fn drop_player(&self, key: &PlayerKey, known: Option<u64>) -> Result<(), PlayerStoreError> {
        let mut table = self.table.lock();
        if table.players.get(key).map(|entry| entry.record.revision) == known {
            table.remove(key);
        }
        Ok(())
    }

    async fn remove_player(&self, key: &PlayerKey) -> Result<(), PlayerStoreError> {
        self.table.lock().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::channel::ChannelId;
    use crate::player::record::{PlayState, PlayerReport};
    use crate::player::sound::PlaybackSpeed;

    fn key(user: &str) -> PlayerKey {
        PlayerKey { user: UserId::parse(user).expect("an id"), channel: ChannelId::main() }
    }

    fn record(title: &str) -> PlayerRecord {
        let report = PlayerReport {
            session: None,
            track: "t".to_owned(),
            title: Some(title.to_owned()),
            state: PlayState::Playing,
            position: 0,
            duration: None,
            speed: None,
            seq: None,
            at: None,
        };
        PlayerRecord::begin(None, report, PlaybackSpeed::NORMAL, UnixMillis::new(7))
    }

    #[tokio::test]
    async fn of_two_changes_at_once_the_second_is_told_to_read_again() {
        let (store, key, at) = (MemoryPlayerStore::new(&Settings::default()), key("u"), UnixMillis::new(9));
        let (one, two) = (record("one"), record("two").seek(1, at));
        assert_eq!(store.replace(&key, None, &one, at).await.expect("memory"), ReplaceOutcome::Replaced);
        assert_eq!(store.replace(&key, None, &two, at).await.expect("memory"), ReplaceOutcome::Changed);
        assert_eq!(store.replace(&key, Some(one.revision), &two, at).await.expect("memory"), ReplaceOutcome::Replaced);
        assert_eq!(store.get(&key).await.expect("memory"), Some(two.clone()));
        assert!(store.due(UnixMillis::new(8)).await.expect("memory").is_empty());
        assert_eq!(store.due(at).await.expect("memory"), std::slice::from_ref(&key));
        store.set_deadline(&key, UnixMillis::new(20)).await.expect("memory");
        assert!(store.due(at).await.expect("memory").is_empty());
        store.drop_player(&key, Some(one.revision)).await.expect("memory");
        assert!(store.get(&key).await.expect("memory").is_some(), "another one by now");
        store.drop_player(&key, Some(two.revision)).await.expect("memory");
        let table = store.table.lock();
        assert_eq!((table.players.len(), table.deadlines.len(), table.bytes, table.of_users.len()), (0, 0, 0, 0));
    }

    #[tokio::test]
    async fn a_user_has_a_player_for_each_channel_and_no_more() {
        let store = MemoryPlayerStore::new(&Settings { max_channels_per_user: 2, ..Settings::default() });
        let key = |user, channel| PlayerKey { channel: ChannelId::parse(channel).expect("an id"), ..key(user) };
        let put = async |key: PlayerKey, known| {
            store.replace(&key, known, &record("x"), UnixMillis::EPOCH).await.expect("memory")
        };
        let (one, two, three) = (key("u", "one"), key("u", "two"), key("u", "three"));
        for channel in [&one, &two] {
            assert_eq!(put(channel.clone(), None).await, ReplaceOutcome::Replaced);
        }
        assert_eq!(put(three.clone(), None).await, ReplaceOutcome::Full);
        assert_eq!(put(key("other", "three"), None).await, ReplaceOutcome::Replaced, "another user has room");
        assert_eq!(put(two, Some(record("x").revision)).await, ReplaceOutcome::Replaced, "what is there goes on");
        store.remove_player(&one).await.expect("memory");
        assert_eq!(put(three, None).await, ReplaceOutcome::Replaced);
    }

    #[tokio::test]
    async fn memory_is_bounded_in_bytes() {
        let (store, title) = (MemoryPlayerStore::new(&Settings::default()), "x".repeat(8 << 10));
        let mut full = 0;
        for number in 0..10_000 {
            let outcome = store.replace(&key(&number.to_string()), None, &record(&title), UnixMillis::EPOCH).await;
            full += usize::from(outcome.expect("memory") == ReplaceOutcome::Full);
        }
        assert!(full > 0 && store.table.lock().bytes <= MAX_BYTES);
        let first = store.get(&key("0")).await.expect("memory").expect("it is there");
        let outcome = store.replace(&key("0"), Some(first.revision), &record("short"), UnixMillis::EPOCH).await;
        assert_eq!(outcome.expect("memory"), ReplaceOutcome::Replaced, "those that are there go on");
    }
}
