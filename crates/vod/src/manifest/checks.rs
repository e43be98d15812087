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

/// Memory for outcomes, in bytes: most manifests pass as they are, and take only their key.
const KEPT_BYTES: usize = 32 << 20;
/// Approximate bytes of one outcome besides its key and its text.
const ENTRY_OVERHEAD: usize = 192;
/// Memory for manifests that are being read and sent, in bytes.
const READ_BYTES: usize = 64 << 20;
/// Most manifests of one session that are read and sent at the same time: a player asks for those of its pictures, its sound
/// and its subtitles.
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

/// Checks of the manifests of one bucket.
pub struct ManifestChecks {
    kept: Cache<String, Arc<ManifestOutcome>>,
    read: Arc<Semaphore>,
    /// Places of sessions that have manifests under way.
    viewers: Mutex<HashMap<SessionId, Weak<Semaphore>>>,
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
        Self { kept, read: Arc::new(Semaphore::new(READ_BYTES / PERMIT_BYTES)), viewers: Mutex::default() }
    }
}

impl ManifestChecks {
    /// Waits until the session has fewer than four manifests under way: one that reads none of them must not take the memory of
    /// all others.
    pub async fn enter(&self, session: SessionId) -> ViewerPlace {
        let places = {
            let mut viewers = self.viewers.lock();
            let known = viewers.get(&session).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                // Those that have nothing under way are forgotten when the map would grow.
                if viewers.len() == viewers.capacity() {
                    viewers.retain(|_, places| places.strong_count() > 0);
                }
                let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
                viewers.insert(session, Arc::downgrade(&places));
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

    /// Checks a manifest, or returns what an earlier check of the same `version` said; without a version nothing is kept.
    pub fn check(
        &self,
        version: Option<String>,
        kind: ManifestType,
        manifest: &[u8],
        path: &str,
        folder: &FilmFolder<'_>,
    ) -> Arc<ManifestOutcome> {
        if let Some(known) = version.as_ref().and_then(|version| self.kept.get(version)) {
            return Arc::clone(known.value());
        }
        let outcome = Arc::new(check(kind, manifest, path, folder).map(|checked| {
            let etag = checked.rewritten.as_ref().map(|text| {
                // Of the text, since the rules that made it may change while the object does not.
                format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..16]))
            });
            ServedManifest { checked, etag }
        }));
        if let Some(version) = version {
            self.kept.insert(version, Arc::clone(&outcome));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_viewer_that_reads_none_of_its_manifests_takes_no_others_place() {
        let checks = ManifestChecks::default();
        let (slow, other) = (SessionId([1; 16]), SessionId([2; 16]));
        let mut held: Vec<_> =
            (0..MAX_AT_ONCE).map(|_| checks.enter(slow).now_or_never().expect("there is a place")).collect();
        assert!(checks.enter(slow).now_or_never().is_none());
        assert!(checks.enter(other).now_or_never().is_some());
        held.pop();
        assert!(checks.enter(slow).now_or_never().is_some());
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
}
