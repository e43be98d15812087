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
    /// Positions in films, where there are Redis and a database.
    pub write_back: WriteBackSettings,
}

/// Settings of positions that are acknowledged before they are in the database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteBackSettings {
    /// False: the database is written before the answer.
    pub is_enabled: bool,
    /// Time after a report by which the database has it.
    pub flush_interval: Duration,
    /// Time for which Redis keeps what the database has.
    pub cache_ttl: Duration,
    /// Most bytes in Redis that wait for the database.
    pub max_bytes: u64,
}

impl Default for WriteBackSettings {
    /// Six reports of ten seconds are one row. 24 hours are document 003's. 1 GiB are 3 million films while the
    /// database is away.
    fn default() -> Self {
        Self {
            is_enabled: true,
            flush_interval: Duration::from_secs(60),
            cache_ttl: Duration::from_secs(86_400),
            max_bytes: 1 << 30,
        }
    }
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
            write_back: WriteBackSettings::default(),
        }
    }
}
