//! Presigned requests to one store, with what was learnt about its clock and its credentials.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rusty_s3::actions::{GetObject, HeadObject, ListObjectsV2, S3Action};
use rusty_s3::{Bucket, UrlStyle};
use url::Url;

use crate::credentials::{CredentialRenewal, SigningCredentials, TemporaryKeys};
use crate::page_token::PageTokenCipher;
use crate::settings::{StoreCredentials, StoreEndpoint, StoreSettings};
use crate::signed_request_cache::{SignatureRenewal, SignedRequest, SignedRequestCache, UnsignedRequest};
use crate::upload;
use primitives::clock::Clock;

/// A presigned request is handed out until this long before it expires: the store must still accept it when it arrives.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// Bytes of requests kept signed per store: nearly 1 KB each, unless keys are long.
const CACHED_BYTES: usize = 64 << 20;
/// Clocks that differ by less than this are left alone: stores accept 15 minutes.
const TOLERATED_SKEW: i64 = 30;
/// Clocks that differ by more than a day are not followed: somebody between us and the store may have written that
/// date, and no signature names the year 9999.
const MAX_SKEW: i64 = 24 * 60 * 60;
/// A denied object gets one signature in place of another in this time, however many ask for it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Reason why a request could not be signed.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignError {
    /// The bucket's name makes no URL with the endpoint.
    #[error("the bucket's name cannot stand in a URL of this store: check Bucket and PathStyle")]
    Bucket,
    /// The clock is outside the years that a signature can name.
    #[error("the system clock is outside the range that a signature can carry")]
    Clock,
    /// The provider has not given keys yet.
    #[error("the provider of the store's credentials has given none; the log says why")]
    NoCredentials,
    /// The keys have ended, and the provider has given no others.
    #[error("the store's credentials have expired, and their provider gave no others; the log says why")]
    ExpiredCredentials,
}

impl SignError {
    /// Returns true where the same request may be signed later.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::NoCredentials | Self::ExpiredCredentials)
    }
}

/// A signed request and its origin.
#[derive(Clone, Debug)]
pub struct SigningOutcome {
    /// The request.
    pub request: Arc<SignedRequest>,
    /// True where it was signed before, for another client request.
    pub is_cached: bool,
}

/// Signs requests for one store and remembers them.
pub struct Signer {
    settings: StoreSettings,
    endpoint: Url,
    identity: Arc<str>,
    credentials: ArcSwap<SigningCredentials>,
    /// Where other credentials are asked for; `None`: keys of the configuration.
    renewal: Option<Arc<CredentialRenewal>>,
    /// The store's clock minus ours, in seconds.
    offset: AtomicI64,
    /// Number of the credentials and clock offset in use; a request carries the number that it was signed with.
    generation: AtomicU64,
    cache: SignedRequestCache,
    /// Held while the signature of a denied object is renewed, so that there is one.
    renewing: Mutex<()>,
    clock: Clock,
    /// Server of the store, where it is in this process: it ends with the last signer.
    _server: Option<Arc<dyn Any + Send + Sync>>,
}

impl Signer {
    /// Makes a signer for the store at `endpoint` (for an embedded store, the address where it listens). Reads keys
    /// that are in files, which blocks; the value of the configuration is used where a file cannot be read. Temporary
    /// keys are missing until [`Signer::set_credentials`] is called.
    pub fn new(settings: StoreSettings, endpoint: Url, clock: Clock) -> Self {
        let credentials = ArcSwap::from_pointee(SigningCredentials::read(&settings.credentials));
        let place = match &settings.endpoint {
            StoreEndpoint::Remote(url) => url.to_string(),
            // Its address is another one after each start, and its objects are the same.
            StoreEndpoint::Embedded(folder) => folder.display().to_string(),
        };
        let identity = format!("{} {place}", settings.name).into();
        Self {
            settings,
            endpoint,
            identity,
            credentials,
            renewal: None,
            offset: AtomicI64::new(0),
            generation: AtomicU64::new(1),
            cache: SignedRequestCache::new(CACHED_BYTES),
            renewing: Mutex::new(()),
            clock,
            _server: None,
        }
    }

