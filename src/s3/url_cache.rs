//! Signed requests that can still be used, by method, bucket and key.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use equivalent::Equivalent;
use foyer::{Cache, CacheBuilder};

/// A request line and `Host` header as they go to the store, signature included: a credential, so `Debug` hides it.
pub struct SignedRequest {
    /// `METHOD target HTTP/1.1\r\nHost: …\r\n`, ready to be written; further headers follow.
    pub head: Box<[u8]>,
    /// Unix second from which it is no longer handed out.
    pub stale_from: u64,
    /// The credentials and clock offset it was signed with: a later generation may succeed where this one failed.
    pub generation: u64,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest").field("stale_from", &self.stale_from).finish_non_exhaustive()
    }
}

/// Which object, asked for how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object<'a> {
    /// HEAD instead of GET: the method is signed.
    pub head: bool,
    /// The bucket.
    pub bucket: &'a str,
    /// The key, decoded.
    pub key: &'a str,
}

#[derive(PartialEq, Eq)]
struct OwnedObject {
    head: bool,
    bucket: Box<str>,
    key: Box<str>,
}

impl OwnedObject {
    fn borrowed(&self) -> Object<'_> {
        Object { head: self.head, bucket: &self.bucket, key: &self.key }
    }
}

impl Hash for OwnedObject {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<OwnedObject> for Object<'_> {
    fn equivalent(&self, key: &OwnedObject) -> bool {
        *self == key.borrowed()
    }
}

/// A bounded cache of signed requests.
pub struct UrlCache {
    entries: Cache<OwnedObject, Arc<SignedRequest>>,
}

impl UrlCache {
    /// A cache of at most `capacity` requests.
    pub fn new(capacity: usize) -> Self {
        Self { entries: CacheBuilder::new(capacity).with_shards(8).build() }
    }

    /// The request for `object` that may still be used at `now` (Unix seconds).
    pub fn get(&self, object: &Object<'_>, now: u64) -> Option<Arc<SignedRequest>> {
        let entry = self.entries.get(object)?;
        (now < entry.value().stale_from).then(|| Arc::clone(entry.value()))
    }

    /// Keeps `request` for `object`.
    pub fn put(&self, object: &Object<'_>, request: Arc<SignedRequest>) {
        let owned = OwnedObject { head: object.head, bucket: object.bucket.into(), key: object.key.into() };
        self.entries.insert(owned, request);
    }

    /// Drops what is kept for `object`.
    pub fn forget(&self, object: &Object<'_>) {
        self.entries.remove(object);
    }

    /// Drops everything: the credentials changed.
    pub fn clear(&self) {
        self.entries.clear();
    }
}
