//! Outcomes of checks, kept by the version of the manifest: a playlist of hours is read once for all its viewers. And the memory
//! for manifests that are being read.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foyer::{Cache, CacheBuilder};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{CheckedManifest, FilmFolder, MAX_MANIFEST_BYTES, ManifestFault, ManifestRefusal, check};
use crate::session::ManifestType;

/// Memory for outcomes, in bytes: most manifests pass as they are, and take only their key.
const KEPT_BYTES: usize = 32 << 20;
/// Approximate bytes of one outcome besides its key and its text.
const ENTRY_OVERHEAD: usize = 192;
/// Memory for manifests that are being read and sent, in bytes.
const READ_BYTES: usize = 64 << 20;
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
    read: Semaphore,
}

impl Default for ManifestChecks {
    fn default() -> Self {
        let weight = |key: &String, outcome: &Arc<ManifestOutcome>| {
            let text = outcome.as_ref().as_ref().ok().and_then(|served| served.checked.rewritten.as_ref());
            ENTRY_OVERHEAD + key.len() + text.map_or(0, Vec::len)
        };
        let kept = CacheBuilder::new(KEPT_BYTES).with_shards(4).with_weighter(weight).build();
        Self { kept, read: Semaphore::new(READ_BYTES / PERMIT_BYTES) }
    }
}

impl ManifestChecks {
    /// Waits for memory for a manifest of `length` bytes; with an unknown length for the longest. Fails for one that is too
    /// long.
    pub async fn reserve(&self, length: Option<u64>) -> Result<SemaphorePermit<'_>, ManifestRefusal> {
        let too_large = ManifestRefusal { line: 1, fault: ManifestFault::TooLarge };
        let length = length.unwrap_or(MAX_MANIFEST_BYTES as u64);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= MAX_MANIFEST_BYTES);
        let permits = u32::try_from(bytes.ok_or(too_large)?.div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
        Ok(self.read.acquire_many(permits).await.expect("it is never closed"))
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
