//! Settings of sharing, as the operator gives them.

use std::sync::Arc;
use std::time::Duration;

use primitives::secret::Secret;

/// Settings of the relay.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Token that `Authorization` must hold: this text, or `Bearer ` and this text.
    pub token: Secret,
    /// Live sessions at most; a start beyond them is 503.
    pub max_sessions: usize,
    /// Sockets and streams of listeners at most, over all sessions; one beyond them is 503.
    pub max_listeners: usize,
    /// Sessions with a transcoder at most, at the same time.
    pub max_transcodes: usize,
    /// Audio that is kept for those who fetch it late.
    pub buffer: Duration,
    /// Time after which a session ends whose host says nothing.
    pub timeout: Duration,
    /// Audio of one frame to a listener; `None`: by the number of listeners.
    pub cadence: Option<Duration>,
    /// True where pages of localhost may call.
    pub allow_localhost: bool,
    /// True where audio is kept in Redis for programs that know only the document.
    pub compatibility: bool,
    /// Settings of recordings; `None`: hosts may not record.
    pub recording: Option<RecordingSettings>,
}

/// Settings of recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingSettings {
    /// Name of the store.
    pub store: Arc<str>,
    /// Bucket in the store.
    pub bucket: String,
    /// Prefix of keys.
    pub prefix: String,
    /// Longest recording: it ends when it plays so long.
    pub max_duration: Duration,
    /// Largest recording: it ends when it has so many bytes.
    pub max_size: u64,
}

impl Settings {
    /// Returns the default settings, as the API document "Music Share Server" has them, with `token`.
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
