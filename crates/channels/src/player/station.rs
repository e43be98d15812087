//! What is known of a channel besides its queue: which node plays it, what is heard, and what was. Pure, but for the store's trait.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::channel::ChannelId;
use crate::queue::store::{ClaimToken, QueueStoreError};
use primitives::unix_time::UnixMillis;

/// Items of a channel's history at most.
pub const MAX_HISTORY: usize = 100;
/// Longest reason that is kept, in bytes.
const MAX_REASON_BYTES: usize = 200;

/// What a channel does now, as the node says that plays it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationRecord {
    /// Id of the session that is listened to, if there is one.
    pub session: Option<String>,
    /// Item that is heard, if there is one.
    pub heard: Option<HeardTrack>,
}

/// Track that is heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardTrack {
    /// Id of the item.
    pub item: Uuid,
    /// Id of the track.
    pub track: String,
    /// Time at which it began.
    pub began_at: UnixMillis,
    /// Length in milliseconds, where it is known.
    pub length_ms: Option<i64>,
}

/// How an item ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "reason")]
pub enum PlayOutcome {
    /// It was heard to its end.
    Played,
    /// It was taken out.
    Skipped,
    /// It could not be played, or broke off.
    Failed(PlayFailure),
}

/// Why an item could not be played.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayFailure {
    /// What every user may know.
    pub cause: FailureCause,
    /// The text for the log and for admins: it may hold what the operator is told of a store.
    pub detail: String,
}

/// Cause of a failure, as users are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCause {
    /// Its object cannot be read.
    Unreadable,
    /// It has no form that is known.
    UnknownFormat,
    /// Its sound is damaged, or there is none.
    Damaged,
    /// It goes on for longer than a track may.
    TooLong,
}

impl FailureCause {
    /// Returns the name as users are told it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::UnknownFormat => "unknown-format",
            Self::Damaged => "damaged",
            Self::TooLong => "too-long",
        }
    }
}

/// Item that was played, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayedRecord {
    /// Id of the item.
    pub item: Uuid,
    /// Id of the track.
    pub track: String,
    /// Time at which it was over.
    pub ended_at: UnixMillis,
    /// How.
    #[serde(flatten)]
    pub outcome: PlayOutcome,
}

impl PlayOutcome {
    /// Returns a failure whose reason is one short line.
    pub fn failed(cause: FailureCause, reason: &str) -> Self {
        let line = reason.lines().next().unwrap_or_default();
        let mut end = line.len().min(MAX_REASON_BYTES);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        Self::Failed(PlayFailure { cause, detail: line[..end].to_owned() })
    }

    /// Returns the name of the outcome.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Played => "played",
            Self::Skipped => "skipped",
            Self::Failed(_) => "failed",
        }
    }
}

/// Store of stations.
#[async_trait]
pub trait StationStore: Send + Sync {
    /// Takes a channel for `life`, or extends that; returns false where another has it.
    async fn hold(&self, channel: &ChannelId, token: ClaimToken, life: Duration) -> Result<bool, QueueStoreError>;

    /// Gives a channel up that is this token's.
    async fn let_go(&self, channel: &ChannelId, token: ClaimToken) -> Result<(), QueueStoreError>;

    /// Says for `life` what the channel does; nothing is said by whoever does not hold it.
    async fn set_record(
        &self,
        channel: &ChannelId,
        token: ClaimToken,
        record: &StationRecord,
        life: Duration,
    ) -> Result<(), QueueStoreError>;

    /// Returns what the channel does; `None` where no node plays it.
    async fn record(&self, channel: &ChannelId) -> Result<Option<StationRecord>, QueueStoreError>;

    /// Writes down what was played; of more than [`MAX_HISTORY`] the oldest goes.
    async fn add_played(&self, channel: &ChannelId, played: &PlayedRecord) -> Result<(), QueueStoreError>;

    /// Returns what was played, the latest first.
    async fn history(&self, channel: &ChannelId) -> Result<Vec<PlayedRecord>, QueueStoreError>;
}
