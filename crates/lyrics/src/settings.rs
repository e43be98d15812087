//! Settings of lyrics.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::sources::LyricsSource;
use crate::text::TextFormat;
use primitives::secret::Secret;

/// Sources, services, and the time for which answers are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Sources in the order in which they are asked.
    pub sources: Vec<LyricsSource>,
    /// Formats of files beside tracks; the first that is there is the main text.
    pub formats: Vec<TextFormat>,
    /// Time for which lyrics are kept.
    pub cache_for: Duration,
    /// Time for which it is kept that there are none.
    pub miss_cache_for: Duration,
    /// Most bytes of the cache; beyond them the oldest answers go.
    pub max_bytes: u64,
    /// LRCLIB.
    pub lrclib: Option<ServiceSettings>,
    /// Genius.
    pub genius: Option<ServiceSettings>,
    /// Topic of events of edits, where there are any.
    pub events_topic: Option<Arc<str>>,
}

/// A service outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Address of its API.
    pub url: Url,
    /// Time limit of a question.
    pub timeout: Duration,
    /// Token that it wants.
    pub token: Option<Secret>,
}

impl Default for Settings {
    /// Only what stands in the store is asked: a service outside learns what is listened to.
    fn default() -> Self {
        Self {
            sources: vec![LyricsSource::Sidecar, LyricsSource::Embedded],
            formats: TextFormat::ALL.to_vec(),
            cache_for: Duration::from_secs(7 * 86_400),
            miss_cache_for: Duration::from_secs(86_400),
            max_bytes: 256 << 20,
            lrclib: None,
            genius: None,
            events_topic: None,
        }
    }
}

impl ServiceSettings {
    /// Time limit unless another one is set: whoever opens a player waits for it.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}
