//! Channels: a user's players by name, such as those of two rooms or of a bot. Pure.

use serde::{Deserialize, Serialize};

use primitives::ids::{UserId, is_name};

/// Longest id of a channel, in bytes.
pub const MAX_CHANNEL_BYTES: usize = 64;
/// Id of the channel that every user has.
const MAIN: &str = "main";

/// Id of a channel: 1 to [`MAX_CHANNEL_BYTES`] bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelId(Box<str>);

impl ChannelId {
    /// Returns the channel that every user has, and that is meant where none is named.
    pub fn main() -> Self {
        Self(MAIN.into())
    }

    /// Returns the id that a text is; `None` where it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= MAX_CHANNEL_BYTES && is_name(text)).then(|| Self(text.into()))
    }

    /// Returns true if this is the channel that every user has.
    pub fn is_main(&self) -> bool {
        &*self.0 == MAIN
    }

    /// Returns the id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Key of a player: the user and one of that user's channels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlayerKey {
    /// The user's id.
    pub user: UserId,
    /// The channel.
    pub channel: ChannelId,
}
