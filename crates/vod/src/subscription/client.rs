//! Client of the service that knows subscriptions: one GET, tried once more within the same time limit.

use std::time::{Duration, Instant};

use percent_encoding::utf8_percent_encode;
use reqwest::StatusCode;
use serde::Deserialize;

use super::breaker::CircuitBreaker;
use crate::UNRESERVED;
use crate::settings::SubscriptionSettings;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::UserId;

/// Largest answer, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Answer of the service; the first of the three that is there counts.
#[derive(Deserialize)]
struct SubscriptionBody {
    active: Option<bool>,
    is_active: Option<bool>,
    status: Option<String>,
}

impl SubscriptionBody {
    fn is_active(&self) -> Option<bool> {
        let by_status = self.status.as_ref().map(|status| status.eq_ignore_ascii_case("active"));
        self.active.or(self.is_active).or(by_status)
    }
}

/// Client of the service.
pub struct SubscriptionClient {
    client: reqwest::Client,
    url: String,
    timeout: Duration,
    breaker: CircuitBreaker,
    failures: FailureLog,
}

impl SubscriptionClient {
    /// Creates a client over `client`, which must follow no redirects.
    pub fn new(settings: &SubscriptionSettings, client: reqwest::Client) -> Self {
        let (url, timeout) = (settings.url.clone(), settings.timeout);
        Self { client, url, timeout, breaker: CircuitBreaker::default(), failures: FailureLog::default() }
    }

    /// Returns true if `user` has an active subscription; `None` if the service does not say so within its time.
    pub async fn ask(&self, user: &UserId) -> Option<bool> {
        let began = monotonic_now();
        if !self.breaker.admits(began) {
            return None;
        }
        // The first try may use most of the time, and a try that fails at once leaves the rest to the second.
        let first = self.try_once(user, self.timeout * 3 / 5).await;
        let answer = match first {
            Ok(answer) => Ok(answer),
            Err(_) => self.try_once(user, self.timeout.saturating_sub(began.elapsed())).await,
        };
        let now = monotonic_now();
        self.breaker.record(answer.is_ok(), now);
        match answer {
            Ok(answer) => {
                if self.failures.is_over(now) {
                    tracing::info!("the service of subscriptions answers again");
                }
                Some(answer)
            }
            Err(error) => self.failed(&error, now),
        }
    }

    /// Logs the first failure of its kind; never with the address, which holds the user's id.
    fn failed(&self, error: &str, now: Instant) -> Option<bool> {
        if self.failures.is_news(error, now) {
            tracing::warn!(error, "the service of subscriptions (Vod.Subscription) gives no answer");
        }
        None
    }

    async fn try_once(&self, user: &UserId, budget: Duration) -> Result<bool, String> {
        let id = utf8_percent_encode(user.as_str(), UNRESERVED).to_string();
        let request = self.client.get(self.url.replace("{user_id}", &id)).timeout(budget);
        let reason = |error: reqwest::Error| line(&chain(&error.without_url())).to_owned();
        let mut response = request.send().await.map_err(reason)?;
        match response.status() {
            StatusCode::OK => {}
            // A user whom it does not know has no subscription.
            StatusCode::NOT_FOUND => return Ok(false),
            status => return Err(format!("status {}", status.as_u16())),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reason)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err("the answer is longer than 64 KiB".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        let body: SubscriptionBody = serde_json::from_slice(&body)
            .map_err(|_| "the answer is not a JSON object of the known form".to_owned())?;
        body.is_active().ok_or_else(|| "the answer has none of `active`, `is_active` and `status`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_the_three_forms_that_are_in_use() {
        for (body, expected) in [
            (r#"{"active":true}"#, Some(true)),
            (r#"{"is_active":false,"plan":"gold"}"#, Some(false)),
            (r#"{"status":"ACTIVE"}"#, Some(true)),
            (r#"{"status":"canceled"}"#, Some(false)),
            (r#"{"active":false,"status":"active"}"#, Some(false)),
            (r#"{"plan":"gold"}"#, None),
        ] {
            let body: SubscriptionBody = serde_json::from_str(body).expect("JSON");
            assert_eq!(body.is_active(), expected);
        }
    }
}
