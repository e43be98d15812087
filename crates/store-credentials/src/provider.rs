//! A provider and the task that asks it: the keys in use, and the signers that get them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::schedule::{until_renewal, until_retry, with_jitter};
use crate::{CredentialStatus, utc};
use primitives::clock::{Clock, monotonic_now};
use primitives::failure_log::{FailureLog, line};
use primitives::lifecycle::BackgroundTasks;
use primitives::secret::Secret;
use s3::credentials::{CredentialRenewal, TemporaryKeys};
use s3::settings::CredentialProvider;
use s3::signer::Signer;

/// Time limit of one attempt, whatever it asks for in turn.
const ATTEMPT_TIME: Duration = Duration::from_secs(10);
/// Time after which an attempt that has not ended hangs in a file.
const HANGING_TIME: Duration = Duration::from_secs(11);
/// Seconds by which the end of the same keys may differ from answer to answer, where the service's clock is not ours.
const TOLERATED_SECONDS: u64 = 60;
/// Longest sleep: the clock may be set, or the machine may have slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Most bytes of an access key or a secret key, and of a session token.
const MAX_KEY_BYTES: usize = 1024;
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A provider with its task, which ends when the last signer is dropped.
pub(crate) struct RunningProvider {
    state: Arc<ProviderState>,
    _end: DropGuard,
}

struct ProviderState {
    settings: Arc<CredentialProvider>,
    renewal: Arc<CredentialRenewal>,
    users: Mutex<ProviderUsers>,
    failures: FailureLog,
    clock: Clock,
}

#[derive(Default)]
struct ProviderUsers {
    /// Each with its number: newer ones have higher ones.
    signers: Vec<(u64, Weak<Signer>)>,
    keys: Option<TemporaryKeys>,
    /// End with which the keys in use were first given.
    first_end: Option<u64>,
    failure: Option<String>,
    renewed: u64,
    failed: u64,
    /// Failures since keys were given.
    in_a_row: u32,
}

impl RunningProvider {
    /// Starts to ask `provider`.
    pub fn start(
        settings: Arc<CredentialProvider>,
        clock: &Clock,
        tasks: &BackgroundTasks,
    ) -> Result<Arc<Self>, reqwest::Error> {
        let source = KeySource::new(clock)?;
        let state = ProviderState {
            settings,
            renewal: Arc::default(),
            users: Mutex::default(),
            failures: FailureLog::default(),
            clock: clock.clone(),
        };
        let (state, unused) = (Arc::new(state), CancellationToken::new());
        let end = unused.clone().drop_guard();
        let (kept, stopping) = (Arc::clone(&state), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = keep_renewed(&kept, &source) => {}
                () = unused.cancelled() => {}
                () = stopping.stopping() => {}
            }
        });
        Ok(Arc::new(Self { state, _end: end }))
    }

    /// Returns true for the provider of these settings.
    pub fn is(&self, settings: &CredentialProvider) -> bool {
        *self.state.settings == *settings
    }

    /// Gives `signer` the keys from now on. It keeps the provider. Those that came before it have lower numbers.
    pub fn supply(this: &Arc<Self>, number: u64, signer: Signer) -> Arc<Signer> {
        let state = &this.state;
        let kept: Arc<Self> = Arc::clone(this);
        let signer = Arc::new(signer.renewed_by(Arc::clone(&state.renewal)).keeping(kept));
        // Under the lock: keys that come meanwhile reach it too.
        let mut users = state.users.lock();
        if let Some(keys) = &users.keys {
            signer.set_credentials(keys);
        }
        users.signers.retain(|(_, known)| known.strong_count() > 0);
        users.signers.push((number, Arc::downgrade(&signer)));
        signer
    }

    /// Resolves when keys were given, or an attempt has failed.
    pub async fn first_attempt(&self) {
        self.state.renewal.first_attempt().await;
    }

    /// Returns the state of each store that gets the keys, with the highest number of its signers.
    pub fn status(&self, now: u64) -> Vec<(u64, CredentialStatus)> {
        self.state.status(&self.state.users.lock(), now)
    }
}

