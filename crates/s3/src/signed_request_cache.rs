//! Signed requests that can still be used, by method, bucket and key.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use equivalent::Equivalent;
use foyer::{Cache, CacheBuilder};
use tokio::sync::Mutex;
use url::Url;

/// Approximate bytes of an entry besides its texts.
const ENTRY_OVERHEAD: usize = 256;

/// A request line and `Host` header as they go to the store, signature included: a credential, so `Debug` hides it.
pub struct SignedRequest {
    /// `METHOD target HTTP/1.1\r\nHost: …\r\n`, ready to be written; further headers follow.
    pub head: Box<[u8]>,
    /// Unix second from which it is no longer handed out.
    pub stale_from: u64,
    /// Number of the credentials and clock offset that it was signed with: a later generation may succeed where this
    /// one failed.
    pub generation: u64,
    /// Set where the request replaces one that the store denied.
    pub renewal: Option<SignatureRenewal>,
}

/// State of a request that replaces a denied one: one client request tries it, and all that were denied with the old
/// signature follow its outcome.
pub struct SignatureRenewal {
    /// Unix second from which a denial may lead to another signature.
    pub retry_from: u64,
    /// Outcome of the trial; locked until it is known.
    pub outcome: Arc<Mutex<RenewalOutcome>>,
}

/// Outcome of a signature that replaced a denied one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenewalOutcome {
    /// The store has not said.
    #[default]
    Unknown,
    /// The store accepted it: the old one was the reason.
    Accepted,
    /// The store denied it too: the object is denied.
    Denied,
}

impl SignedRequest {
    /// Returns its URL at `endpoint`, for clients that write heads themselves: the target, at the host that the head names.
    pub fn url(&self, endpoint: &Url) -> Option<Url> {
        let text = std::str::from_utf8(&self.head).ok()?;
        let target = text.split(' ').nth(1)?;
        let host = text.lines().find_map(|line| line.strip_prefix("Host: "))?;
        format!("{}://{host}{target}", endpoint.scheme()).parse().ok()
    }
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest").field("stale_from", &self.stale_from).finish_non_exhaustive()
    }
}

/// An object and the method by which it is asked for: the key of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnsignedRequest<'a> {
    /// HEAD instead of GET: the method is signed.
    pub head: bool,
    /// The bucket.
    pub bucket: &'a str,
    /// The key, decoded.
    pub key: &'a str,
}

#[derive(PartialEq, Eq)]
struct SignedRequestKey {
    head: bool,
    bucket: Box<str>,
    key: Box<str>,
}

impl SignedRequestKey {
    fn borrowed(&self) -> UnsignedRequest<'_> {
        UnsignedRequest { head: self.head, bucket: &self.bucket, key: &self.key }
    }
}

// Hashed as the borrowed form is, so that a lookup needs no owned key: `Equivalent` requires equal hashes.
impl Hash for SignedRequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<SignedRequestKey> for UnsignedRequest<'_> {
    fn equivalent(&self, key: &SignedRequestKey) -> bool {
        *self == key.borrowed()
    }
}

/// A bounded cache of signed requests.
pub struct SignedRequestCache {
    entries: Cache<SignedRequestKey, Arc<SignedRequest>>,
}

impl SignedRequestCache {
    /// Makes a cache of about `bytes` at most. The bound is not a number of entries: keys come from clients, and each
    /// may be long.
    pub fn new(bytes: usize) -> Self {
        // Each shard has its own lock, so that workers seldom wait for each other.
        Self { entries: CacheBuilder::new(bytes).with_shards(8).with_weighter(weight).build() }
    }

    /// Returns the request for `object` that may still be used at `now` (Unix seconds); `None` where there is none.
    pub fn get(&self, object: &UnsignedRequest<'_>, now: u64) -> Option<Arc<SignedRequest>> {
        let entry = self.entries.get(object)?;
        (now < entry.value().stale_from).then(|| Arc::clone(entry.value()))
    }

    /// Keeps `request` for `object`, in place of an older one.
    pub fn put(&self, object: &UnsignedRequest<'_>, request: Arc<SignedRequest>) {
        let owned = SignedRequestKey { head: object.head, bucket: object.bucket.into(), key: object.key.into() };
        self.entries.insert(owned, request);
    }

    /// Drops the request for `object`.
    pub fn forget(&self, object: &UnsignedRequest<'_>) {
        self.entries.remove(object);
    }

    /// Drops all requests, because the credentials or the clock offset changed.
    pub fn clear(&self) {
        self.entries.clear();
    }
}

fn weight(object: &SignedRequestKey, request: &Arc<SignedRequest>) -> usize {
    ENTRY_OVERHEAD + object.bucket.len() + object.key.len() + request.head.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_take_the_place_of_many_short_ones() {
        let cache = SignedRequestCache::new(8 << 20);
        for number in 0..20_000 {
            let key = format!("{number}{}", "x".repeat(1000));
            let request = SignedRequest { head: vec![b'x'; 3500].into(), stale_from: 1, generation: 0, renewal: None };
            cache.put(&UnsignedRequest { head: false, bucket: "audio", key: &key }, Arc::new(request));
        }
        let used = cache.entries.usage();
        assert!((4 << 20..=8 << 20).contains(&used), "{used}");
        let found = (0..20_000).filter(|number| {
            let key = format!("{number}{}", "x".repeat(1000));
            cache.get(&UnsignedRequest { head: false, bucket: "audio", key: &key }, 0).is_some()
        });
        assert!((800..1800).contains(&found.count()), "entries of more than 4.5 KB in 8 MiB");
    }
}
