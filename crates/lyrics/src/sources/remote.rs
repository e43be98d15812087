//! Client of a service outside: a GET within a time limit, answers within a bound, left alone after failures and for as long as
//! it asks for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use reqwest::{Client, Response};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use url::Url;

use super::{LyricsSource, SourceFailure};
use crate::settings::ServiceSettings;
use primitives::blocking_calls::BlockingCalls;
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
/// Most questions that are under way at once, each with an answer of [`MAX_BODY_BYTES`] in memory.
const MAX_QUESTIONS: usize = 16;
/// Name under which services know this client.
const USER_AGENT: &str = concat!("Tidegate/", env!("CARGO_PKG_VERSION"), " (https://github.com/tidegate/tidegate)");

/// Service that answers in JSON.
pub struct RemoteService {
    source: LyricsSource,
    client: Client,
    settings: ServiceSettings,
    state: Mutex<BreakerState>,
    questions: Semaphore,
    parser: Arc<BlockingCalls>,
    failures: FailureLog,
    clock: Clock,
}

/// Failures of the service in a row, and the times until which nothing is asked.
#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
    open_until: Option<Instant>,
    /// Time until which it wants to be left alone, whatever it answers to questions that were under way then.
    paused_until: Option<Instant>,
}

impl BreakerState {
    /// Returns true where it may be asked now. Where it was left alone, one request in [`OPEN_TIME`] tries.
    fn admits(&mut self, now: Instant) -> bool {
        if [self.open_until, self.paused_until].into_iter().flatten().any(|until| now < until) {
            return false;
        }
        let was_paused = self.paused_until.take().is_some();
        self.open_until = (was_paused || self.open_until.is_some()).then_some(now + OPEN_TIME);
        true
    }

    fn record_answer(&mut self) {
        (self.failures, self.open_until) = (0, None);
    }

    fn record_failure(&mut self, failure: &RequestFailure, now: Instant) {
        match failure {
            RequestFailure::Failed(_) => {
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    self.open_until = Some(now + OPEN_TIME);
                }
            }
            // The service works, and another question has another answer.
            RequestFailure::Unreadable(_) => self.record_answer(),
            RequestFailure::Throttled(pause) => {
                self.paused_until = self.paused_until.max(Some(now + *pause));
            }
        }
    }
}

/// Failure of a request.
enum RequestFailure {
    /// The service does not work: no connection, no answer in time, or a status of the server's own.
    Failed(String),
    /// It answers, and not in a way that can be read: too much, another form, or a refusal of this question.
    Unreadable(String),
    /// It asks to be left alone for a time.
    Throttled(Duration),
}

impl RemoteService {
    /// Creates a client of `source` over `client`, which must follow no redirects.
    pub fn new(
        source: LyricsSource,
        settings: ServiceSettings,
        client: Client,
        parser: Arc<BlockingCalls>,
        clock: Clock,
    ) -> Self {
        let (state, questions, failures) = (Mutex::default(), Semaphore::new(MAX_QUESTIONS), FailureLog::default());
        Self { source, client, settings, state, questions, parser, failures, clock }
    }

    /// GETs `path` below the service's address, and returns what `read` makes of the answer; `None` where it is 404.
    pub async fn get<T, U>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        read: impl FnOnce(T) -> U + Send + 'static,
    ) -> Result<Option<U>, SourceFailure>
    where
        T: DeserializeOwned,
        U: Send + 'static,
    {
        // It is never closed.
        let permit = tokio::time::timeout(self.settings.timeout, self.questions.acquire()).await;
        let _permit = permit.map_err(|_| SourceFailure::Busy)?.map_err(|_| SourceFailure::Busy)?;
        if !self.state.lock().admits(monotonic_now()) {
            return Err(SourceFailure::Unavailable);
        }
        let asked = tokio::time::timeout(self.settings.timeout, self.ask(path, query)).await;
        let answer = asked.unwrap_or_else(|_| Err(RequestFailure::Failed("no answer in time".to_owned())));
        let body = answer.map_err(|failure| self.fail(&failure))?;
        self.state.lock().record_answer();
        let mut answer = None;
        if let Some(body) = body {
            // Anybody may publish a record that takes long to be read.
            answer = self.parser.run(move || serde_json::from_slice(&body).ok().map(read)).await?;
            if answer.is_none() {
                let words = "the answer is not JSON of the known form".to_owned();
                return Err(self.fail(&RequestFailure::Unreadable(words)));
            }
        }
        if self.failures.is_over(monotonic_now()) {
            tracing::info!(service = self.source.name(), "the service of lyrics answers again");
        }
        Ok(answer)
    }

    fn fail(&self, failure: &RequestFailure) -> SourceFailure {
        let now = monotonic_now();
        self.state.lock().record_failure(failure, now);
        let words = match failure {
            RequestFailure::Failed(words) | RequestFailure::Unreadable(words) => words,
            RequestFailure::Throttled(_) => "status 429",
        };
        // Never with the address: it says what users listen to, and may hold a key of the operator.
        if self.failures.is_news(words, now) {
            tracing::warn!(error = words, service = self.source.name(), "a service of lyrics gives no answer");
        }
        SourceFailure::Unavailable
    }

    /// Returns the body of the answer; `None` where it is 404.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<Vec<u8>>, RequestFailure> {
        let url = url(&self.settings.url, path, query);
        let url = url.ok_or_else(|| RequestFailure::Failed("the address takes no path".to_owned()))?;
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
            status if status.is_server_error() => {
                return Err(RequestFailure::Failed(format!("status {}", status.as_u16())));
            }
            status => return Err(RequestFailure::Unreadable(format!("status {}", status.as_u16()))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(sent)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(RequestFailure::Unreadable("the answer is longer than 1 MiB".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
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
        // The answer to a question that was under way when it asked to be left alone.
        service.record_answer();
        assert!(!service.admits(later + Duration::from_secs(299)) && service.admits(later + Duration::from_secs(300)));
        service.record_answer();
        assert!(service.admits(later + Duration::from_secs(300)), "it works");
    }

    #[test]
    fn answers_that_cannot_be_read_are_no_failures_of_the_service() {
        let mut service = BreakerState::default();
        let now = monotonic_now();
        for _ in 0..10 * MAX_FAILURES {
            assert!(service.admits(now));
            service.record_failure(&RequestFailure::Unreadable("too long".to_owned()), now);
        }
        assert!(service.admits(now));
    }
}
