//! Queues in memory, for one node.

use std::collections::{BTreeMap, HashMap, VecDeque};

use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    AddOutcome, ClaimOutcome, ClaimRequest, ClaimToken, MAX_LAPSED_CLAIMS, QueueSnapshot, QueueStore, QueueStoreError,
    RemoveOutcome, Renewal, WaitingItem,
};
use crate::channel::ChannelId;
use crate::queue::item::{ItemSource, QueueItem};
use crate::settings::{QueueLimits, QueueSettings};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

/// Store in memory. Channels come from the settings, so that their number is bounded.
#[derive(Default)]
pub struct MemoryQueueStore {
    channels: Mutex<HashMap<ChannelId, ChannelQueue>>,
}

/// Queue of one channel.
#[derive(Default)]
struct ChannelQueue {
    waiting: BTreeMap<(UnixMillis, Uuid), QueuedItem>,
    claimed: HashMap<Uuid, ItemClaim>,
    tracks: HashMap<TrackId, Uuid>,
    used: ItemUse,
    used_by: HashMap<UserId, ItemUse>,
    playlist: VecDeque<QueueItem>,
}

/// Item with what is counted of it.
#[derive(Clone)]
struct QueuedItem {
    item: QueueItem,
    bytes: u64,
    lapsed: u32,
}

/// Item that somebody plays.
struct ItemClaim {
    queued: QueuedItem,
    token: ClaimToken,
    since: UnixMillis,
    until: UnixMillis,
}

/// Items and bytes that count against bounds.
#[derive(Clone, Copy, Default)]
struct ItemUse {
    items: u32,
    bytes: u64,
}

impl ItemUse {
    fn has_room(self, bytes: u64, limits: QueueLimits) -> bool {
        self.items < limits.items && self.bytes + bytes <= limits.bytes
    }

    fn add(&mut self, bytes: u64) {
        self.items += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: u64) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl ChannelQueue {
    fn add(&mut self, item: &QueueItem, bytes: u64, settings: &QueueSettings) -> AddOutcome {
        if self.tracks.contains_key(&item.track) {
            return AddOutcome::Duplicate;
        }
        let by_user = self.used_by.get(&item.user).copied().unwrap_or_default();
        if !by_user.has_room(bytes, settings.user_limits) {
            return AddOutcome::UserFull;
        }
        if !self.used.has_room(bytes, settings.channel_limits) {
            return AddOutcome::ChannelFull;
        }
        self.used.add(bytes);
        self.used_by.entry(item.user.clone()).or_default().add(bytes);
        self.tracks.insert(item.track.clone(), item.id);
        self.waiting.insert(item.place(), QueuedItem { item: item.clone(), bytes, lapsed: 0 });
        AddOutcome::Added
    }

    /// Gives back the room of an item that is in neither table any more.
    fn forget(&mut self, queued: &QueuedItem) {
        if queued.item.source == ItemSource::Playlist {
            return;
        }
        self.tracks.remove(&queued.item.track);
        self.used.subtract(queued.bytes);
        if let Some(used) = self.used_by.get_mut(&queued.item.user) {
            used.subtract(queued.bytes);
            if used.items == 0 {
                self.used_by.remove(&queued.item.user);
            }
        }
    }

    fn find(&self, id: Uuid) -> Option<&QueuedItem> {
        let claimed = self.claimed.get(&id).map(|claim| &claim.queued);
        claimed.or_else(|| self.waiting.values().find(|queued| queued.item.id == id))
    }

    fn remove(&mut self, id: Uuid, owner: Option<&UserId>) -> RemoveOutcome {
        let Some(queued) = self.find(id).cloned() else { return RemoveOutcome::Missing };
        if owner.is_some_and(|owner| *owner != queued.item.user) {
            return RemoveOutcome::Foreign;
        }
        self.waiting.remove(&queued.item.place());
        self.claimed.remove(&id);
        self.forget(&queued);
        RemoveOutcome::Removed
    }

    /// Has items wait again whose players have vanished.
    fn return_lapsed(&mut self, now: UnixMillis, outcome: &mut ClaimOutcome) {
        let lapsed: Vec<Uuid> =
            self.claimed.iter().filter(|(_, claim)| claim.until <= now).map(|(id, _)| *id).collect();
        for id in lapsed {
            let Some(ItemClaim { mut queued, .. }) = self.claimed.remove(&id) else { continue };
            queued.lapsed += 1;
            if queued.item.source == ItemSource::Playlist || queued.lapsed >= MAX_LAPSED_CLAIMS {
                self.forget(&queued);
                outcome.dropped += 1;
            } else {
                self.waiting.insert(queued.item.place(), queued);
                outcome.returned += 1;
            }
        }
    }

    fn claim(&mut self, request: ClaimRequest) -> ClaimOutcome {
        let mut outcome = ClaimOutcome::default();
        self.return_lapsed(request.now, &mut outcome);
        let next = self.waiting.pop_first().map(|(_, queued)| queued).or_else(|| {
            let item = self.playlist.pop_front()?;
            Some(QueuedItem { item: QueueItem { id: request.playlist_item_id, ..item }, bytes: 0, lapsed: 0 })
        });
        if let Some(queued) = next {
            outcome.item = Some(queued.item.clone());
            let ClaimRequest { now: since, until, token, .. } = request;
            self.claimed.insert(queued.item.id, ItemClaim { queued, token, since, until });
        }
        outcome
    }

    /// Takes a claim out; `None` where it is another's, or none any more.
    fn end_claim(&mut self, id: Uuid, token: ClaimToken) -> Option<QueuedItem> {
        self.claimed.get(&id).filter(|claim| claim.token == token)?;
        self.claimed.remove(&id).map(|claim| claim.queued)
    }

    /// Ends a claim, and has its item wait again; returns false where it is another's, or none any more.
    fn release(&mut self, id: Uuid, token: ClaimToken) -> bool {
        let Some(queued) = self.end_claim(id, token) else { return false };
        match queued.item.source {
            ItemSource::Request => drop(self.waiting.insert(queued.item.place(), queued)),
            ItemSource::Playlist => self.playlist.push_front(queued.item),
        }
        true
    }

    fn snapshot(&self) -> QueueSnapshot {
        let mut claimed: Vec<_> = self.claimed.values().collect();
        claimed.sort_by_key(|claim| (claim.since, claim.queued.item.id));
        let claimed = claimed
            .into_iter()
            .map(|claim| WaitingItem { item: claim.queued.item.clone(), claimed_at: Some(claim.since) });
        let waiting = self.waiting.values().map(|queued| WaitingItem { item: queued.item.clone(), claimed_at: None });
        QueueSnapshot { items: claimed.chain(waiting).collect(), playlist_tracks: self.playlist.len() as u64 }
    }
}

impl MemoryQueueStore {
    fn with<T>(&self, channel: &ChannelId, act: impl FnOnce(&mut ChannelQueue) -> T) -> T {
        act(self.channels.lock().entry(channel.clone()).or_default())
    }
}

#[async_trait]
impl QueueStore for MemoryQueueStore {
    async fn add(
        &self,
        channel: &ChannelId,
        item: &QueueItem,
        settings: &QueueSettings,
    ) -> Result<AddOutcome, QueueStoreError> {
        let record = item.to_record().map_err(|error| QueueStoreError(error.to_string()))?;
        Ok(self.with(channel, |queue| queue.add(item, record.len() as u64, settings)))
    }

