//! Outcomes of checks, kept by the version of the manifest: a playlist of hours is read once for all its viewers. And the memory
//! for manifests that are being read.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foyer::{Cache, CacheBuilder};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{CheckedManifest, FilmFolder, MAX_MANIFEST_BYTES, ManifestFault, ManifestRefusal, check};
use crate::session::{ManifestType, SessionId};
use primitives::ids::UserId;

/// Memory for outcomes, in bytes: most manifests pass as they are, and take only their key.
const KEPT_BYTES: usize = 32 << 20;
/// Approximate bytes of one outcome besides its key and its text.
const ENTRY_OVERHEAD: usize = 192;
/// Memory for manifests that are being read and sent, in bytes.
const READ_BYTES: usize = 64 << 20;
/// Most manifests of one viewer that are read and sent at the same time: a player asks for those of its pictures, its sound
/// and its subtitles. The longest of them together take a third of the memory.
const MAX_AT_ONCE: usize = 4;
/// Bytes of one permit.
const PERMIT_BYTES: usize = 1024;

/// Outcome of a check.
pub type ManifestOutcome = Result<ServedManifest, ManifestRefusal>;

/// A manifest that players may have, with the entity tag of its text.
#[derive(Debug)]
pub struct ServedManifest {
    /// The manifest.
    pub checked: CheckedManifest,
    /// Entity tag of the rewritten text, quoted; `None` where the object's own holds.
    pub etag: Option<String>,
}

/// Manifest that was read and checked, in one copy for all who are sent it.
pub struct SharedManifest {
    /// Outcome of its check.
    pub outcome: Arc<ManifestOutcome>,
    /// Text that was read; empty where the outcome has another.
    read: Vec<u8>,
    _memory: ManifestMemory,
}

impl SharedManifest {
    /// Returns the text that players get.
    pub fn text(&self) -> &[u8] {
        let rewritten = self.outcome.as_ref().as_ref().ok().and_then(|served| served.checked.rewritten.as_ref());
        rewritten.unwrap_or(&self.read)
    }
}

/// Checks of the manifests of one bucket.
pub struct ManifestChecks {
    kept: Cache<String, Arc<ManifestOutcome>>,
    /// Manifests under way, by version: those who read slowly hold one copy of each, however many they are.
    shared: Mutex<HashMap<String, Weak<SharedManifest>>>,
    read: Arc<Semaphore>,
    /// Places of viewers who have manifests under way.
    viewers: Mutex<HashMap<ManifestReader, Weak<Semaphore>>>,
}

/// Reader of manifests, who has a number of places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManifestReader {
    /// A user, whatever the number of their sessions.
    User(UserId),
    /// A session whose user cannot be asked for now.
    Session(SessionId),
}

/// Place of a viewer for one manifest, held until it has been sent.
pub struct ViewerPlace {
    _permit: OwnedSemaphorePermit,
}

/// Memory of one manifest, held until it has been sent.
pub struct ManifestMemory {
    _permit: OwnedSemaphorePermit,
}

impl Default for ManifestChecks {
    fn default() -> Self {
        let weight = |key: &String, outcome: &Arc<ManifestOutcome>| {
            let text = outcome.as_ref().as_ref().ok().and_then(|served| served.checked.rewritten.as_ref());
            ENTRY_OVERHEAD + key.len() + text.map_or(0, Vec::len)
        };
        let kept = CacheBuilder::new(KEPT_BYTES).with_shards(4).with_weighter(weight).build();
        let read = Arc::new(Semaphore::new(READ_BYTES / PERMIT_BYTES));
        Self { kept, shared: Mutex::default(), read, viewers: Mutex::default() }
    }
}

