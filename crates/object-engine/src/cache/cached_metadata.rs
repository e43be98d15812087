//! Metadata of an object between two requests to the store, and the time for which it is fresh (RFC 9111 §4.2, with the
//! policy's times instead of a heuristic).

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foyer::{Code, Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::cache_keys::{ObjectId, ObjectVersion};
use super::metadata_fetch::MetadataKey;
use super::settings::CachePolicy;
use crate::object_metadata::ObjectMetadata;
use http_semantics::etag::ETag;

/// Metadata of one version of an object, as the store described it.
pub struct CachedMetadata {
    /// Version that the metadata describes.
    pub version: Arc<ObjectVersion>,
    /// Validators, size and headers.
    pub metadata: ObjectMetadata,
    /// Time when the store sent or confirmed it, in milliseconds since the Unix epoch.
    pub asked_at: u64,
    control: CacheControl,
}

/// Directives of `Cache-Control` that a shared cache must follow (RFC 9111 §5.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CacheControl {
    /// Set by `no-store` or `private`: must not be cached.
    never: bool,
    /// Set by `no-cache`: must be revalidated for every request.
    ask: bool,
    /// Set by `must-revalidate`, `proxy-revalidate` or `s-maxage`: must not be served stale.
    no_stale: bool,
    /// Value of `s-maxage`, else of `max-age`.
    lifetime: Option<Duration>,
}

/// Freshness of cached metadata (RFC 9111 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// May be served without asking the store.
    Fresh,
    /// The TTL is over.
    Stale {
        /// True if it may be served while the store is asked in the background (`StaleWhileRevalidate`).
        meanwhile: bool,
        /// True if it may be served when the store fails (`StaleIfError`).
        on_error: bool,
    },
    /// Must not be cached.
    Never,
}

impl CachedMetadata {
    /// Creates the metadata that the store sent at `now`. Returns `None` without a strong entity tag or a size: slices
    /// of two versions could then be mixed.
    pub fn new(object: &ObjectId, epoch: u64, facts: ObjectMetadata, now: u64) -> Option<Self> {
        let etag = facts.etag.clone().filter(ETag::is_strong)?;
        let size = facts.size?;
        let version = ObjectVersion::new(object.clone(), etag, size, epoch);
        let control = CacheControl::from_headers(&facts.headers);
        Some(Self { version, metadata: facts, asked_at: now, control })
    }

    /// Returns `self` with the version of `before` where both are the same, so that its fill permits are shared.
    pub fn with_shared_version(mut self, before: &Self) -> Self {
        if self.version == before.version {
            self.version = Arc::clone(&before.version);
        }
        self
    }

    /// Returns the freshness at `now` under `policy`.
    pub fn freshness(&self, policy: &CachePolicy, now: u64) -> Freshness {
        let control = if policy.honour_cache_control { self.control } else { CacheControl::default() };
        if control.never {
            return Freshness::Never;
        }
        let lifetime = if control.ask { Duration::ZERO } else { control.lifetime.unwrap_or(policy.ttl) };
        // A clock that was set back makes it stale, not fresh for ever.
        let age = now.checked_sub(self.asked_at).map_or(lifetime, Duration::from_millis);
        if age < lifetime {
            return Freshness::Fresh;
        }
        let over = age - lifetime;
        let allowed = !control.ask && !control.no_stale;
        Freshness::Stale {
            meanwhile: allowed && over < policy.stale_while_revalidate,
            on_error: allowed && over < policy.stale_if_error,
        }
    }

    /// Returns the value of `Age` in seconds: the time since the store was asked (RFC 9111 §5.1).
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.asked_at) / 1000
    }

    /// Returns the number of bytes that it takes in memory, about.
    pub fn weight(&self) -> usize {
        let headers: usize =
            self.metadata.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        // Estimates: 64 bytes for each entry of the map, 256 for the structures around it.
        256 + self.version.object.estimated_size() + headers
    }
}

