//! Store of queues: memory for one node, Redis for several. Both keep the same rules, which the contract in `tests/it` holds.

mod memory;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::item::QueueItem;
use crate::channel::ChannelId;
use crate::settings::QueueSettings;
pub use memory::MemoryQueueStore;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
pub use redis::RedisQueueStore;
use server_kit::redis::Redis;

/// Times that an item's player may vanish before the item is dropped: it may be the reason.
pub const MAX_LAPSED_CLAIMS: u32 = 3;

/// Failure of the store. Its text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("Redis: {0}")]
pub struct QueueStoreError(pub String);

/// Outcome of queueing an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    /// It waits.
    Added,
    /// Its track waits already, or is played.
    Duplicate,
    /// The channel has no room.
    ChannelFull,
    /// The user has no room.
    UserFull,
}

/// Outcome of taking an item out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveOutcome {
    /// It is gone; if it was played, its player learns so when it renews its claim.
    Removed,
    /// There is no such item.
    Missing,
    /// It is another user's.
    Foreign,
}

/// What became of a claim that is to be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is extended.
    Renewed,
    /// It is none any more: it has lapsed and another has the item, or it was taken out.
    Lost,
    /// The store knows nothing of the item: it has lost what it kept.
    Unknown,
}

/// Secret of whoever plays an item, without which its claim can be neither renewed nor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimToken(pub Uuid);

/// Claim of the next item.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest {
    /// The time.
    pub now: UnixMillis,
    /// Time from which the item is another's, unless the claim is renewed.
    pub until: UnixMillis,
    /// The player's secret.
    pub token: ClaimToken,
    /// Id for an item of the playlist, which has none before it is played.
    pub playlist_item_id: Uuid,
}

/// What a claim found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimOutcome {
    /// The next item; `None` where nothing waits.
    pub item: Option<QueueItem>,
    /// Items whose players had vanished, and which wait again.
    pub returned: u32,
    /// Items that were dropped because their players had vanished too often, or whose record cannot be read.
    pub dropped: u32,
}

/// Item in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingItem {
    /// The item.
    pub item: QueueItem,
    /// Time at which it was claimed; `None` while it waits.
    pub claimed_at: Option<UnixMillis>,
}

/// A queue as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Claimed items, the first claimed first, then those that wait, in their order.
    pub items: Vec<WaitingItem>,
    /// Tracks of the playlist that were not played yet.
    pub playlist_tracks: u64,
}

/// Store of queues.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// Queues an item, within the bounds of `settings`.
    async fn add(
        &self,
        channel: &ChannelId,
        item: &QueueItem,
        settings: &QueueSettings,
    ) -> Result<AddOutcome, QueueStoreError>;

    /// Takes an item out, waiting or claimed; with `owner` only where it is that user's.
    async fn remove(
        &self,
        channel: &ChannelId,
        id: Uuid,
        owner: Option<&UserId>,
    ) -> Result<RemoveOutcome, QueueStoreError>;

    /// Returns the queue as it is.
    async fn snapshot(&self, channel: &ChannelId) -> Result<QueueSnapshot, QueueStoreError>;

    /// Replaces the playlist by `items`, whose ids do not count; it is played while no item waits.
    async fn set_playlist(&self, channel: &ChannelId, items: &[QueueItem]) -> Result<(), QueueStoreError>;

    /// Claims the next item in one step: of any number of players at once each gets another item. Items whose claims have lapsed
    /// wait again at first, with the turn that they had; those of the playlist are not played again.
    async fn claim(&self, channel: &ChannelId, request: ClaimRequest) -> Result<ClaimOutcome, QueueStoreError>;

    /// Extends a claim.
    async fn renew(
        &self,
        channel: &ChannelId,
        id: Uuid,
        token: ClaimToken,
        until: UnixMillis,
    ) -> Result<Renewal, QueueStoreError>;

    /// Ends a claim, and drops its item; returns false where it is none any more.
    async fn complete(&self, channel: &ChannelId, id: Uuid, token: ClaimToken) -> Result<bool, QueueStoreError>;

    /// Ends a claim, and has its item wait again; returns false where it is none any more.
    async fn release(&self, channel: &ChannelId, id: Uuid, token: ClaimToken) -> Result<bool, QueueStoreError>;

    /// Ends every claim of a token, whose items wait again: whoever claimed may not know what it got.
    async fn release_all(&self, channel: &ChannelId, token: ClaimToken) -> Result<(), QueueStoreError>;
}

/// Creates the store: over Redis where there is one, else in memory.
pub fn open(redis: Option<Redis>) -> Arc<dyn QueueStore> {
    match redis {
        Some(redis) => Arc::new(RedisQueueStore::new(redis)),
        None => Arc::new(MemoryQueueStore::default()),
    }
}

/// Longest time that a store's answer may take: somebody waits for it.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
