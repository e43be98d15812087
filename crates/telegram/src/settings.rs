//! Settings of the Telegram bot.

use std::time::Duration;

use url::Url;

use primitives::secret::Secret;

/// The bot, the way to it, and times of its running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Token of the bot, which stands in the path of each request to the Bot API.
    pub token: Secret,
    /// Bot API server, without a slash at its end.
    pub api_url: Url,
    /// Way by which updates come; `None`: they are asked for.
    pub webhook: Option<WebhookSettings>,
    /// Longest time for which the Bot API may wait for an update before it answers with none.
    pub poll_timeout: Duration,
    /// Time for which a code links an account.
    pub code_ttl: Duration,
    /// Time without a sign of life after which another node takes over.
    pub lease: Duration,
    /// IANA zone of the times that `/schedule` names.
    pub time_zone: String,
}

/// Webhook to which the Bot API sends updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Address of `/api/v1/telegram/webhook` on this server, as the Bot API reaches it.
    pub url: Url,
    /// Secret that each request must carry.
    pub secret: Secret,
}

impl Settings {
    /// Settings of the bot of `token` at Telegram's own server. A poll of 25 s ends before proxies would cut it.
    pub fn new(token: Secret, api_url: Url) -> Self {
        Self {
            token,
            api_url,
            webhook: None,
            poll_timeout: Duration::from_secs(25),
            code_ttl: Duration::from_secs(600),
            lease: Duration::from_secs(15),
            time_zone: "UTC".to_owned(),
        }
    }

    /// Returns the id of the bot: the beginning of its token, which is no secret.
    pub fn bot_id(&self) -> &str {
        self.token.expose().split(':').next().unwrap_or_default()
    }

    /// Returns true for a text of the form of bots' tokens: a number, a colon, and letters, digits, `_` and `-`.
    pub fn is_token(text: &str) -> bool {
        text.split_once(':').is_some_and(|(id, key)| {
            let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            !id.is_empty()
                && id.len() <= 20
                && id.bytes().all(|byte| byte.is_ascii_digit())
                && (16..=128).contains(&key.len())
                && key.bytes().all(is_key)
        })
    }

    /// Returns true for a secret that the Bot API takes for a webhook: 1 to 256 letters, digits, `_` and `-`.
    pub fn is_webhook_secret(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        (1..=256).contains(&text.len()) && text.bytes().all(is_allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_secrets_have_the_form_that_the_bot_api_takes() {
        for (text, expected) in [
            ("123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11", true),
            ("123456ABC-DEF1234ghIkl-zyx57W2v1u123ew11", false),
            ("12a456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11", false),
            ("123456:short", false),
            ("123456:ABC/DEF1234ghIkl-zyx57W2v1u123ew11", false),
            (":ABC-DEF1234ghIkl-zyx57W2v1u123ew11", false),
        ] {
            assert_eq!(Settings::is_token(text), expected, "{text}");
        }
        assert!(Settings::is_webhook_secret("a_B-9") && !Settings::is_webhook_secret("a b"));
        assert!(!Settings::is_webhook_secret("") && !Settings::is_webhook_secret(&"x".repeat(257)));
    }
}
