//! An authorisation service over HTTP: one GET, whose status is the answer.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;

use super::access::{Authority, Question};
use super::settings::Template;

/// The service.
pub struct Service {
    client: reqwest::Client,
    url: Template,
    timeout: Duration,
    forward_token: bool,
}

impl Service {
    /// The service that `settings` name, asked through `client`, which must follow no redirects.
    pub fn new(settings: &super::settings::Service, client: reqwest::Client) -> Self {
        let (url, timeout, forward_token) = (settings.url.clone(), settings.timeout, settings.forward_token);
        Self { client, url, timeout, forward_token }
    }
}

#[async_trait]
impl Authority for Service {
    async fn permits(&self, question: Question) -> Option<bool> {
        let url = self.url.fill(&question.user, &question.track)?;
        let mut request = self.client.get(url).timeout(self.timeout);
        if let Some(token) = question.token.as_ref().filter(|_| self.forward_token) {
            request = request.bearer_auth(token.expose());
        }
        match request.send().await.map(|response| response.status()) {
            Ok(status) if status.is_success() => Some(true),
            Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE) => {
                Some(false)
            }
            Ok(status) => {
                tracing::warn!(status = status.as_u16(), "the authorisation service gave no answer");
                None
            }
            Err(error) => {
                tracing::warn!(error = %error.without_url(), "the authorisation service cannot be asked");
                None
            }
        }
    }
}