    /// Keeps `server`, which serves the store, for as long as there is the signer.
    pub fn keeping(self, server: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _server: Some(server), ..self }
    }

    /// Asks `renewal` for other credentials where the store refuses those in use.
    pub fn renewed_by(self, renewal: Arc<CredentialRenewal>) -> Self {
        Self { renewal: Some(renewal), ..self }
    }

    /// Returns the store's identity, by which its objects are kept: its name and its place. Another store that gets the
    /// name has none of them.
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// The store's name.
    pub fn store(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// The store's endpoint.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Returns the signed request for `object`, from the cache where one is still good. Fails where the bucket makes no
    /// URL, or the clock shows a time that no signature can carry.
    pub fn sign(&self, object: &UnsignedRequest<'_>) -> Result<SigningOutcome, SignError> {
        let now = self.clock.unix();
        if let Some(request) = self.cached(object, now) {
            return Ok(SigningOutcome { request, is_cached: true });
        }
        let request = Arc::new(self.sign_at(object, now, None)?);
        self.cache.put(object, Arc::clone(&request));
        Ok(SigningOutcome { request, is_cached: false })
    }

    /// Returns the signed request that replaces `denied`, which the store refused without saying that it had expired:
    /// one for all requests that were refused, and one in 10 seconds. `None` where `denied` is that one. Fails as
    /// [`Signer::sign`] does.
    pub fn renew_denied(
        &self,
        object: &UnsignedRequest<'_>,
        denied: &Arc<SignedRequest>,
    ) -> Result<Option<Arc<SignedRequest>>, SignError> {
        let now = self.clock.unix();
        // Held over lookup and insertion: of many requests denied at once, the first signs and the others find its
        // request.
        let _only = self.renewing.lock();
        let current = self.cached(object, now);
        if let Some(current) = current.filter(|current| current.renewal.as_ref().is_some_and(|it| now < it.retry_from))
        {
            return Ok((!Arc::ptr_eq(&current, denied)).then_some(current));
        }
        let renewal = SignatureRenewal { retry_from: now + RENEWAL_INTERVAL.as_secs(), outcome: Arc::default() };
        let request = Arc::new(self.sign_at(object, now, Some(renewal))?);
        self.cache.put(object, Arc::clone(&request));
        Ok(Some(request))
    }

    /// Returns the request for `object` that is still good. One of an older generation may have been put into the cache
    /// after that was cleared.
    fn cached(&self, object: &UnsignedRequest<'_>, now: u64) -> Option<Arc<SignedRequest>> {
        self.cache.get(object, now).filter(|request| !self.is_outdated(request.generation))
    }

    /// Returns a signed URL for the page of a bucket's listing that begins at the continuation token `from`; an empty
    /// one asks for the first page. Fails as [`Signer::sign`] does.
    pub fn sign_listing(&self, bucket: &str, prefix: &str, from: &str) -> Result<Url, SignError> {
        let now = self.clock.unix();
        let (bucket, time) = (self.bucket(bucket)?, self.store_time(now)?);
        let credentials = self.credentials.load();
        let mut action = ListObjectsV2::new(&bucket, credentials.at(now)?);
        if !prefix.is_empty() {
            action.with_prefix(prefix);
        }
        if !from.is_empty() {
            action.with_continuation_token(from);
        }
        Ok(action.sign_with_time(self.settings.presign_expiry, &time))
    }

    /// Returns the signed head of a request for a page of the listing of one folder, with at most `most` entries: `prefix` is empty or
    /// ends with a slash. The caller ends it, after headers of its own. Fails as [`Signer::sign`] does.
    pub fn sign_folder_listing(
        &self,
        bucket: &str,
        prefix: &str,
        from: Option<&str>,
        most: u16,
    ) -> Result<Vec<u8>, SignError> {
        let now = self.clock.unix();
        let (bucket, time) = (self.bucket(bucket)?, self.store_time(now)?);
        let credentials = self.credentials.load();
        let mut action = ListObjectsV2::new(&bucket, credentials.at(now)?);
        action.with_delimiter("/");
        action.with_max_keys(most.into());
        if !prefix.is_empty() {
            action.with_prefix(prefix);
        }
        if let Some(from) = from {
            action.with_continuation_token(from);
        }
        Ok(request_head("GET", &action.sign_with_time(self.settings.presign_expiry, &time)))
    }

    /// Returns the cipher of continuation tokens that clients get, the same on all nodes. Without a secret that all nodes
    /// have, who knows the store's name and address can read a token; it is no right to anything.
    pub fn page_tokens(&self) -> PageTokenCipher {
        let current = self.credentials.load();
        PageTokenCipher::new(match (&self.settings.credentials, &**current) {
            (StoreCredentials::Keys(_), SigningCredentials::Keys(keys, _)) => keys.secret(),
            (StoreCredentials::Temporary(provider), _) => provider.page_secret().unwrap_or(&self.identity),
            _ => &self.identity,
        })
    }

    /// Returns a signed request for a step of storing the object `key`. Fails as [`Signer::sign`] does.
    pub fn sign_upload(
        &self,
        bucket: &str,
        key: &str,
        step: &upload::UploadStep<'_>,
    ) -> Result<upload::UploadRequest, SignError> {
        let now = self.clock.unix();
        let (bucket, time) = (self.bucket(bucket)?, self.store_time(now)?);
        let credentials = self.credentials.load();
        Ok(step.request(&bucket, credentials.at(now)?, key, self.settings.presign_expiry, &time))
    }

    /// Returns a signed URL for reading the object `key`, for clients that are no proxy. Fails as [`Signer::sign`] does.
    pub fn sign_download(&self, bucket: &str, key: &str) -> Result<Url, SignError> {
        let now = self.clock.unix();
        let (bucket, time) = (self.bucket(bucket)?, self.store_time(now)?);
        let credentials = self.credentials.load();
        Ok(GetObject::new(&bucket, credentials.at(now)?, key).sign_with_time(self.settings.presign_expiry, &time))
    }

    fn bucket(&self, name: &str) -> Result<Bucket, SignError> {
        let style = if self.settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let region = self.settings.region.clone();
        Bucket::new(self.endpoint.clone(), style, name.to_owned(), region).map_err(|_| SignError::Bucket)
    }

    fn store_time(&self, now: u64) -> Result<jiff::Timestamp, SignError> {
        let now = i64::try_from(now).map_err(|_| SignError::Clock)?;
        // The time by the store's clock: it refuses signatures whose time is too far from its own.
        let time = now.checked_add(self.offset.load(Ordering::Relaxed)).ok_or(SignError::Clock)?;
        jiff::Timestamp::from_second(time).map_err(|_| SignError::Clock)
    }

    fn sign_at(
        &self,
        object: &UnsignedRequest<'_>,
        now: u64,
        renewal: Option<SignatureRenewal>,
    ) -> Result<SignedRequest, SignError> {
        // Read before the credentials: if they change in between, the request counts as outdated although it is not.
        // The other order could keep an outdated request in use.
        let generation = self.generation();
        let (bucket, time) = (self.bucket(object.bucket)?, self.store_time(now)?);
        let credentials = self.credentials.load();
        let (keys, expiry) = (credentials.at(now)?, self.settings.presign_expiry);
        let url = if object.head {
            HeadObject::new(&bucket, keys, object.key).sign_with_time(expiry, &time)
        } else {
            GetObject::new(&bucket, keys, object.key).sign_with_time(expiry, &time)
        };
        let method = if object.head { "HEAD" } else { "GET" };
        // Formatted once: a cached request is written to the socket as it is.
        let head = request_head(method, &url);
        // A signature ends with its keys.
        let keys_end = credentials.expires_at().unwrap_or(u64::MAX).saturating_sub(EXPIRY_MARGIN.as_secs());
        let stale_from = (now + expiry.saturating_sub(EXPIRY_MARGIN).as_secs()).min(keys_end);
        Ok(SignedRequest { head: head.into_boxed_slice(), stale_from, generation, renewal })
    }

    /// Drops the cached request for `object`, after the store refused it.
    pub fn forget(&self, object: &UnsignedRequest<'_>) {
        self.cache.forget(object);
    }

    /// Learns the store's clock from its `Date` header; returns true where signatures differ from now on. A date that
    /// is more than a day off is ignored.
    pub fn learn_clock(&self, store_date: SystemTime) -> bool {
        clock_difference(self.clock.unix(), store_date).is_some_and(|difference| self.set_clock_offset(difference))
    }

    /// Forgets the learnt clock offset, after a signature of `generation` was refused for its time all the same.
    /// Returns true where signatures differ from now on; does nothing where `generation` is outdated.
    pub fn forget_clock(&self, generation: u64) -> bool {
        !self.is_outdated(generation) && self.set_clock_offset(0)
    }

    fn set_clock_offset(&self, offset: i64) -> bool {
        let before = self.offset.swap(offset, Ordering::AcqRel);
        // Changes by a few seconds must not clear the cache: the store still accepts its signatures.
        let changed = (before - offset).abs() >= TOLERATED_SKEW;
        if changed {
            self.start_generation();
        }
        changed
    }

    /// Gets other credentials after the store refused a request that was signed with `generation`: reads files again, or
    /// waits up to two seconds for the provider. Returns true where they changed, at once where they have since that
    /// request. An unreadable file counts as the value that the configuration read.
    pub async fn renew_credentials(&self, generation: u64) -> bool {
        if self.is_outdated(generation) {
            return true;
        }
        if let Some(renewal) = &self.renewal {
            renewal.request().await;
        } else if let StoreCredentials::Keys(keys) = self.settings.credentials.clone() {
            let read = move || SigningCredentials::read(&StoreCredentials::Keys(keys));
            // A file system may hang; a panic there leaves the keys as they are.
            if let Ok(fresh) = tokio::task::spawn_blocking(read).await {
                self.put_credentials(fresh);
            }
        }
        self.is_outdated(generation)
    }

    /// Returns true where a request can be signed now.
    pub fn has_credentials(&self) -> bool {
        self.credentials.load().at(self.clock.unix()).is_ok()
    }

    /// Signs with `keys` from now on.
    pub fn set_credentials(&self, keys: &TemporaryKeys) {
        self.put_credentials(keys.into());
    }

    fn put_credentials(&self, fresh: SigningCredentials) {
        let current = self.credentials.load();
        let (is_same, end) = (fresh.is_same(&current), fresh.expires_at());
        if is_same && end == current.expires_at() {
            return;
        }
        // Before the new generation begins: whoever sees its number must sign with these.
        self.credentials.store(Arc::new(fresh));
        if !is_same {
            self.start_generation();
        }
    }

    /// Returns the number of the credentials and clock offset in use, for a request that is signed afterwards.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns true where signatures made now differ from those of `generation`.
    pub fn is_outdated(&self, generation: u64) -> bool {
        self.generation() != generation
    }

    fn start_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.cache.clear();
    }
}

/// Returns the seconds that a clock which shows `theirs` is ahead of ours at the Unix second `ours`: 0 where they differ by
/// less than half a minute, `None` where they differ by more than a day.
pub fn clock_difference(ours: u64, theirs: SystemTime) -> Option<i64> {
    let theirs = theirs.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let difference = i64::try_from(theirs).unwrap_or(i64::MAX).saturating_sub(i64::try_from(ours).unwrap_or(0));
    match difference.abs() {
        0..TOLERATED_SKEW => Some(0),
        TOLERATED_SKEW..=MAX_SKEW => Some(difference),
        _ => None,
    }
}

fn request_head(method: &str, url: &Url) -> Vec<u8> {
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", authority(url)).into_bytes()
}

/// Returns host and port as the `Host` header names them (RFC 9110 §7.2): the port only where it is not the scheme's
/// own.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests;
