//! The Bot API (<https://core.telegram.org/bots/api>), as far as the bot uses it: typed requests and answers, one client, and when
//! messages may be sent. It knows nothing of users and commands.

pub mod client;
pub mod pacer;
pub mod sender;
pub mod types;

use std::time::Duration;

/// Failure of a call. No text of it has the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BotApiError {
    /// No answer, or not a whole one: it is not known whether the call was done.
    #[error("the Bot API does not answer: {0}")]
    Unanswered(String),
    /// Too many calls; none is to be made for so long.
    #[error("the Bot API asks to wait for {} s", .0.as_secs())]
    Limited(Duration),
    /// It is broken for the moment: 5xx.
    #[error("the Bot API answers {0}: {1}")]
    Broken(u16, String),
    /// It will not do this, however often it is asked.
    #[error("the Bot API refuses this: {0} {1}")]
    Refused(u16, String),
    /// Another program asks for the updates of the same bot, or they go to a webhook.
    #[error("the updates go to somebody else: {0}")]
    Conflict(String),
    /// No answer of the Bot API, or one that is larger than expected.
    #[error("the answer cannot be read: {0}")]
    BadAnswer(&'static str),
    /// The file is larger than is taken.
    #[error("the file is too large")]
    FileTooLarge,
    /// The process stops.
    #[error("the process stops")]
    Stopping,
}

impl BotApiError {
    /// Returns true where the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unanswered(_) | Self::Limited(_) | Self::Broken(..) | Self::Conflict(_) | Self::BadAnswer(_) => true,
            Self::Refused(..) | Self::FileTooLarge | Self::Stopping => false,
        }
    }
}
