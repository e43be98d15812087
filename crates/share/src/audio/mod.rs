//! Audio as it passes through the relay: chunks of floats and packets of Opus, their order, the queues in which listeners
//! find them, and their other formats. Knows neither sessions nor sockets; only `transcode` runs tasks.

pub mod chunk;
pub mod chunk_ring;
pub mod frame;
#[cfg(test)]
mod fuzz;
pub mod ogg;
pub mod opus;
pub mod packet_queue;
pub mod reorder_buffer;
pub mod transcode;
pub mod wav;
