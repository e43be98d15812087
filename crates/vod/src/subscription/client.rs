//! Client of the service that knows subscriptions: one GET, tried once more within the same time limit.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde::Deserialize;

use super::breaker::CircuitBreaker;
use crate::settings::{SubscriptionSettings, SubscriptionUrlTemplate};
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

/// Reason for which an answer is none.
enum NoAnswer {
    /// The service does not work: no connection, no answer in time, or a status that says so.
    Failure(String),
    /// The service works and says nothing of use about this user.
    Unusable(String),
}

/// Result of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The user has an active subscription, or has not.
    Answered(bool),
    /// The service works, but has no usable answer about this user.
    Unusable,
    /// The service does not work, or is left alone.
    Unavailable,
}

/// Client of the service.
pub struct SubscriptionClient {
    client: reqwest::Client,
    url: SubscriptionUrlTemplate,
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

    /// Asks whether `user` has an active subscription, within the time limit.
    pub async fn ask(&self, user: &UserId) -> Asked {
        let began = monotonic_now();
        if !self.breaker.admits(user, began) {
            return Asked::Unavailable;
        }
        // The first try may use most of the time, and a try that fails at once leaves the rest to the second.
        let first = self.try_once(user, self.timeout * 3 / 5).await;
        let answer = match first {
            Err(NoAnswer::Failure(_)) => self.try_once(user, self.timeout.saturating_sub(began.elapsed())).await,
            answer => answer,
        };
        let now = monotonic_now();
        match answer {
            Ok(answer) => {
                self.breaker.succeeded();
                if self.failures.is_over(now) {
                    tracing::info!("the service of subscriptions answers again");
                }
                Asked::Answered(answer)
            }
            Err(NoAnswer::Unusable(error)) => {
                self.breaker.succeeded();
                self.log_failure(&error, now);
                Asked::Unusable
            }
            Err(NoAnswer::Failure(error)) => {
                self.breaker.failed(user, now);
                self.log_failure(&error, now);
                Asked::Unavailable
            }
        }
    }

    /// Logs the first failure of its kind; never with the address, which holds the user's id.
    fn log_failure(&self, error: &str, now: Instant) {
        if self.failures.is_news(error, now) {
            tracing::warn!(error, "the service of subscriptions (Vod.Subscription) gives no answer");
        }
    }

    async fn try_once(&self, user: &UserId, budget: Duration) -> Result<bool, NoAnswer> {
        let unusable = |reason: &str| NoAnswer::Unusable(reason.to_owned());
        let url = self.url.fill(user).ok_or_else(|| unusable("the user's id makes no URL"))?;
        let request = self.client.get(url).timeout(budget);
        let failure = |error: reqwest::Error| NoAnswer::Failure(line(&chain(&error.without_url())).to_owned());
        let mut response = request.send().await.map_err(failure)?;
        match response.status() {
            StatusCode::OK => {}
            // A user whom it does not know has no subscription.
            StatusCode::NOT_FOUND => return Ok(false),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(NoAnswer::Failure(format!("status {}", status.as_u16())));
            }
            status => return Err(NoAnswer::Unusable(format!("status {}", status.as_u16()))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(unusable("the answer is longer than 64 KiB"));
            }
            body.extend_from_slice(&chunk);
        }
        let body: SubscriptionBody =
            serde_json::from_slice(&body).map_err(|_| unusable("the answer is not a JSON object of the known form"))?;
        body.is_active().ok_or_else(|| unusable("the answer has none of `active`, `is_active` and `status`"))
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