impl CacheControl {
    fn from_headers(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        let (mut max_age, mut shared) = (None, None);
        let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in lines.flat_map(|line| line.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            // §4.2.1: a lifetime that cannot be read is none.
            let seconds = || Some(Duration::from_secs(value.trim().trim_matches('"').parse().unwrap_or(0)));
            match name.trim().to_ascii_lowercase().as_str() {
                // Also with a list of fields (`private="…"`): many caches treat that like the bare directive (RFC 9111
                // §5.2.2.7).
                "no-store" | "private" => control.never = true,
                "no-cache" => control.ask = true,
                "must-revalidate" | "proxy-revalidate" => control.no_stale = true,
                "max-age" => max_age = seconds(),
                "s-maxage" => {
                    // §5.2.2.10: it implies proxy-revalidate.
                    control.no_stale = true;
                    shared = seconds();
                }
                _ => {}
            }
        }
        control.lifetime = shared.or(max_age);
        control
    }
}

/// Negative entry: nothing to cache for an object, remembered for a short time in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegativeEntry {
    /// Reason for which there is nothing to cache.
    pub finding: NegativeReason,
    /// Time of the store's answer, in milliseconds since the Unix epoch.
    pub since: u64,
    /// End of its validity, in milliseconds since the Unix epoch.
    pub until: u64,
    /// Purge epoch of the object when the store was asked.
    pub epoch: u64,
}

impl NegativeEntry {
    /// Returns true if it answers a request for `topic` at `now`: it is still valid, and no purge came after it.
    pub fn holds(&self, topic: &MetadataKey, now: u64) -> bool {
        // A time before the answer is that of a clock that was put back.
        (self.since..self.until).contains(&now) && self.epoch >= topic.epoch
    }
}

/// Reason for which an object is not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegativeReason {
    /// The store has no such object.
    Absent,
    /// The object was deleted.
    Gone,
    /// The store denies access to it, and the policy wants that remembered.
    Denied,
    /// The object cannot or must not be cached.
    Uncacheable,
}

/// Form of [`CachedMetadata`] on disk. The entity tag is among the headers.
#[derive(Serialize, Deserialize)]
struct DiskMetadata {
    store: String,
    bucket: String,
    key: String,
    epoch: u64,
    size: u64,
    asked_at: u64,
    /// Seconds since the Unix epoch.
    date: Option<u64>,
    /// Values as Latin-1, byte by byte, because a header may have any byte.
    headers: Vec<(String, String)>,
}

/// Value of the cache of metadata records.
#[derive(Clone)]
pub struct MetadataRecord(pub Arc<CachedMetadata>);

