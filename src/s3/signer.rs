//! Presigned requests to one store, with what was learnt about its clock and its credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rusty_s3::actions::{GetObject, HeadObject, ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use url::Url;

use crate::clock::Clock;
use crate::s3::settings::{SecretSource, Store};
use crate::s3::upload;
use crate::s3::url_cache::{Object, SignedRequest, UrlCache};

/// A presigned request is handed out until this long before it expires: the store must still accept it when it arrives.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// Requests kept signed per store: about 1 KB each.
const CACHED_REQUESTS: usize = 65_536;
/// Clocks that differ by less than this are left alone: stores accept 15 minutes.
const TOLERATED_SKEW: i64 = 30;

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

/// Signs requests for one store and remembers them.
pub struct Signer {
    settings: Store,
    endpoint: Url,
    credentials: ArcSwap<Credentials>,
    /// The store's clock minus ours, in seconds.
    offset: AtomicI64,
    generation: AtomicU64,
    cache: UrlCache,
    clock: Clock,
}

impl Signer {
    /// A signer for the store at `endpoint` (for an embedded store, where it listens).
    pub fn new(settings: Store, endpoint: Url, clock: Clock) -> Self {
        let credentials = ArcSwap::from_pointee(read_credentials(&settings));
        Self {
            settings,
            endpoint,
            credentials,
            offset: AtomicI64::new(0),
            generation: AtomicU64::new(1),
            cache: UrlCache::new(CACHED_REQUESTS),
            clock,
        }
    }

    /// The store's endpoint.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// The signed request for `object`, from the cache where one is still good.
    pub fn sign(&self, object: &Object<'_>) -> Result<Arc<SignedRequest>, SignError> {
        let now = self.clock.unix();
        if let Some(known) = self.cache.get(object, now) {
            return Ok(known);
        }
        let signed = Arc::new(self.sign_at(object, now)?);
        self.cache.put(object, Arc::clone(&signed));
        Ok(signed)
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
    pub fn sign_upload(&self, bucket: &str, key: &str, step: &upload::Step<'_>) -> Result<upload::Request, SignError> {
        let (bucket, time) = (self.bucket(bucket)?, self.store_time(self.clock.unix())?);
        Ok(step.request(&bucket, &self.credentials.load(), key, self.settings.presign_expiry, &time))
    }

    fn bucket(&self, name: &str) -> Result<Bucket, SignError> {
        let style = if self.settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let region = self.settings.region.clone();
        Bucket::new(self.endpoint.clone(), style, name.to_owned(), region).map_err(|_| SignError::Bucket)
    }

    fn store_time(&self, now: u64) -> Result<jiff::Timestamp, SignError> {
        let time = i64::try_from(now).map_err(|_| SignError::Clock)? + self.offset.load(Ordering::Relaxed);
        jiff::Timestamp::from_second(time).map_err(|_| SignError::Clock)
    }

    fn sign_at(&self, object: &Object<'_>, now: u64) -> Result<SignedRequest, SignError> {
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
        Ok(SignedRequest { head: head.into_bytes().into_boxed_slice(), stale_from, generation })
    }

    /// Drops the cached request for `object`: the store refused it.
    pub fn forget(&self, object: &Object<'_>) {
        self.cache.forget(object);
    }

    /// Learns the store's clock from its `Date` header; true when signatures will differ from now on.
    pub fn learn_clock(&self, store_date: SystemTime) -> bool {
        let store = store_date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let ours = self.clock.unix();
        let difference = i64::try_from(store).unwrap_or(i64::MAX).saturating_sub(i64::try_from(ours).unwrap_or(0));
        let offset = if difference.abs() < TOLERATED_SKEW { 0 } else { difference };
        let before = self.offset.swap(offset, Ordering::AcqRel);
        let changed = (before - offset).abs() >= TOLERATED_SKEW;
        if changed {
            self.renew();
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
            self.renew();
        }
        !same
    }

    /// Whether signatures made now differ from those of `generation`.
    pub fn moved_on_from(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.cache.clear();
    }
}

/// Host and port as the `Host` header names them (RFC 9110 §7.2): the port only where it is not the scheme's own.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn read_credentials(settings: &Store) -> Credentials {
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
