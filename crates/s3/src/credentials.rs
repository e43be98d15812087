//! Credentials that a signer uses: keys with the time at which they end, or none; and the request for other ones.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusty_s3::Credentials;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::settings::{SecretSource, StoreCredentials, StoreKeys};
use crate::signer::SignError;
use primitives::clock::monotonic_now;
use primitives::regular_file;
use primitives::secret::Secret;

/// Most bytes of a file that holds a key.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Longest wait of a request for other credentials.
const RENEWAL_WAIT: Duration = Duration::from_secs(2);
/// Time in which refusals of a store lead to other credentials once: a store may refuse for another reason.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(30);

/// Keys that a provider gave.
#[derive(Clone, PartialEq, Eq)]
pub struct TemporaryKeys {
    /// The access key id.
    pub access_key: Secret,
    /// The secret key.
    pub secret_key: Secret,
    /// The session token.
    pub session_token: Option<Secret>,
    /// Unix second from which the store refuses them; `None`: they do not end by themselves.
    pub expires_at: Option<u64>,
}

impl fmt::Debug for TemporaryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryKeys").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Credentials in use.
pub(crate) enum SigningCredentials {
    /// Requests are not signed.
    Anonymous,
    /// Keys, and the Unix second at which they end.
    Keys(Credentials, Option<u64>),
    /// A provider is to give keys, and has not yet.
    Missing,
}

impl SigningCredentials {
    /// Reads those of `settings`. Blocks where they are in files.
    pub fn read(settings: &StoreCredentials) -> Self {
        match settings {
            StoreCredentials::Keys(keys) => Self::Keys(read_keys(keys), None),
            StoreCredentials::Anonymous => Self::Anonymous,
            StoreCredentials::Temporary(_) => Self::Missing,
        }
    }

    /// Returns the keys for a signature at `now`, `None` where there is to be none. Fails where there are no keys, or
    /// they have ended.
    pub fn at(&self, now: u64) -> Result<Option<&Credentials>, SignError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Keys(_, Some(end)) if now >= *end => Err(SignError::ExpiredCredentials),
            Self::Keys(keys, _) => Ok(Some(keys)),
            Self::Missing => Err(SignError::NoCredentials),
        }
    }

    /// Returns the Unix second at which the keys end.
    pub fn expires_at(&self) -> Option<u64> {
        match self {
            Self::Keys(_, end) => *end,
            Self::Anonymous | Self::Missing => None,
        }
    }

    /// Returns true where both sign alike.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Keys(one, _), Self::Keys(other, _)) => {
                one.key() == other.key() && one.secret() == other.secret() && one.token() == other.token()
            }
            (Self::Anonymous, Self::Anonymous) | (Self::Missing, Self::Missing) => true,
            _ => false,
        }
    }
}

impl From<&TemporaryKeys> for SigningCredentials {
    fn from(keys: &TemporaryKeys) -> Self {
        let (access, secret) = (keys.access_key.expose(), keys.secret_key.expose());
        let signing = match &keys.session_token {
            Some(token) => Credentials::new_with_token(access, secret, token.expose()),
            None => Credentials::new(access, secret),
        };
        Self::Keys(signing, keys.expires_at)
    }
}

/// Reads keys that are in files again; the value of the configuration is used where a file cannot be read. Blocks.
fn read_keys(keys: &StoreKeys) -> Credentials {
    let (access, secret) = (keys.access_key.read(), keys.secret_key.read());
    match keys.session_token.as_ref().map(SecretSource::read) {
        Some(token) => Credentials::new_with_token(access, secret, token),
        None => Credentials::new(access, secret),
    }
}

impl SecretSource {
    /// Returns the secret in its file now, else the value that the configuration read. Blocks.
    pub fn read(&self) -> String {
        let fresh = self.file.as_ref().and_then(|path| regular_file::read_text(path, MAX_SECRET_BYTES).ok());
        // A text file usually ends with a line end, which is no part of the secret.
        fresh.map_or_else(|| self.value.expose().to_owned(), |text| text.trim().to_owned())
    }
}

/// Requests of signers for other credentials than those that a store refused: one for all of them.
#[derive(Debug)]
pub struct CredentialRenewal {
    wanted: Notify,
    /// Number of attempts to get credentials that have ended.
    attempts: watch::Sender<u64>,
    /// Time of the last request, and the number of attempts at that time.
    last: Mutex<Option<(Instant, u64)>>,
}

impl Default for CredentialRenewal {
    fn default() -> Self {
        Self { wanted: Notify::new(), attempts: watch::Sender::new(0), last: Mutex::default() }
    }
}

impl CredentialRenewal {
    /// Asks for other credentials and waits until they are there, or cannot be had, for two seconds at most. Does
    /// nothing where they were asked for within half a minute.
    pub async fn request(&self) {
        let mut attempts = self.attempts.subscribe();
        let (now, count) = (monotonic_now(), *attempts.borrow());
        {
            let mut last = self.last.lock();
            match *last {
                // That attempt has ended, and the store refuses what it gave.
                Some((at, before)) if is_recent(at, now) && before != count => return,
                Some((at, _)) if is_recent(at, now) => {}
                _ => {
                    *last = Some((now, count));
                    self.wanted.notify_one();
                }
            }
        }
        // A provider that hangs is not waited for: the old credentials were refused in any case.
        let _ = timeout(RENEWAL_WAIT, attempts.changed()).await;
    }

    /// Resolves when somebody asks for other credentials.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Notes that an attempt to get credentials has ended.
    pub fn attempted(&self) {
        self.attempts.send_modify(|count| *count += 1);
    }

    /// Resolves when a first attempt has ended.
    pub async fn first_attempt(&self) {
        // The sender is this object's own.
        let _ = self.attempts.subscribe().wait_for(|count| *count > 0).await;
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < RENEWAL_INTERVAL
}
