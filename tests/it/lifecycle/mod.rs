//! The life of the process: how it stops, how another one takes its place, and what its clients see of that.

mod drain;
mod handed_events;
pub mod process;
mod systemd;
mod upgrade;

/// The path of the track that the origins have.
const TRACK: &str = "/stream/track.mp3";
