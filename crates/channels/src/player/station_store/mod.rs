//! Store of stations: memory for one node, Redis for several.

mod memory;
mod redis;

use std::sync::Arc;

use super::station::StationStore;
pub use memory::MemoryStationStore;
pub use redis::RedisStationStore;
use server_kit::redis::Redis;

/// Creates the store: over Redis where there is one, else in memory.
pub fn open(redis: Option<Redis>) -> Arc<dyn StationStore> {
    match redis {
        Some(redis) => Arc::new(RedisStationStore::new(redis)),
        None => Arc::new(MemoryStationStore::default()),
    }
}
