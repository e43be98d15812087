//! Section `Telegram`.

use std::time::Duration;

use url::Url;

use super::{ConfigLocation, http_url};
use crate::config::file;
use crate::config::report::ConfigProblem;
use primitives::secret::Secret;
use telegram::settings::{Settings, WebhookSettings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Telegram's own server of the Bot API.
const API_URL: &str = "https://api.telegram.org";
/// Path of the webhook.
const WEBHOOK_PATH: &str = "/api/v1/telegram/webhook";

/// Resolves the bot; `Some(None)` if there is none. `has_database` is true if there is something to keep its links in.
pub fn telegram(at: &ConfigLocation<'_>, raw: Option<&file::Telegram>, has_database: bool) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let token = token(&at.key("Token"), raw);
    let expected = "an address such as https://api.telegram.org, without a query";
    let api_url = raw
        .api_url
        .as_ref()
        .map_or_else(|| http_url(API_URL), |text| at.key("ApiUrl").parse(text, expected, plain_url));
    let webhook = raw.webhook.as_ref().map(|raw| webhook(&at.key("Webhook"), raw));
    let default = Settings::new(Secret::default(), http_url(API_URL)?);
    let poll = at.key("PollTimeout").span(raw.poll_timeout, default.poll_timeout, SECOND, 50 * SECOND);
    let ttl = at.key("CodeTtl").span(raw.code_ttl, default.code_ttl, MINUTE, DAY);
    let lease = at.key("Lease").span(raw.lease, default.lease, SECOND, 10 * MINUTE);
    let zone = raw.time_zone.as_ref().map_or(Some(default.time_zone), |text| {
        let parse = |text: &str| schedules::is_zone(text).then(|| text.to_owned());
        at.key("TimeZone").parse(text, "a zone of the IANA database, such as Europe/Kyiv", parse)
    });
    if !has_database {
        let problem = ConfigProblem::new("there is no database to keep links and updates in");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
        return None;
    }
    Some(Some(Settings {
        token: token?,
        api_url: api_url?,
        webhook: webhook.map_or(Some(None), |webhook| webhook.map(Some))?,
        poll_timeout: poll?,
        code_ttl: ttl?,
        lease: lease?,
        time_zone: zone?,
    }))
}

/// Reads the token, which is not shown.
fn token(at: &ConfigLocation<'_>, raw: &file::Telegram) -> Option<Secret> {
    let token = at.secret(&raw.token)?.value;
    let is_token = Settings::is_token(token.expose());
    if !is_token {
        let problem = ConfigProblem::new("this is no token of a bot");
        at.report(
            problem
                .expected("a number, a colon, and 16 or more letters, digits, `_` and `-`, as @BotFather gives them"),
        );
    }
    is_token.then_some(token)
}

fn webhook(at: &ConfigLocation<'_>, raw: &file::TelegramWebhook) -> Option<WebhookSettings> {
    let expected = format!("an address that ends with {WEBHOOK_PATH}");
    let url = at
        .key("Url")
        .parse(&raw.url, &expected, |text| plain_url(text).filter(|url| url.path().ends_with(WEBHOOK_PATH)));
    let secret = at.key("Secret").credential(&raw.secret).filter(|secret| {
        let is_allowed = Settings::is_webhook_secret(secret.expose());
        if !is_allowed {
            let problem = ConfigProblem::new("the Bot API does not take this secret");
            at.key("Secret").report(problem.expected("16 to 256 letters, digits, `_` and `-`"));
        }
        is_allowed
    });
    Some(WebhookSettings { url: url?, secret: secret? })
}

fn plain_url(text: &str) -> Option<Url> {
    http_url(text).filter(|url| url.query().is_none())
}
