//! Keys of the cache: objects, versions of them, slices of versions. The key of a slice contains the entity tag, so
//! that bytes of two versions never meet, and the purge epoch, so that purged data is never found again.

use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::sync::Arc;

use foyer::{Code, DefaultHasher, Error, ErrorKind, Result};
use tokio::sync::Semaphore;

use http_semantics::etag::ETag;
use http_semantics::range::ByteRange;

/// Most fills of one version at the same time.
const MAX_FILLS_PER_VERSION: usize = 4;
/// Longest text read back from a disk, in bytes: longer than any key, bucket or tag.
const MAX_TEXT: u32 = 64 * 1024;

/// Identity of an object of a store.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Name of the store in the YAML.
    pub store: Arc<str>,
    /// Name of the bucket.
    pub bucket: Arc<str>,
    /// Key of the object, decoded.
    pub key: Arc<str>,
}

/// One version of an object since its last purge.
pub struct ObjectVersion {
    /// Object of which this is a version.
    pub object: ObjectId,
    /// Strong entity tag of the version.
    pub etag: ETag,
    /// Size in bytes.
    pub size: u64,
    /// Purge epoch when it was fetched: the newest purge that covered the object, in milliseconds since the Unix epoch.
    pub epoch: u64,
    /// Permits for fills of this version.
    pub fill_permits: Semaphore,
    // Calculated once: every look-up of a slice hashes its version.
    hash: u64,
}

impl ObjectVersion {
    /// Creates the version of `object` with this tag, size and purge epoch.
    pub fn new(object: ObjectId, etag: ETag, size: u64, epoch: u64) -> Arc<Self> {
        let hash = DefaultHasher::default().hash_one((&object, &etag, size, epoch));
        Arc::new(Self { object, etag, size, epoch, fill_permits: Semaphore::new(MAX_FILLS_PER_VERSION), hash })
    }
}

impl PartialEq for ObjectVersion {
    // Without `fill_permits`, which are no part of the identity. The hash first: it differs in nearly all cases.
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && (self.size, self.epoch) == (other.size, other.epoch)
            && self.etag == other.etag
            && self.object == other.object
    }
}

impl Eq for ObjectVersion {}

/// Key of a slice: the bytes of a version from `number` × `size` on.
#[derive(Clone)]
pub struct SliceKey {
    /// Version that the slice belongs to.
    pub version: Arc<ObjectVersion>,
    /// Number of the slice, counted from 0.
    pub number: u64,
    /// Size in bytes of every slice but the last. A part of the key, as the configuration may change it.
    pub size: u32,
}

impl SliceKey {
    /// Returns the byte range of the slice in the object; `None` where it begins past the end.
    pub fn byte_range(&self) -> Option<ByteRange> {
        let total = self.version.size;
        let first = self.number.checked_mul(u64::from(self.size)).filter(|first| *first < total)?;
        Some(ByteRange { first, last: first.saturating_add(u64::from(self.size)).min(total) - 1 })
    }
}

impl PartialEq for SliceKey {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
            && self.size == other.size
            // Slices of one response share the version: most comparisons end at the pointer.
            && (Arc::ptr_eq(&self.version, &other.version) || self.version == other.version)
    }
}

impl Eq for SliceKey {}

impl Hash for SliceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.version.hash);
        state.write_u64(self.number);
        state.write_u32(self.size);
    }
}

impl Code for ObjectId {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        [&self.store, &self.bucket, &self.key].into_iter().try_for_each(|text| put(writer, text.as_bytes()))
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        Ok(Self { store: take_text(reader)?, bucket: take_text(reader)?, key: take_text(reader)? })
    }

    fn estimated_size(&self) -> usize {
        // The length prefixes of the three texts.
        self.store.len() + self.bucket.len() + self.key.len() + 12
    }
}

