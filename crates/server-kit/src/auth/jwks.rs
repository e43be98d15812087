//! Published keys of an issuer: fetched when first needed, renewed in the background, kept while the issuer is down. At
//! most one fetch per issuer is under way at any time, and any number of tokens with unknown keys causes no more than
//! one fetch every ten seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use jsonwebtoken::Algorithm;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use url::Url;

use super::error::AuthenticationError;
use super::jwt::UnverifiedToken;
use super::keys::{self, VerificationKey};
use primitives::clock::Clock;

/// Spawns a task that outlives the request that started it; its owner lets shutdown wait for such tasks.
pub type TaskSpawner = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// Lifetime of keys if the issuer does not give one, in seconds.
const DEFAULT_MAX_AGE: u64 = 600;
/// Bounds of the lifetime that an issuer may give, in seconds: often enough to notice a rotation, seldom enough to be
/// no burden.
const MIN_MAX_AGE: u64 = 60;
const MAX_MAX_AGE: u64 = 3600;
/// Shortest interval between two fetches that unknown keys cause, in seconds.
const FORCED_INTERVAL: u64 = 10;
/// Longest wait after a failure, in seconds; the first is one second, each further one twice as long.
const MAX_BACKOFF: u64 = 60;
/// Timeout of a request whose token names an unknown key.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(2);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
// Memory is the only concern: 64 keys are a few tens of KB.
const MAX_BYTES: usize = 1024 * 1024;

/// The keys of one issuer.
pub(super) struct JwksCache {
    url: Url,
    /// For the log; an issuer's name is public, its address need not be.
    issuer: String,
    client: reqwest::Client,
    clock: Clock,
    spawner: TaskSpawner,
    key_set: ArcSwapOption<PublishedKeySet>,
    /// Time of the next fetch, in Unix seconds; 0 before the first.
    due_at: AtomicU64,
    /// State of fetches; locked while one is under way.
    fetch_state: Arc<Mutex<JwksFetchState>>,
}

/// Keys that were fetched together.
struct PublishedKeySet {
    /// Incremented by every change, so that verdicts of an older set can be told apart.
    generation: u64,
    digest: [u8; 32],
    keys: Vec<VerificationKey>,
}

#[derive(Default)]
struct JwksFetchState {
    /// Failures since the last success.
    failures: u32,
    /// Time of the last fetch that an unknown key caused, in Unix seconds.
    forced_at: Option<u64>,
}

/// Reason for which keys were not fetched. Without the address, which may name an internal host.
#[derive(Debug, Error, PartialEq, Eq)]
enum JwksFetchError {
    #[error("no answer within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
    #[error("no connection")]
    Connect,
    #[error("the exchange broke")]
    Exchange,
    #[error("redirected elsewhere: Jwks must be the address that answers")]
    Redirected,
    #[error("status {0} instead of 200")]
    Status(u16),
    #[error("the document is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the document is no JSON Web Key Set")]
    NotASet,
}

impl From<reqwest::Error> for JwksFetchError {
    fn from(error: reqwest::Error) -> Self {
        match error {
            error if error.is_timeout() => Self::Timeout,
            error if error.is_connect() => Self::Connect,
            _ => Self::Exchange,
        }
    }
}

impl JwksCache {
    pub(super) fn new(
        url: Url,
        issuer: String,
        client: reqwest::Client,
        clock: Clock,
        spawner: TaskSpawner,
    ) -> Arc<Self> {
        Arc::new(Self {
            url,
            issuer,
            client,
            clock,
            spawner,
            key_set: ArcSwapOption::empty(),
            due_at: AtomicU64::new(0),
            fetch_state: Arc::default(),
        })
    }

    /// Returns true where `other` has the keys of the same issuer, from the same address.
    pub(super) fn is_of_same(&self, other: &Self) -> bool {
        (&self.url, &self.issuer) == (&other.url, &other.issuer)
    }

    /// Fetches the keys where there are none; a failure is logged, and the next token tries again.
    pub(super) async fn fetch_if_missing(self: &Arc<Self>) {
        let _ = self.current_keys().await;
    }

    /// Fetches the keys; returns the issuer's name, and how many keys there are or why there are none.
    pub(super) async fn check(&self) -> (String, Result<usize, String>) {
        let fetched = self.download().await.map_err(|error| error.to_string());
        let count = || self.key_set.load().as_ref().map_or(0, |set| set.keys.len());
        (self.issuer.clone(), fetched.map(|_| count()))
    }