impl Code for MetadataRecord {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        let CachedMetadata { version, metadata: facts, asked_at, .. } = &*self.0;
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs());
        let latin = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
        let written = DiskMetadata {
            store: version.object.store.to_string(),
            bucket: version.object.bucket.to_string(),
            key: version.object.key.to_string(),
            epoch: version.epoch,
            size: version.size,
            asked_at: *asked_at,
            date: facts.date().and_then(since),
            headers: facts.headers.iter().map(|(name, value)| (name.to_string(), latin(value))).collect(),
        };
        let text = serde_json::to_vec(&written).map_err(|error| Error::io_error(error.into()))?;
        text.encode(writer)
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        let unfit = || Error::new(foyer::ErrorKind::Parse, "no record of an object");
        let written: DiskMetadata = serde_json::from_slice(&Vec::decode(reader)?).map_err(|_| unfit())?;
        let mut headers = HeaderMap::with_capacity(written.headers.len());
        for (name, value) in written.headers {
            let value: Vec<u8> =
                value.chars().map(u8::try_from).collect::<std::result::Result<_, _>>().map_err(|_| unfit())?;
            let value = HeaderValue::from_bytes(&value).map_err(|_| unfit())?;
            headers.append(HeaderName::try_from(name).map_err(|_| unfit())?, value);
        }
        let date = written.date.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let object = ObjectId { store: written.store.into(), bucket: written.bucket.into(), key: written.key.into() };
        let facts = ObjectMetadata::from_cache(headers, written.size, date);
        // The tag and `Cache-Control` are read again from the headers, as from a response.
        let meta = CachedMetadata::new(&object, written.epoch, facts, written.asked_at).ok_or_else(unfit)?;
        Ok(Self(Arc::new(meta)))
    }

    fn estimated_size(&self) -> usize {
        self.0.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectId {
        ObjectId { store: "s".into(), bucket: "b".into(), key: "k\u{fc}".into() }
    }

    fn meta(headers: &[(&'static str, &[u8])]) -> Option<CachedMetadata> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        CachedMetadata::new(&object(), 3, ObjectMetadata::from_headers(map, Some(10)), 1_000_000)
    }

    #[test]
    fn only_a_strong_tag_makes_a_version() {
        for (etag, fit) in [(&b"\"a\""[..], true), (b"W/\"a\"", false), (b"a", false)] {
            assert_eq!(meta(&[("etag", etag)]).is_some(), fit);
        }
        assert!(meta(&[]).is_none());
    }

    #[test]
    fn freshness_follows_the_policy_and_the_object_where_that_is_honoured() {
        let stale = |meanwhile, on_error| Freshness::Stale { meanwhile, on_error };
        let seconds = Duration::from_secs;
        let policy = |honour_cache_control| CachePolicy {
            ttl: seconds(10),
            honour_cache_control,
            stale_while_revalidate: seconds(5),
            stale_if_error: seconds(60),
            ..CachePolicy::default()
        };
        // Cache-Control, whether honoured, age in seconds
        let table = [
            ("", false, 0, Freshness::Fresh),
            ("", false, 9, Freshness::Fresh),
            ("", false, 10, stale(true, true)),
            ("", false, 15, stale(false, true)),
            ("", false, 70, stale(false, false)),
            ("no-store", false, 0, Freshness::Fresh),
            ("no-store", true, 0, Freshness::Never),
            ("Private, max-age=5", true, 0, Freshness::Never),
            ("no-cache", true, 0, stale(false, false)),
            ("max-age=100", true, 99, Freshness::Fresh),
            ("max-age=100", true, 100, stale(true, true)),
            ("max-age=100, s-maxage=20", true, 19, Freshness::Fresh),
            ("max-age=100, s-maxage=20", true, 20, stale(false, false)),
            ("max-age=1, must-revalidate", true, 1, stale(false, false)),
            ("max-age=1, proxy-revalidate", true, 1, stale(false, false)),
            ("max-age=\"100\"", true, 99, Freshness::Fresh),
            ("max-age=soon", true, 0, stale(true, true)),
            ("public", true, 9, Freshness::Fresh),
        ];
        for (control, honour, age, expected) in table {
            let meta = meta(&[("etag", b"\"a\""), ("cache-control", control.as_bytes())]).expect("a strong tag");
            assert_eq!(meta.freshness(&policy(honour), 1_000_000 + age * 1000), expected, "{control:?} {honour} {age}");
        }
        let meta = meta(&[("etag", b"\"a\"")]).expect("a strong tag");
        assert_eq!(meta.freshness(&policy(false), 0), stale(true, true), "a clock set back");
    }

    #[test]
    fn a_negative_entry_holds_for_its_time_and_not_before_it_was_made() {
        let topic = MetadataKey { object: object(), epoch: 1, reveals_denied: false };
        let entry = NegativeEntry { finding: NegativeReason::Absent, since: 10_000, until: 15_000, epoch: 1 };
        for (now, expected) in [(10_000, true), (14_999, true), (15_000, false), (9_999, false), (0, false)] {
            assert_eq!(entry.holds(&topic, now), expected, "at {now}");
        }
        assert!(!NegativeEntry { epoch: 0, ..entry }.holds(&topic, 10_000), "it was purged");
    }

    #[test]
    fn a_record_survives_the_disk() {
        let meta = meta(&[
            ("etag", b"\"a\""),
            ("content-type", b"audio/mpeg"),
            ("content-disposition", b"inline; filename=\"\xe4.mp3\""),
            ("last-modified", b"Wed, 21 Oct 2015 07:28:00 GMT"),
            ("cache-control", b"max-age=5"),
        ]);
        let meta = meta.expect("a strong tag");
        let record = MetadataRecord(Arc::new(meta));
        let mut bytes = Vec::new();
        record.encode(&mut bytes).expect("a vector takes all");
        let back = MetadataRecord::decode(&mut bytes.as_slice()).expect("it was written whole").0;
        assert_eq!(back.metadata, record.0.metadata);
        assert!(back.version == record.0.version && back.control == record.0.control);
        assert_eq!((back.version.size, back.asked_at), (10, 1_000_000));
        for length in 0..bytes.len() {
            assert!(MetadataRecord::decode(&mut &bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