/// Names of the stores, each once, with the highest number of its signers.
fn stores(signers: &[(u64, Weak<Signer>)]) -> BTreeMap<Arc<str>, u64> {
    let mut stores = BTreeMap::new();
    for (number, signer) in signers {
        if let Some(signer) = signer.upgrade() {
            let newest = stores.entry(Arc::clone(signer.store())).or_default();
            *newest = *number.max(newest);
        }
    }
    stores
}

/// An attempt, in a thread of its own: it reads files there, and a file system may hang.
struct Attempt {
    thread: JoinHandle<Result<TemporaryKeys, String>>,
    /// Ends the attempt where nobody waits for it, unless it hangs in a file.
    _end: DropGuard,
}

impl Attempt {
    fn begin(source: &KeySource, settings: &Arc<CredentialProvider>) -> Self {
        let (source, settings, runtime) = (source.clone(), Arc::clone(settings), Handle::current());
        let unwanted = CancellationToken::new();
        let end = unwanted.clone().drop_guard();
        let limited = async move {
            tokio::select! {
                outcome = timeout(ATTEMPT_TIME, source.fetch(&settings)) => {
                    outcome.unwrap_or_else(|_| Err(format!("no answer within {ATTEMPT_TIME:?}")))
                }
                () = unwanted.cancelled() => Err("it is not wanted any more".to_owned()),
            }
        };
        Self { thread: spawn_blocking(move || runtime.block_on(limited)), _end: end }
    }
}

/// Gets keys, and others before they end, for ever.
async fn keep_renewed(state: &ProviderState, source: &KeySource) {
    let mut begun: Option<Attempt> = None;
    loop {
        let attempt = begun.get_or_insert_with(|| Attempt::begin(source, &state.settings));
        let outcome = match timeout(HANGING_TIME, &mut attempt.thread).await {
            Ok(ended) => {
                begun = None;
                ended.unwrap_or_else(|error| Err(error.to_string()))
            }
            // Nobody can end its thread, and no other one is begun beside it.
            Err(_) => Err(format!("it hangs in a file for more than {HANGING_TIME:?}")),
        };
        let pause = state.take(outcome);
        state.renewal.attempted();
        let due = state.clock.unix().saturating_add(pause.as_secs());
        tokio::select! {
            () = rest(&state.clock, pause, due) => {}
            () = state.renewal.wanted() => {}
        }
    }
}

/// Sleeps for `pause`, and no longer than until the clock shows `due`.
async fn rest(clock: &Clock, pause: Duration, due: u64) {
    let begun = monotonic_now();
    loop {
        let left = pause.saturating_sub(monotonic_now().saturating_duration_since(begun));
        if left.is_zero() || (clock.unix() > due && pause > LONGEST_SLEEP) {
            return;
        }
        sleep(left.min(LONGEST_SLEEP)).await;
    }
}

impl ProviderState {
    fn status(&self, users: &ProviderUsers, now: u64) -> Vec<(u64, CredentialStatus)> {
        let expires_at = users.keys.as_ref().and_then(|keys| keys.expires_at);
        let is_usable = users.keys.is_some() && expires_at.is_none_or(|end| now < end);
        let status = |(store, number)| {
            let status = CredentialStatus {
                store,
                provider: self.settings.kind.name(),
                expires_at,
                is_usable,
                failure: users.failure.clone(),
                renewed: users.renewed,
                failed: users.failed,
            };
            (number, status)
        };
        stores(&users.signers).into_iter().map(status).collect()
    }