    async fn remove(
        &self,
        channel: &ChannelId,
        id: Uuid,
        owner: Option<&UserId>,
    ) -> Result<RemoveOutcome, QueueStoreError> {
        Ok(self.with(channel, |queue| queue.remove(id, owner)))
    }

    async fn snapshot(&self, channel: &ChannelId) -> Result<QueueSnapshot, QueueStoreError> {
        Ok(self.with(channel, |queue| queue.snapshot()))
    }

    async fn set_playlist(&self, channel: &ChannelId, items: &[QueueItem]) -> Result<(), QueueStoreError> {
        self.with(channel, |queue| queue.playlist = items.iter().cloned().collect());
        Ok(())
    }

    async fn claim(&self, channel: &ChannelId, request: ClaimRequest) -> Result<ClaimOutcome, QueueStoreError> {
        Ok(self.with(channel, |queue| queue.claim(request)))
    }

    async fn renew(
        &self,
        channel: &ChannelId,
        id: Uuid,
        token: ClaimToken,
        until: UnixMillis,
    ) -> Result<Renewal, QueueStoreError> {
        Ok(self.with(channel, |queue| match queue.claimed.get_mut(&id) {
            Some(claim) if claim.token == token => {
                claim.until = until;
                Renewal::Renewed
            }
            // Memory loses nothing.
            _ => Renewal::Lost,
        }))
    }

    async fn complete(&self, channel: &ChannelId, id: Uuid, token: ClaimToken) -> Result<bool, QueueStoreError> {
        Ok(self.with(channel, |queue| {
            let ended = queue.end_claim(id, token);
            ended.inspect(|queued| queue.forget(queued)).is_some()
        }))
    }

    async fn release(&self, channel: &ChannelId, id: Uuid, token: ClaimToken) -> Result<bool, QueueStoreError> {
        Ok(self.with(channel, |queue| queue.release(id, token)))
    }

    async fn release_all(&self, channel: &ChannelId, token: ClaimToken) -> Result<(), QueueStoreError> {
        self.with(channel, |queue| {
            let claims = queue.claimed.iter().filter(|(_, claim)| claim.token == token);
            let ids: Vec<Uuid> = claims.map(|(id, _)| *id).collect();
            for id in ids {
                queue.release(id, token);
            }
        });
        Ok(())
    }
}
