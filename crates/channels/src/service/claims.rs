//! Claims of items by whoever plays a channel.

use std::time::Duration;

use super::{ChannelService, ClaimedItem, ordered_id};
use crate::Error;
use crate::channel::ChannelId;
use crate::queue::store::{ClaimRequest, ClaimToken, Renewal};

impl ChannelService {
    /// Claims the next item of a channel by `token`, to play it; it is the caller's for `Settings::queue.claim_lease`. Where it fails
    /// an item may be claimed nevertheless: see [`Self::release_all`].
    pub async fn claim(&self, channel: &ChannelId, token: ClaimToken) -> Result<Option<ClaimedItem>, Error> {
        let (state, now) = (&self.0, self.now());
        let until = now + state.settings.queue.claim_lease;
        let request = ClaimRequest { now, until, token, playlist_item_id: ordered_id(now) };
        let outcome = self.answer(state.store.claim(channel, request).await)?;
        state.metrics.returned.inc_by(outcome.returned.into());
        state.metrics.dropped.inc_by(outcome.dropped.into());
        if outcome.dropped > 0 {
            let (channel, items) = (channel.as_str(), outcome.dropped);
            tracing::warn!(channel, items, "items of a queue were given up: whoever played them has vanished");
        }
        if outcome.item.is_some() || outcome.returned > 0 || outcome.dropped > 0 {
            state.feeds.tell_changed(channel);
        }
        let Some(item) = outcome.item else { return Ok(None) };
        state.metrics.claimed.inc();
        Ok(Some(ClaimedItem { item, token }))
    }

    /// Extends a claim; returns false where the item was taken out, or is another's. A store that knows nothing of it, because it
    /// was emptied, is no reason to stop.
    pub async fn renew(&self, channel: &ChannelId, claimed: &ClaimedItem) -> Result<bool, Error> {
        let until = self.now() + self.0.settings.queue.claim_lease;
        let renewal = self.answer(self.0.store.renew(channel, claimed.item.id, claimed.token, until).await)?;
        Ok(renewal != Renewal::Lost)
    }

    /// Ends a claim after the item was played, or given up.
    pub async fn complete(&self, channel: &ChannelId, claimed: &ClaimedItem) -> Result<bool, Error> {
        let done = self.answer(self.0.store.complete(channel, claimed.item.id, claimed.token).await);
        self.0.feeds.tell_changed(channel);
        done
    }

    /// Ends a claim, and has the item wait again.
    pub async fn release(&self, channel: &ChannelId, claimed: &ClaimedItem) -> Result<bool, Error> {
        let released = self.answer(self.0.store.release(channel, claimed.item.id, claimed.token).await);
        self.0.feeds.tell_changed(channel);
        released
    }

    /// Has wait again whatever is claimed by a token.
    pub async fn release_all(&self, channel: &ChannelId, token: ClaimToken) -> Result<(), Error> {
        let released = self.answer(self.0.store.release_all(channel, token).await);
        self.0.feeds.tell_changed(channel);
        released
    }

    /// Returns true where an item is claimed.
    pub(crate) async fn has_claims(&self, channel: &ChannelId) -> bool {
        let snapshot = self.answer(self.0.store.snapshot(channel).await);
        snapshot.is_ok_and(|snapshot| snapshot.items.first().is_some_and(|item| item.claimed_at.is_some()))
    }

    /// Returns the time for which a claim lasts unless it is renewed.
    pub(crate) fn claim_lease(&self) -> Duration {
        self.0.settings.queue.claim_lease
    }
}