    /// Takes in the outcome of an attempt; returns the time until the next.
    fn take(&self, outcome: Result<TemporaryKeys, String>) -> Duration {
        let now = self.clock.unix();
        match outcome.and_then(|keys| check(&keys, now).map(|()| keys)) {
            Ok(keys) => match self.put(&keys) {
                None => self.succeed(&keys, now),
                Some(reason) => self.fail(&reason, now),
            },
            Err(reason) => self.fail(line(&reason), now),
        }
    }

    /// Signs with `keys` from now on. Returns why they are none that were asked for: Amazon's library takes keys of an
    /// instance that have ended for longer ones, as long as the metadata service gives them.
    fn put(&self, keys: &TemporaryKeys) -> Option<String> {
        let mut users = self.users.lock();
        for (_, signer) in &users.signers {
            if let Some(signer) = signer.upgrade() {
                signer.set_credentials(keys);
            }
        }
        let is_same = |known: &TemporaryKeys| {
            (&known.access_key, &known.session_token) == (&keys.access_key, &keys.session_token)
        };
        if !users.keys.as_ref().is_some_and(is_same) {
            users.first_end = keys.expires_at;
        }
        users.keys = Some(keys.clone());
        let is_longer = |first: &u64| keys.expires_at.is_some_and(|end| end > first + TOLERATED_SECONDS);
        let first = users.first_end.filter(is_longer)?;
        Some(format!("it gives the keys again that were to end at {}", utc(first)))
    }

    fn succeed(&self, keys: &TemporaryKeys, now: u64) -> Duration {
        let mut users = self.users.lock();
        let pause = until_renewal(now, keys.expires_at);
        let is_first = users.renewed == 0;
        let end =
            keys.expires_at.map_or_else(|| "without an end".to_owned(), |end| format!("valid until {}", utc(end)));
        users.failure = None;
        users.renewed += 1;
        users.in_a_row = 0;
        let (provider, stores) = (self.settings.kind.name(), stores(&users.signers));
        drop(users);
        if self.failures.is_over(monotonic_now()) || is_first {
            let stores = stores.keys().map(|store| &**store).collect::<Vec<_>>().join(", ");
            tracing::info!(provider, stores, "credentials of {stores} are there, by the provider {provider}, {end}");
        }
        with_jitter(pause, rand::random())
    }

    fn fail(&self, reason: &str, now: u64) -> Duration {
        let mut users = self.users.lock();
        users.failure = Some(reason.to_owned());
        users.failed += 1;
        users.in_a_row = users.in_a_row.saturating_add(1);
        let pause = until_retry(users.in_a_row);
        let status = self.status(&users, now);
        drop(users);
        // That the old ones have ended is news of its own.
        let is_usable = status.iter().any(|(_, status)| status.is_usable);
        let is_news = self.failures.is_news(&format!("{is_usable} {reason}"), monotonic_now());
        for (_, status) in status.iter().filter(|_| is_news) {
            let (store, text) = (&*status.store, status.fault().unwrap_or_default());
            if status.is_usable {
                tracing::warn!(store, "{text}");
            } else {
                tracing::error!(store, "{text}");
            }
        }
        with_jitter(pause, rand::random())
    }
}

