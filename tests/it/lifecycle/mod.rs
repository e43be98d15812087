//! The life of the process: how it stops, and what its clients see of that.

mod drain;

/// The path of the track that the origins have.
const TRACK: &str = "/stream/track.mp3";
