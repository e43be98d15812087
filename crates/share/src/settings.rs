//! What the operator says of sharing.

use std::sync::Arc;
use std::time::Duration;

use primitives::secret::Secret;

/// The relay's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What `Authorization` must be: this text, or `Bearer ` and this text.
    pub token: Secret,
    /// Live sessions at most; a start beyond them is 503.
    pub max_sessions: usize,
    /// Sockets and streams of listeners at most, over all sessions; one beyond them is 503.
    pub max_listeners: usize,
    /// Sessions at most whose audio is turned into another format at the same time.
    pub max_transcodes: usize,
    /// How much audio is kept for those who fetch it late.
    pub buffer: Duration,
    /// A session ends when its host says nothing for so long.
    pub timeout: Duration,
    /// How much audio one frame to a listener holds; `None`: by the number of listeners.
    pub cadence: Option<Duration>,
    /// Whether pages of localhost may call.
    pub allow_localhost: bool,
    /// Whether audio is kept in Redis for programs that know only the document.
    pub compatibility: bool,
    /// Where hosts may record; `None`: they may not.
    pub recording: Option<Recording>,
}

/// Where recordings go, and how long they get.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The store's name.
    pub store: Arc<str>,
    /// The bucket.
    pub bucket: String,
    /// What keys begin with.
    pub prefix: String,
    /// A recording ends when it plays so long.
    pub max_duration: Duration,
    /// A recording ends when it has so many bytes.
    pub max_size: u64,
}

impl Settings {
    /// The document's defaults.
    pub fn new(token: Secret) -> Self {
        Self {
            token,
            max_sessions: 50,
            max_listeners: 10_000,
            max_transcodes: 100,
            buffer: Duration::from_secs(5),
            timeout: Duration::from_secs(15 * 60),
            cadence: None,
            allow_localhost: false,
            recording: None,
            compatibility: false,
        }
    }
}