impl Code for SliceKey {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        self.version.object.encode(writer)?;
        put(writer, self.version.etag.to_header().as_bytes())?;
        self.version.size.encode(writer)?;
        self.version.epoch.encode(writer)?;
        self.number.encode(writer)?;
        self.size.encode(writer)
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        let object = ObjectId::decode(reader)?;
        let etag = ETag::parse(&take(reader)?).ok_or_else(|| Error::new(ErrorKind::Parse, "no entity tag"))?;
        let version = ObjectVersion::new(object, etag, u64::decode(reader)?, u64::decode(reader)?);
        Ok(Self { version, number: u64::decode(reader)?, size: u32::decode(reader)? })
    }

    fn estimated_size(&self) -> usize {
        // Four numbers and a length prefix.
        self.version.object.estimated_size() + self.version.etag.to_header().len() + 32
    }
}

/// Writes `bytes` with their length before them; fails where they are longer than [`MAX_TEXT`].
fn put(writer: &mut impl Write, bytes: &[u8]) -> Result<()> {
    // As strict as reading: an entry that could not be read again is not written.
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_TEXT);
    length.ok_or_else(|| Error::new(ErrorKind::OutOfRange, "a name too long to be kept"))?.encode(writer)?;
    writer.write_all(bytes).map_err(Error::io_error)
}

/// Reads bytes with their length before them.
fn take(reader: &mut impl Read) -> Result<Vec<u8>> {
    let length = u32::decode(reader)?;
    // A damaged length must not make us allocate gigabytes.
    if length > MAX_TEXT {
        return Err(Error::new(ErrorKind::OutOfRange, "a name longer than any that is kept"));
    }
    let mut bytes = vec![0; length as usize];
    reader.read_exact(&mut bytes).map_err(Error::io_error)?;
    Ok(bytes)
}

fn take_text(reader: &mut impl Read) -> Result<Arc<str>> {
    let text = String::from_utf8(take(reader)?);
    text.map(Arc::from).map_err(|_| Error::new(ErrorKind::Parse, "a name that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str, size: u64, epoch: u64) -> Arc<ObjectVersion> {
        let object = ObjectId { store: "s".into(), bucket: "b".into(), key: "a/ü.mp3".into() };
        ObjectVersion::new(object, ETag::parse(etag.as_bytes()).expect("a tag"), size, epoch)
    }

    #[test]
    fn a_slices_name_survives_the_disk() {
        let key = SliceKey { version: version("\"x\"", 99, 7), number: 3, size: 4096 };
        let mut bytes = Vec::new();
        key.encode(&mut bytes).expect("a vector takes all");
        assert_eq!(bytes.len(), key.estimated_size());
        let back = SliceKey::decode(&mut bytes.as_slice()).expect("it was written whole");
        let hash = |key: &SliceKey| DefaultHasher::default().hash_one(key);
        assert!(back == key && hash(&back) == hash(&key));
        for length in 0..bytes.len() {
            assert!(SliceKey::decode(&mut &bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn another_version_epoch_number_or_size_is_another_slice() {
        let of = |etag: &str, epoch, number, size| SliceKey { version: version(etag, 9, epoch), number, size };
        let one = of("\"a\"", 0, 0, 4096);
        assert!(one == of("\"a\"", 0, 0, 4096));
        for other in
            [of("\"b\"", 0, 0, 4096), of("\"a\"", 1, 0, 4096), of("\"a\"", 0, 1, 4096), of("\"a\"", 0, 0, 8192)]
        {
            assert!(one != other);
        }
    }

    #[test]
    fn slices_cover_an_object_without_gap_or_overlap() {
        for (total, spans) in
            [(0, vec![]), (1, vec![(0, 0)]), (4096, vec![(0, 4095)]), (4097, vec![(0, 4095), (4096, 4096)])]
        {
            let key = |number| SliceKey { version: version("\"a\"", total, 0), number, size: 4096 };
            let found: Vec<_> =
                (0..3).filter_map(|number| key(number).byte_range()).map(|span| (span.first, span.last)).collect();
            assert_eq!(found, spans, "{total}");
        }
        let last = SliceKey { version: version("\"a\"", u64::MAX, 0), number: u64::MAX, size: 4096 };
        assert_eq!(last.byte_range(), None);
    }
}
