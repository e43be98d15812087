//! What the player of a channel tells of itself.

use super::ChannelService;
use crate::channel::ChannelId;
use crate::player::PLAYER_LEASE;
use crate::player::station::{PlayedRecord, StationRecord};
use crate::queue::store::ClaimToken;

impl ChannelService {
    /// Takes a channel for a node, or extends that; `None` where nobody can tell.
    pub(crate) async fn hold_station(&self, channel: &ChannelId, token: ClaimToken) -> Option<bool> {
        self.answer(self.0.stations.hold(channel, token, PLAYER_LEASE).await).ok()
    }

    /// Gives a channel up; if it fails, the hold of it lapses.
    pub(crate) async fn let_station_go(&self, channel: &ChannelId, token: ClaimToken) {
        let _ = self.answer(self.0.stations.let_go(channel, token).await);
    }

    /// Says what a channel does; if it fails, it is said again soon.
    pub(crate) async fn set_station(&self, channel: &ChannelId, token: ClaimToken, record: &StationRecord) {
        let _ = self.answer(self.0.stations.set_record(channel, token, record, PLAYER_LEASE).await);
    }

    /// Writes down what was played; a history with a gap is better than a channel that stops.
    pub(crate) async fn add_played(&self, channel: &ChannelId, played: &PlayedRecord) {
        let _ = self.answer(self.0.stations.add_played(channel, played).await);
    }
}
