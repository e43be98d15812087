//! Presigned requests to one store, with what was learnt about its clock and its credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rusty_s3::actions::{GetObject, HeadObject, ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use url::Url;

use crate::settings::{SecretSource, StoreSettings};
use crate::signed_request_cache::{SignatureRenewal, SignedRequest, SignedRequestCache, UnsignedRequest};
use crate::upload;
use primitives::clock::Clock;

/// A presigned request is handed out until this long before it expires: the store must still accept it when it arrives.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// Bytes of requests kept signed per store: nearly 1 KB each, unless keys are long.
const CACHED_BYTES: usize = 64 << 20;
/// Clocks that differ by less than this are left alone: stores accept 15 minutes.
const TOLERATED_SKEW: i64 = 30;
/// Clocks that differ by more than a day are not followed: somebody between us and the store may have written that date,
/// and no signature names the year 9999.
const MAX_SKEW: i64 = 24 * 60 * 60;
/// A denied object gets one signature in place of another in this time, however many ask for it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Why a request could not be signed.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignError {
    /// The bucket's name makes no URL with the endpoint.
    #[error("the bucket's name cannot stand in a URL of this store: check Bucket and PathStyle")]
    Bucket,
    /// The clock is outside the years that a signature can name.
    #[error("the system clock is outside the range that a signature can carry")]
    Clock,
}

/// A signed request, and where it comes from.
#[derive(Clone, Debug)]
pub struct SigningOutcome {
    /// The request.
    pub request: Arc<SignedRequest>,
    /// Whether it was signed before, for another request.
    pub is_cached: bool,
}

/// Signs requests for one store and remembers them.
pub struct Signer {
    settings: StoreSettings,
    endpoint: Url,
    credentials: ArcSwap<Credentials>,
    /// The store's clock minus ours, in seconds.
    offset: AtomicI64,
    generation: AtomicU64,
    cache: SignedRequestCache,
    /// Held while the signature of a denied object is renewed, so that there is one.
    renewing: Mutex<()>,
    clock: Clock,
}

impl Signer {
    /// A signer for the store at `endpoint` (for an embedded store, where it listens).
    pub fn new(settings: StoreSettings, endpoint: Url, clock: Clock) -> Self {
        let credentials = ArcSwap::from_pointee(read_credentials(&settings));
        Self {
            settings,
            endpoint,
            credentials,
            offset: AtomicI64::new(0),
            generation: AtomicU64::new(1),
            cache: SignedRequestCache::new(CACHED_BYTES),
            renewing: Mutex::new(()),
            clock,
        }
    }

    /// The store's endpoint.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// The signed request for `object`, from the cache where one is still good.
    pub fn sign(&self, object: &UnsignedRequest<'_>) -> Result<SigningOutcome, SignError> {
        let now = self.clock.unix();
        if let Some(request) = self.cache.get(object, now) {
            return Ok(SigningOutcome { request, is_cached: true });
        }
        let request = Arc::new(self.sign_at(object, now, None)?);
        self.cache.put(object, Arc::clone(&request));
        Ok(SigningOutcome { request, is_cached: false })
    }

    /// The signed request that takes the place of `denied`, which the store refused without saying that its time is over:
    /// one for all who were refused, and one in 10 seconds. `None`: `denied` is that one.
    pub fn renew_denied(
        &self,
        object: &UnsignedRequest<'_>,
        denied: &Arc<SignedRequest>,
    ) -> Result<Option<Arc<SignedRequest>>, SignError> {
        let now = self.clock.unix();
        let _only = self.renewing.lock();
        let current = self.cache.get(object, now);
        if let Some(current) = current.filter(|current| current.renewal.as_ref().is_some_and(|it| now < it.retry_from))
        {
            return Ok((!Arc::ptr_eq(&current, denied)).then_some(current));
        }
        let renewal = SignatureRenewal { retry_from: now + RENEWAL_INTERVAL.as_secs(), outcome: Arc::default() };
        let request = Arc::new(self.sign_at(object, now, Some(renewal))?);
        self.cache.put(object, Arc::clone(&request));
        Ok(Some(request))
    }

    /// A signed request for the page of a bucket's listing that begins at `from`; empty: the first.
    pub fn sign_listing(&self, bucket: &str, prefix: &str, from: &str) -> Result<Url, SignError> {
        let (bucket, time) = (self.bucket(bucket)?, self.store_time(self.clock.unix())?);
        let credentials = self.credentials.load();
        let mut action = ListObjectsV2::new(&bucket, Some(&**credentials));
        if !prefix.is_empty() {
            action.with_prefix(prefix);
        }
        if !from.is_empty() {
            action.with_continuation_token(from);
        }
        Ok(action.sign_with_time(self.settings.presign_expiry, &time))
    }

