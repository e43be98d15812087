//! Settings of recognition.

use std::path::PathBuf;
use std::time::Duration;

/// Index, and bounds of what users send and keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the index.
    pub index: PathBuf,
    /// Length of a clip that is listened to.
    pub clip_length: Duration,
    /// Entries of one user's history; beyond them the oldest go.
    pub max_history: u32,
}

impl Settings {
    /// Folder of the index unless another one is set.
    pub const INDEX: &'static str = "data/recognition";
}

impl Default for Settings {
    /// Twenty seconds tell a track as well as a minute does, at a third of the cost.
    fn default() -> Self {
        Self { index: Self::INDEX.into(), clip_length: Duration::from_secs(20), max_history: 500 }
    }
}