/// Checks keys that a provider gave: it may be broken, or somebody else. No message holds a part of them.
fn check(keys: &TemporaryKeys, now: u64) -> Result<(), String> {
    let is_text = |text: &Secret, most: usize| {
        let text = text.expose();
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !is_text(&keys.access_key, MAX_KEY_BYTES) || !is_text(&keys.secret_key, MAX_KEY_BYTES) {
        return Err("it gave an access key or a secret key that is none".to_owned());
    }
    if keys.session_token.as_ref().is_some_and(|token| !is_text(token, MAX_TOKEN_BYTES)) {
        return Err("it gave a session token that is none".to_owned());
    }
    match keys.expires_at {
        Some(end) if end <= now => Err(format!("it gave keys that ended already, at {}", utc(end))),
        _ => Ok(()),
    }
}

/// Asks providers. Clones share what is known of a service's clock.
#[derive(Clone)]
struct KeySource {
    #[cfg(feature = "aws")]
    client: crate::aws_http_client::AwsHttpClient,
}

#[cfg(feature = "aws")]
impl KeySource {
    fn new(clock: &Clock) -> Result<Self, reqwest::Error> {
        Ok(Self { client: crate::aws_http_client::AwsHttpClient::new(clock)? })
    }

    async fn fetch(&self, settings: &CredentialProvider) -> Result<TemporaryKeys, String> {
        crate::aws_providers::fetch(settings, &self.client).await
    }
}

#[cfg(not(feature = "aws"))]
impl KeySource {
    fn new(_: &Clock) -> Result<Self, reqwest::Error> {
        Ok(Self {})
    }

    async fn fetch(&self, _: &CredentialProvider) -> Result<TemporaryKeys, String> {
        Err("this Tidegate is built without `aws-credentials`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3::settings::ProviderKind;

    fn keys(access: &str, secret: &str, token: Option<&str>, expires_at: Option<u64>) -> TemporaryKeys {
        let session_token = token.map(Secret::new);
        TemporaryKeys { access_key: Secret::new(access), secret_key: Secret::new(secret), session_token, expires_at }
    }

    #[test]
    fn keys_that_are_none_are_refused_without_being_repeated() {
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        for (given, reason) in [
            (keys("A", "s", Some("t"), Some(101)), None),
            (keys("A", "s", None, None), None),
            (keys("", "s", None, None), Some("access key")),
            (keys("A", "", None, None), Some("secret key")),
            (keys("A", "hid den", None, None), Some("secret key")),
            (keys("A", "s", Some(""), None), Some("session token")),
            (keys("A", "s", Some("a\r\nb"), None), Some("session token")),
            (keys("A", "s", Some(&long), None), Some("session token")),
            (keys("A", "s", None, Some(100)), Some("ended already, at 1970-01-01T00:01:40Z")),
        ] {
            let refused = check(&given, 100).err();
            assert_eq!(refused.is_some(), reason.is_some(), "{refused:?}");
            assert!(refused.unwrap_or_default().contains(reason.unwrap_or_default()));
        }
        assert_eq!(utc(u64::MAX), "Unix second 18446744073709551615");
    }

    #[test]
    fn keys_that_are_given_again_for_longer_stay_in_use_and_are_a_failure() {
        let clock = Clock::manual(std::time::UNIX_EPOCH + Duration::from_secs(1_000));
        let state = ProviderState {
            settings: Arc::new(CredentialProvider { kind: ProviderKind::Instance(None), region: String::new() }),
            renewal: Arc::default(),
            users: Mutex::default(),
            failures: FailureLog::default(),
            clock: clock.clone(),
        };
        let given = |key: &str, end: u64| {
            let pause = state.take(Ok(keys(key, "s", Some("t"), Some(end))));
            let users = state.users.lock();
            let counts = (users.renewed, users.failed, users.keys.as_ref().and_then(|keys| keys.expires_at));
            (counts, users.failure.clone(), pause)
        };
        assert_eq!(given("A", 1_100).0, (1, 0, Some(1_100)));
        // The service has no newer ones yet, and the difference of the clocks is known anew.
        assert_eq!(given("A", 1_101).0, (2, 0, Some(1_101)));
        clock.advance(Duration::from_secs(200));
        for (end, failed) in [(1_900, 1), (2_000, 2), (1_850, 3)] {
            let (counts, failure, pause) = given("A", end);
            assert_eq!(counts, (2, failed, Some(end)));
            assert_eq!(failure.as_deref(), Some("it gives the keys again that were to end at 1970-01-01T00:18:20Z"));
            assert!(pause <= Duration::from_secs(15), "{pause:?}");
        }
        let (counts, failure, _) = given("B", 5_000);
        assert_eq!((counts, failure), ((3, 3, Some(5_000)), None));
    }
}
