//! Settings of positions.

use std::time::Duration;

/// Lifetime of positions, and the rules for continuing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Time for which a position is stored after its last report.
    pub ttl: Duration,
    /// Percentage below which an item was only tried.
    pub min_resume_percent: u8,
    /// Percentage above which an item was heard to its end.
    pub max_resume_percent: u8,
    /// Shortest item that can be continued.
    pub min_duration: Duration,
    /// Most items of one user; the oldest give way to new ones.
    pub max_items_per_user: u32,
}

impl Default for Settings {
    /// 30 days are given by the documents; the rules for continuing are the defaults that users of Jellyfin know. 2,000
    /// items are 67 new ones on each of the 30 days, some 300 bytes each.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30 * 86_400),
            min_resume_percent: 5,
            max_resume_percent: 90,
            min_duration: Duration::from_secs(300),
            max_items_per_user: 2000,
        }
    }
}
