//! The Telegram bot: players, radio, schedules, lyrics, queues and recognition from a chat.
//!
//! Owns the client of the Bot API, the tables `telegram_*`, the links of Telegram accounts and what the bot says. What it does for a
//! user it asks of the API of this server ([`UserApi`]), with that user's rights and limits; it knows no module.

mod bot_api;
mod command;
mod commands;
mod conversation;
mod database_queries;
mod engine;
mod incoming;
mod lease;
mod link_code;
mod link_store;
mod metrics;
mod routes;
mod service;
pub mod settings;
#[cfg(test)]
mod tests;
mod texts;
mod update_store;
mod user_api;

pub use routes::{routes, webhook_routes};
pub use service::{TelegramService, TelegramServiceParts};
pub use user_api::{ApiAnswer, ApiBody, ApiRequest, LinkedUser, UserApi};

use server_kit::api::error::Error as ApiError;

/// Reason for which a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database does not answer: try again.
    #[error("the Telegram bot's links and updates cannot be kept or read at the moment")]
    Unavailable,
    /// The user has no link.
    #[error("no Telegram account is linked")]
    NotLinked,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable => Self::unavailable(error.to_string()),
            Error::NotLinked => Self::not_found(error.to_string()),
        }
    }
}
