//! What the operator says of positions.

use std::time::Duration;

/// How long positions are kept, and which are worth continuing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How long a position is kept after it was reported last.
    pub ttl: Duration,
    /// Less of an item than this, in per cent, was only tried.
    pub min_resume_percent: u8,
    /// More of an item than this, in per cent, was heard to the end.
    pub max_resume_percent: u8,
    /// A shorter item is begun anew.
    pub min_duration: Duration,
}

impl Default for Settings {
    /// 30 days are the documents'; the rest is what users of Jellyfin know.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30 * 86_400),
            min_resume_percent: 5,
            max_resume_percent: 90,
            min_duration: Duration::from_secs(300),
        }
    }
}