impl ManifestChecks {
    /// Waits until the reader has fewer than four manifests under way: one that reads none of them must not take the memory of
    /// all others.
    pub async fn enter(&self, reader: ManifestReader) -> ViewerPlace {
        let places = {
            let mut viewers = self.viewers.lock();
            let known = viewers.get(&reader).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                // Those that have nothing under way are forgotten when the map would grow.
                if viewers.len() == viewers.capacity() {
                    viewers.retain(|_, places| places.strong_count() > 0);
                }
                let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
                viewers.insert(reader, Arc::downgrade(&places));
                places
            })
        };
        ViewerPlace { _permit: places.acquire_owned().await.expect("it is never closed") }
    }

    /// Waits for memory for a manifest of `length` bytes; with an unknown length for the longest. Fails for one that is too
    /// long.
    pub async fn reserve(&self, length: Option<u64>) -> Result<ManifestMemory, ManifestRefusal> {
        let too_large = ManifestRefusal { line: 1, fault: ManifestFault::TooLarge };
        let length = length.unwrap_or(MAX_MANIFEST_BYTES as u64);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= MAX_MANIFEST_BYTES);
        let permits = u32::try_from(bytes.ok_or(too_large)?.div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.read).acquire_many_owned(permits).await.expect("it is never closed");
        Ok(ManifestMemory { _permit: permit })
    }

    /// Returns the manifest of that `version` if it is being sent to somebody.
    pub fn shared(&self, version: &str) -> Option<Arc<SharedManifest>> {
        self.shared.lock().get(version)?.upgrade()
    }

    /// Checks a manifest, or takes what an earlier check of the same `version` said; without a version nothing is kept.
    pub fn check(
        &self,
        version: Option<String>,
        kind: ManifestType,
        (read, memory): (Vec<u8>, ManifestMemory),
        path: &str,
        folder: &FilmFolder<'_>,
    ) -> Arc<SharedManifest> {
        let known = version.as_ref().and_then(|version| self.kept.get(version)).map(|known| Arc::clone(known.value()));
        let outcome = known.unwrap_or_else(|| {
            let outcome = Arc::new(check(kind, &read, path, folder).map(served));
            if let Some(version) = &version {
                self.kept.insert(version.clone(), Arc::clone(&outcome));
            }
            outcome
        });
        let is_rewritten = outcome.as_ref().as_ref().is_ok_and(|served| served.checked.rewritten.is_some());
        let read = if is_rewritten { Vec::new() } else { read };
        let manifest = Arc::new(SharedManifest { outcome, read, _memory: memory });
        if let Some(version) = version {
            let mut shared = self.shared.lock();
            // Those that nobody is sent any more are forgotten when the map would grow.
            if shared.len() == shared.capacity() {
                shared.retain(|_, manifest| manifest.strong_count() > 0);
            }
            shared.insert(version, Arc::downgrade(&manifest));
        }
        manifest
    }
}

fn served(checked: CheckedManifest) -> ServedManifest {
    let etag = checked.rewritten.as_ref().map(|text| {
        // Of the text, since the rules that made it may change while the object does not.
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..16]))
    });
    ServedManifest { checked, etag }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::manifest::ManifestRules;

    #[test]
    fn a_viewer_that_reads_none_of_its_manifests_takes_no_others_place() {
        let checks = ManifestChecks::default();
        let reader = |name| ManifestReader::User(UserId::parse(name).expect("an id"));
        let enter = |reader| checks.enter(reader).now_or_never();
        let mut held: Vec<_> = (0..MAX_AT_ONCE).map(|_| enter(reader("slow")).expect("there is a place")).collect();
        assert!(enter(reader("slow")).is_none());
        assert!(enter(reader("other")).is_some());
        assert!(enter(ManifestReader::Session(SessionId([1; 16]))).is_some());
        held.pop();
        assert!(enter(reader("slow")).is_some());
        const { assert!(READ_BYTES >= 3 * MAX_AT_ONCE * MAX_MANIFEST_BYTES, "one reader leaves room") };
    }

    #[test]
    fn memory_is_held_for_as_long_as_the_manifest_is_under_way() {
        let checks = ManifestChecks::default();
        let reserve = || checks.reserve(None).now_or_never();
        let mut held: Vec<_> = (0..READ_BYTES / MAX_MANIFEST_BYTES).map_while(|_| reserve()).collect();
        assert!(reserve().is_none(), "{} are held", held.len());
        held.pop();
        assert!(reserve().is_some_and(|it| it.is_ok()));
    }

    #[test]
    fn those_who_are_sent_one_manifest_share_its_memory() {
        let checks = ManifestChecks::default();
        let rules =
            ManifestRules { store_hosts: vec!["minio:9000".into()], allowed_hosts: Vec::new(), bucket: "vod".into() };
        let folder = FilmFolder { rules: &rules, movie: "b1", prefix: "movies/b1/", key_prefix: None };
        for (text, sent) in [
            ("#EXTM3U\n#EXTINF:6,\na.ts\n", "#EXTM3U\n#EXTINF:6,\na.ts\n"),
            ("#EXTM3U\n#EXTINF:6,\nhttp://minio:9000/vod/movies/b1/a.ts\n", "#EXTM3U\n#EXTINF:6,\na.ts\n"),
        ] {
            let memory = checks.reserve(None).now_or_never().expect("there is room").expect("it is not too long");
            let free = checks.read.available_permits();
            let first =
                checks.check(Some(text.into()), ManifestType::Hls, (text.into(), memory), "index.m3u8", &folder);
            let others: Vec<_> = (0..100).map(|_| checks.shared(text).expect("it is under way")).collect();
            assert!(others.iter().all(|other| other.text() == sent.as_bytes()));
            assert_eq!(checks.read.available_permits(), free);
            drop((first, others));
            assert!(checks.shared(text).is_none());
            assert_eq!(checks.read.available_permits(), READ_BYTES / PERMIT_BYTES);
        }
    }
}