    /// Verifies a token's signature, and returns the generation of the keys. A key that is not known may be new: that
    /// is worth one fetch.
    pub(super) async fn verify(self: &Arc<Self>, token: &UnverifiedToken<'_>) -> Result<u64, AuthenticationError> {
        if token.algorithm == Algorithm::HS256 {
            // Published keys verify no shared secrets, so no fetch could help.
            return Err(AuthenticationError::UnsupportedAlgorithm);
        }
        let mut set = self.current_keys().await?;
        let mut verdict = keys::verify_with(&set.keys, token);
        if verdict == Err(AuthenticationError::UnknownKey) {
            set = self.keys_newer_than(set).await?;
            verdict = keys::verify_with(&set.keys, token);
        }
        verdict.map(|()| set.generation)
    }

    /// Returns the generation of the keys in use. Called by every request with a cached token, so it also keeps the
    /// keys fresh.
    pub(super) fn generation(self: &Arc<Self>) -> Option<u64> {
        self.refresh_in_background();
        self.key_set.load().as_ref().map(|set| set.generation)
    }

    /// Returns the keys in use, however old; if there are none yet, those of the first fetch.
    async fn current_keys(self: &Arc<Self>) -> Result<Arc<PublishedKeySet>, AuthenticationError> {
        if let Some(set) = self.key_set.load_full() {
            self.refresh_in_background();
            return Ok(set);
        }
        let mut flight = self.fetch_state.lock().await;
        // Whoever held the lock before may have fetched them, or failed just now.
        if self.key_set.load().is_none() && self.is_due() {
            self.fetch(&mut flight).await;
        }
        self.key_set.load_full().ok_or(AuthenticationError::KeysUnavailable)
    }

    /// Returns keys newer than `seen`, after a fetch if one is allowed now. If the issuer does not answer soon, or did
    /// not the last time, it cannot be told whether the key is one of its own.
    async fn keys_newer_than(
        self: &Arc<Self>,
        seen: Arc<PublishedKeySet>,
    ) -> Result<Arc<PublishedKeySet>, AuthenticationError> {
        let away = Err(AuthenticationError::KeysUnavailable);
        let Ok(mut flight) = timeout(RENEWAL_TIMEOUT, Arc::clone(&self.fetch_state).lock_owned()).await else {
            return away;
        };
        // While this waited for the lock another request may have fetched.
        let newest = self.key_set.load_full().unwrap_or_else(|| seen.clone());
        let now = self.clock.unix();
        // A clock that was set back must not hold up a rotation.
        let is_early = flight.forced_at.is_some_and(|at| (at..at + FORCED_INTERVAL).contains(&now));
        if newest.generation != seen.generation {
            return Ok(newest);
        }
        if is_early {
            return if flight.failures > 0 { away } else { Ok(newest) };
        }
        flight.forced_at = Some(now);
        let (jwks, (done, fetched)) = (Arc::clone(self), oneshot::channel());
        // In a task: a request that gives up must not break the fetch off for the others.
        (self.spawner)(Box::pin(async move {
            jwks.fetch(&mut flight).await;
            // Nobody may wait any more.
            let _ = done.send(flight.failures == 0);
        }));
        match timeout(RENEWAL_TIMEOUT, fetched).await {
            Ok(Ok(true)) => Ok(self.key_set.load_full().unwrap_or(newest)),
            _ => away,
        }
    }

    fn refresh_in_background(self: &Arc<Self>) {
        if !self.is_due() {
            return;
        }
        if let Ok(mut flight) = self.fetch_state.clone().try_lock_owned() {
            let jwks = self.clone();
            (self.spawner)(Box::pin(async move {
                // Between the question and the lock another fetch may have ended.
                if jwks.is_due() {
                    jwks.fetch(&mut flight).await;
                }
            }));
        }
    }

    /// Returns true if the next fetch is due; also if its time is further away than it is ever set, which means that
    /// the clock was set back.
    fn is_due(&self) -> bool {
        let (now, due_at) = (self.clock.unix(), self.due_at.load(Ordering::Relaxed));
        now >= due_at || due_at - now > MAX_MAX_AGE
    }

