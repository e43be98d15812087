//! Settings of playback events.

use std::sync::Arc;

/// Settings of playback events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Topic of the events.
    pub topic: Arc<str>,
    /// Derives Start and Complete from the streams, for players that do not report.
    pub from_streams: bool,
}
