//! When the items of a queue are played, as far as it can be told. Pure.

use std::time::Duration;

use super::store::{QueueSnapshot, WaitingItem};
use crate::settings::QueueSettings;
use primitives::unix_time::UnixMillis;

/// Item with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstimatedItem {
    /// The item.
    pub item: WaitingItem,
    /// Its place: 1 is next, 0 is played or made ready.
    pub position: u32,
    /// Time until it begins, if nobody goes before it and all lengths are as they were said.
    pub eta: Duration,
}

/// Returns all items in their order, those that are played first.
pub fn estimate(snapshot: QueueSnapshot, settings: &QueueSettings, now: UnixMillis) -> Vec<EstimatedItem> {
    let length = |item: &WaitingItem| item.item.duration.unwrap_or(settings.typical_duration);
    let mut items = Vec::with_capacity(snapshot.items.len());
    let (mut eta, mut position) = (Duration::ZERO, 0);
    for item in snapshot.items {
        match item.claimed_at {
            Some(since) => {
                items.push(EstimatedItem { position: 0, eta, item: item.clone() });
                eta += length(&item).saturating_sub(now - since);
            }
            None => {
                position += 1;
                let length = length(&item);
                items.push(EstimatedItem { position, eta, item });
                eta += length;
            }
        }
    }
    items
}