    /// A signed request for a step of storing the object `key`.
    pub fn sign_upload(
        &self,
        bucket: &str,
        key: &str,
        step: &upload::UploadStep<'_>,
    ) -> Result<upload::UploadRequest, SignError> {
        let (bucket, time) = (self.bucket(bucket)?, self.store_time(self.clock.unix())?);
        Ok(step.request(&bucket, &self.credentials.load(), key, self.settings.presign_expiry, &time))
    }

    fn bucket(&self, name: &str) -> Result<Bucket, SignError> {
        let style = if self.settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let region = self.settings.region.clone();
        Bucket::new(self.endpoint.clone(), style, name.to_owned(), region).map_err(|_| SignError::Bucket)
    }

    fn store_time(&self, now: u64) -> Result<jiff::Timestamp, SignError> {
        let now = i64::try_from(now).map_err(|_| SignError::Clock)?;
        let time = now.checked_add(self.offset.load(Ordering::Relaxed)).ok_or(SignError::Clock)?;
        jiff::Timestamp::from_second(time).map_err(|_| SignError::Clock)
    }

    fn sign_at(
        &self,
        object: &UnsignedRequest<'_>,
        now: u64,
        renewal: Option<SignatureRenewal>,
    ) -> Result<SignedRequest, SignError> {
        let generation = self.generation.load(Ordering::Acquire);
        let (bucket, time) = (self.bucket(object.bucket)?, self.store_time(now)?);
        let credentials = self.credentials.load();
        let expiry = self.settings.presign_expiry;
        let url = if object.head {
            HeadObject::new(&bucket, Some(&**credentials), object.key).sign_with_time(expiry, &time)
        } else {
            GetObject::new(&bucket, Some(&**credentials), object.key).sign_with_time(expiry, &time)
        };
        let method = if object.head { "HEAD" } else { "GET" };
        let query = url.query().unwrap_or_default();
        let head = format!("{method} {}?{query} HTTP/1.1\r\nHost: {}\r\n", url.path(), authority(&url));
        let stale_from = now + expiry.saturating_sub(EXPIRY_MARGIN).as_secs();
        Ok(SignedRequest { head: head.into_bytes().into_boxed_slice(), stale_from, generation, renewal })
    }

    /// Drops the cached request for `object`: the store refused it.
    pub fn forget(&self, object: &UnsignedRequest<'_>) {
        self.cache.forget(object);
    }

    /// Learns the store's clock from its `Date` header; true when signatures will differ from now on. A date that is more
    /// than a day off teaches nothing.
    pub fn learn_clock(&self, store_date: SystemTime) -> bool {
        let store = store_date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let ours = self.clock.unix();
        let difference = i64::try_from(store).unwrap_or(i64::MAX).saturating_sub(i64::try_from(ours).unwrap_or(0));
        match difference.abs() {
            0..TOLERATED_SKEW => self.set_clock_offset(0),
            TOLERATED_SKEW..=MAX_SKEW => self.set_clock_offset(difference),
            _ => false,
        }
    }

    /// Forgets what was learnt of the store's clock, where a signature of `generation` made with it was refused for its time
    /// all the same; true when signatures will differ from now on.
    pub fn forget_clock(&self, generation: u64) -> bool {
        !self.is_outdated(generation) && self.set_clock_offset(0)
    }

    fn set_clock_offset(&self, offset: i64) -> bool {
        let before = self.offset.swap(offset, Ordering::AcqRel);
        let changed = (before - offset).abs() >= TOLERATED_SKEW;
        if changed {
            self.start_generation();
        }
        changed
    }

    /// Reads credentials that stand in files again; true when they changed.
    pub fn reload_credentials(&self) -> bool {
        let fresh = read_credentials(&self.settings);
        let current = self.credentials.load();
        let same =
            fresh.key() == current.key() && fresh.secret() == current.secret() && fresh.token() == current.token();
        if !same {
            self.credentials.store(Arc::new(fresh));
            self.start_generation();
        }
        !same
    }

    /// Whether signatures made now differ from those of `generation`.
    pub fn is_outdated(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    fn start_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.cache.clear();
    }
}

/// Host and port as the `Host` header names them (RFC 9110 §7.2): the port only where it is not the scheme's own.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn read_credentials(settings: &StoreSettings) -> Credentials {
    let keys = &settings.credentials;
    let (access, secret) = (read(&keys.access_key), read(&keys.secret_key));
    match keys.session_token.as_ref().map(read) {
        Some(token) => Credentials::new_with_token(access, secret, token),
        None => Credentials::new(access, secret),
    }
}

/// The secret in its file now, else as the configuration read it.
fn read(source: &SecretSource) -> String {
    let fresh = source.file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    fresh.map_or_else(|| source.value.expose().to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests;
