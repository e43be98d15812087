//! Client of a service outside: a GET within a time limit, answers within a bound, left alone after failures and for as long as
//! it asks for.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use reqwest::{Client, Response};
use serde::de::DeserializeOwned;
use url::Url;

use super::{LyricsSource, SourceUnavailable};
use crate::settings::ServiceSettings;
use primitives::clock::{Clock, monotonic_now};
use primitives::failure_log::{FailureLog, chain, line};

/// Largest answer, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Failures in a row after which it is left alone.
const MAX_FAILURES: u32 = 5;
/// Time for which it is then left alone; after that one request tries.
const OPEN_TIME: Duration = Duration::from_secs(30);
/// Time for which it is left alone after a 429 that names none.
const DEFAULT_PAUSE: Duration = Duration::from_secs(60);
/// Longest time that it may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Name under which services know this client.
const USER_AGENT: &str = concat!("Tidegate/", env!("CARGO_PKG_VERSION"), " (https://github.com/tidegate/tidegate)");

/// Service that answers in JSON.
pub struct RemoteService {
    source: LyricsSource,
    client: Client,
    settings: ServiceSettings,
    state: Mutex<BreakerState>,
    failures: FailureLog,
    clock: Clock,
}

/// Failures in a row, and the time until which nothing is asked.
#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
    closed_until: Option<Instant>,
}

impl BreakerState {
    /// Returns true where it may be asked now. Where it was left alone, one request in [`OPEN_TIME`] tries.
    fn admits(&mut self, now: Instant) -> bool {
        match self.closed_until {
            Some(until) if now < until => false,
            Some(_) => {
                self.closed_until = Some(now + OPEN_TIME);
                true
            }
            None => true,
        }
    }

    fn record_failure(&mut self, failure: &RequestFailure, now: Instant) {
        match failure {
            RequestFailure::Failed(_) => {
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    self.closed_until = Some(now + OPEN_TIME);
                }
            }
            RequestFailure::Throttled(pause) => self.closed_until = Some(now + *pause),
        }
    }
}

/// Failure of a request.
enum RequestFailure {
    /// The service does not work.
    Failed(String),
    /// It asks to be left alone for a time.
    Throttled(Duration),
}

impl RemoteService {
    /// Creates a client of `source` over `client`, which must follow no redirects.
    pub fn new(source: LyricsSource, settings: ServiceSettings, client: Client, clock: Clock) -> Self {
        Self { source, client, settings, state: Mutex::default(), failures: FailureLog::default(), clock }
    }

    /// GETs `path` below the service's address; `None` where the answer is 404.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, SourceUnavailable> {
        if !self.state.lock().admits(monotonic_now()) {
            return Err(SourceUnavailable);
        }
        let asked = tokio::time::timeout(self.settings.timeout, self.ask(path, query)).await;
        let answer = asked.unwrap_or_else(|_| Err(RequestFailure::Failed("no answer in time".to_owned())));
        let now = monotonic_now();
        match answer {
            Ok(answer) => {
                *self.state.lock() = BreakerState::default();
                if self.failures.is_over(now) {
                    tracing::info!(service = self.source.name(), "the service of lyrics answers again");
                }
                Ok(answer)
            }
            Err(failure) => {
                self.record_failure(&failure, now);
                Err(SourceUnavailable)
            }
        }
    }

    fn record_failure(&self, failure: &RequestFailure, now: Instant) {
        self.state.lock().record_failure(failure, now);
        let words = match failure {
            RequestFailure::Failed(words) => words,
            RequestFailure::Throttled(_) => "status 429",
        };
        // Never with the address: it says what users listen to, and may hold a key of the operator.
        if self.failures.is_news(words, now) {
            tracing::warn!(error = words, service = self.source.name(), "a service of lyrics gives no answer");
        }
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<T>, RequestFailure> {
        let failed = |words: &str| RequestFailure::Failed(words.to_owned());
        let url = url(&self.settings.url, path, query).ok_or_else(|| failed("the address takes no path"))?;
        let request = self.client.get(url).timeout(self.settings.timeout).headers(client_headers());
        let request = match &self.settings.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let sent = |error: reqwest::Error| RequestFailure::Failed(line(&chain(&error.without_url())).to_owned());
        let mut response = request.send().await.map_err(sent)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::TOO_MANY_REQUESTS => return Err(RequestFailure::Throttled(self.pause(&response))),
            status => return Err(RequestFailure::Failed(format!("status {}", status.as_u16()))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(sent)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(failed("the answer is longer than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map(Some).map_err(|_| failed("the answer is not JSON of the known form"))
    }

    /// Returns the time that a 429 asks for (RFC 9110 §10.2.3): seconds, or a date.
    fn pause(&self, response: &Response) -> Duration {
        let value = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let until = |date: SystemTime| date.duration_since(self.clock.now()).unwrap_or_default();
        let pause = value.map(str::trim).and_then(|text| match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(text).ok().map(until),
        });
        pause.unwrap_or(DEFAULT_PAUSE).min(MAX_PAUSE)
    }
}

fn client_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
    headers
}

/// Returns the URL of `path` below `base`, with the query encoded.
fn url(base: &Url, path: &str, query: &[(&str, &str)]) -> Option<Url> {
    let mut url = base.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(path.split('/'));
    url.query_pairs_mut().clear().extend_pairs(query);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_query_never_become_a_path_or_another_parameter() {
        let base: Url = "https://h:8/base/".parse().expect("a URL");
        let url = url(&base, "api/get", &[("q", "a&b=c#d/../é")]).expect("a URL");
        assert_eq!(url.as_str(), "https://h:8/base/api/get?q=a%26b%3Dc%23d%2F..%2F%C3%A9");
    }

    #[test]
    fn a_service_that_fails_is_left_alone_and_tried_again() {
        let mut service = BreakerState::default();
        let now = monotonic_now();
        for _ in 0..MAX_FAILURES {
            assert!(service.admits(now));
            service.record_failure(&RequestFailure::Failed("x".to_owned()), now);
        }
        assert!(!service.admits(now));
        let later = now + OPEN_TIME;
        assert!(service.admits(later) && !service.admits(later), "one tries");
        service.record_failure(&RequestFailure::Throttled(Duration::from_secs(300)), later);
        assert!(!service.admits(later + Duration::from_secs(299)) && service.admits(later + Duration::from_secs(300)));
    }
}
