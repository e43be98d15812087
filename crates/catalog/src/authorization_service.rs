//! Authorization service over HTTP: one GET, whose status is the answer.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;

use super::access::{AccessAuthority, AccessQuery};
use super::settings::AccessUrlTemplate;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};

/// Client of the service.
pub struct AuthorizationService {
    client: reqwest::Client,
    url: AccessUrlTemplate,
    timeout: Duration,
    forward_token: bool,
    failures: FailureLog,
}

impl AuthorizationService {
    /// Creates a client for the service of `settings` over `client`, which must follow no redirects.
    pub fn new(settings: &super::settings::AuthorizationServiceSettings, client: reqwest::Client) -> Self {
        let (url, timeout, forward_token) = (settings.url.clone(), settings.timeout, settings.forward_token);
        Self { client, url, timeout, forward_token, failures: FailureLog::default() }
    }

    fn answered(&self, may: bool) -> Option<bool> {
        if self.failures.is_over(monotonic_now()) {
            tracing::info!("the authorisation service answers again");
        }
        Some(may)
    }

    /// Logs the first failure of its kind. Never with the address: it holds the user's id, and may hold a key of the
    /// operator.
    fn failed(&self, words: &str) -> Option<bool> {
        if self.failures.is_news(words, monotonic_now()) {
            tracing::warn!(error = words, "the authorisation service gives no answer");
        }
        None
    }
}

#[async_trait]
impl AccessAuthority for AuthorizationService {
    async fn permits(&self, question: AccessQuery) -> Option<bool> {
        let url = self.url.fill(&question.user, &question.track)?;
        let mut request = self.client.get(url).timeout(self.timeout);
        if let Some(token) = question.token.as_ref().filter(|_| self.forward_token) {
            request = request.bearer_auth(token.expose());
        }
        match request.send().await.map(|response| response.status()) {
            Ok(status) if status.is_success() => self.answered(true),
            // Only these say no; any other status (429, 5xx, a redirect) says that the service could not decide.
            Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE) => {
                self.answered(false)
            }
            Ok(status) => self.failed(&format!("status {}", status.as_u16())),
            // `without_url`, since the URL must not reach the log.
            Err(error) => self.failed(line(&chain(&error.without_url()))),
        }
    }
}
