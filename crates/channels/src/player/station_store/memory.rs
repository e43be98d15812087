//! Stations in memory, for one node.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::channel::ChannelId;
use crate::player::station::{MAX_HISTORY, PlayedRecord, StationRecord, StationStore};
use crate::queue::store::{ClaimToken, QueueStoreError};
use primitives::clock::monotonic_now;

/// Store in memory. Channels come from the settings, so that their number is bounded.
#[derive(Default)]
pub struct MemoryStationStore {
    stations: Mutex<HashMap<ChannelId, Station>>,
}

#[derive(Default)]
struct Station {
    holder: Option<(ClaimToken, Instant)>,
    record: Option<(StationRecord, Instant)>,
    history: VecDeque<PlayedRecord>,
}

impl MemoryStationStore {
    fn with<T>(&self, channel: &ChannelId, act: impl FnOnce(&mut Station) -> T) -> T {
        act(self.stations.lock().entry(channel.clone()).or_default())
    }
}

#[async_trait]
impl StationStore for MemoryStationStore {
    async fn hold(&self, channel: &ChannelId, token: ClaimToken, life: Duration) -> Result<bool, QueueStoreError> {
        let now = monotonic_now();
        Ok(self.with(channel, |station| {
            let is_free = station.holder.is_none_or(|(holder, until)| holder == token || until <= now);
            if is_free {
                station.holder = Some((token, now + life));
            }
            is_free
        }))
    }

    async fn let_go(&self, channel: &ChannelId, token: ClaimToken) -> Result<(), QueueStoreError> {
        self.with(channel, |station| {
            if station.holder.is_some_and(|(holder, _)| holder == token) {
                (station.holder, station.record) = (None, None);
            }
        });
        Ok(())
    }

    async fn set_record(
        &self,
        channel: &ChannelId,
        token: ClaimToken,
        record: &StationRecord,
        life: Duration,
    ) -> Result<(), QueueStoreError> {
        let until = monotonic_now() + life;
        self.with(channel, |station| {
            if station.holder.is_some_and(|(holder, _)| holder == token) {
                station.record = Some((record.clone(), until));
            }
        });
        Ok(())
    }

    async fn record(&self, channel: &ChannelId) -> Result<Option<StationRecord>, QueueStoreError> {
        let now = monotonic_now();
        Ok(self.with(channel, |station| {
            station.record.as_ref().filter(|(_, until)| *until > now).map(|(record, _)| record.clone())
        }))
    }

    async fn add_played(&self, channel: &ChannelId, played: &PlayedRecord) -> Result<(), QueueStoreError> {
        self.with(channel, |station| {
            station.history.push_front(played.clone());
            station.history.truncate(MAX_HISTORY);
        });
        Ok(())
    }

    async fn history(&self, channel: &ChannelId) -> Result<Vec<PlayedRecord>, QueueStoreError> {
        Ok(self.with(channel, |station| station.history.iter().cloned().collect()))
    }
}
