//! What playback is told.

use std::sync::Arc;

/// How playback events are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Their topic.
    pub topic: Arc<str>,
    /// Whether streams tell of Start and Complete, for players that do not.
    pub from_streams: bool,
}