    /// Fetches once, keeps the old keys on failure, and sets the time of the next fetch.
    async fn fetch(&self, flight: &mut JwksFetchState) {
        let wait = match self.download().await {
            Ok(age) => {
                if flight.failures > 0 {
                    tracing::info!(auth.issuer = self.issuer, "the keys of an issuer can be fetched again");
                }
                flight.failures = 0;
                age
            }
            Err(error) => {
                if flight.failures == 0 {
                    let kept = self.key_set.load().is_some();
                    tracing::warn!(
                        auth.issuer = self.issuer, auth.keys_kept = kept, %error,
                        "the keys of an issuer cannot be fetched; going on with those of the last time, if any"
                    );
                }
                flight.failures = flight.failures.saturating_add(1);
                // The exponent is limited, since a shift by 64 would overflow.
                MAX_BACKOFF.min(1 << (flight.failures - 1).min(16))
            }
        };
        // Relaxed: a request that reads the old time only finds the lock taken, or checks again.
        self.due_at.store(self.clock.unix() + wait, Ordering::Relaxed);
    }

    /// Downloads the document, puts it in use if it changed, and returns its lifetime in seconds.
    async fn download(&self) -> Result<u64, JwksFetchError> {
        let request = self.client.get(self.url.clone()).timeout(FETCH_TIMEOUT).build()?;
        let asked = request.url().clone();
        let mut response = self.client.execute(request).await?;
        // Wherever a redirect leads, perhaps without TLS, is not who was configured to be trusted.
        if response.status().is_redirection() || *response.url() != asked {
            return Err(JwksFetchError::Redirected);
        }
        if response.status() != http::StatusCode::OK {
            return Err(JwksFetchError::Status(response.status().as_u16()));
        }
        let age = max_age(response.headers());
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if document.len() + chunk.len() > MAX_BYTES {
                return Err(JwksFetchError::TooLarge);
            }
            document.extend_from_slice(&chunk);
        }
        self.put_in_use(&document)?;
        Ok(age)
    }

    fn put_in_use(&self, document: &[u8]) -> Result<(), JwksFetchError> {
        let digest = Sha256::digest(document).into();
        let old = self.key_set.load();
        // An unchanged document keeps its generation, and with it every cached verdict.
        if old.as_ref().is_some_and(|old| old.digest == digest) {
            return Ok(());
        }
        let keys = keys::parse_set(document).ok_or(JwksFetchError::NotASet)?;
        if keys.is_empty() {
            tracing::warn!(auth.issuer = self.issuer, "an issuer publishes no key that can be used");
        }
        let generation = old.as_ref().map_or(1, |old| old.generation + 1);
        self.key_set.store(Some(Arc::new(PublishedKeySet { generation, digest, keys })));
        Ok(())
    }
}

/// Returns the `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1), within bounds.
fn max_age(headers: &HeaderMap) -> u64 {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let stated = lines.flat_map(|line| line.split(',')).find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok()).flatten()
    });
    stated.map_or(DEFAULT_MAX_AGE, |age: u64| age.clamp(MIN_MAX_AGE, MAX_MAX_AGE))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_clock_that_was_set_back_does_not_hold_up_renewal() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = "http://127.0.0.1:1/".parse().expect("a URL");
        let jwks = JwksCache::new(url, "issuer".into(), client, Clock::manual(now), Arc::new(drop));
        assert!(jwks.is_due(), "before the first fetch");
        for (due_in, expected) in [(0, true), (1, false), (MAX_MAX_AGE, false), (MAX_MAX_AGE + 1, true)] {
            jwks.due_at.store(1_800_000_000 + due_in, Ordering::Relaxed);
            assert_eq!(jwks.is_due(), expected, "due in {due_in} s");
        }
    }

    #[test]
    fn keys_are_good_for_as_long_as_the_issuer_says_within_bounds() {
        for (line, expected) in [
            ("", 600),
            ("no-cache", 600),
            ("public, max-age=900", 900),
            ("Max-Age=\"900\"", 900),
            ("max-age=1", 60),
            ("max-age=99999999", 3600),
            ("max-age=-1", 600),
            ("s-maxage=900", 600),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, line.parse().expect("a header value"));
            assert_eq!(max_age(&headers), expected, "{line}");
        }
        assert_eq!(max_age(&HeaderMap::new()), 600);
    }
}
