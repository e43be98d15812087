//! `Telegram`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, ConfigText, SecretRef, TimeSpan};

/// A Telegram bot, by which users whose account is linked have players, radio, schedules, lyrics, queues and recognition in a chat.
/// Links and updates are kept in `Database`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Telegram {
    /// Whether there is one. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Token of the bot, as `env:NAME` or `file:PATH`.
    pub token: SecretRef,
    /// Address of the Bot API: another one for a server of one's own. Default: `https://api.telegram.org`.
    pub api_url: Option<ConfigText>,
    /// How updates come where they are not asked for. Default: they are asked for.
    pub webhook: Option<TelegramWebhook>,
    /// How long the Bot API may wait for an update before it says that there is none, `1s` to `50s`. Default: `25s`.
    pub poll_timeout: Option<TimeSpan>,
    /// How long a code links an account, `1m` to `1d`. Default: `10m`.
    pub code_ttl: Option<TimeSpan>,
    /// When another node takes over from one that has died, `1s` to `10m`. Default: `15s`.
    pub lease: Option<TimeSpan>,
    /// IANA zone of the times in `/schedule`. Default: `UTC`.
    pub time_zone: Option<ConfigText>,
}

/// Webhook to which the Bot API sends updates.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct TelegramWebhook {
    /// Address of this server's `/api/v1/telegram/webhook`, as the Bot API reaches it: `https://`, or `http://` for a server of
    /// one's own.
    pub url: ConfigText,
    /// Secret that each update must carry: 16 to 256 letters, digits, `_` and `-`, as `env:NAME` or `file:PATH`.
    pub secret: SecretRef,
}
