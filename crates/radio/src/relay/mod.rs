//! Relays: one connection to a station, and its sound for whoever listens. Owns the ring of the last sound, the connection and
//! its repair, and the titles. Knows nothing of HTTP toward listeners.

mod chunk_assembler;
mod chunk_ring;
pub mod listener;
pub mod station_board;
pub mod station_relay;
pub mod upstream_task;
mod vorbis_comment;
