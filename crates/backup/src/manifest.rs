//! Manifest of a backup: what belongs together, with sizes and digests. It is stored last, once everything else was verified, so
//! that what has a manifest can be restored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::component::BackupComponent;
use primitives::hexadecimal::hexadecimal;

/// Form of the manifest.
const FORMAT: &str = "tidegate-backup";
/// Its version; a program reads its own and older ones.
const VERSION: u32 = 1;
/// Last part of its key.
pub const OBJECT_NAME: &str = "manifest.json";
/// Largest manifest, in bytes: room for some ten thousand tables.
pub const MAX_BYTES: usize = 4 << 20;

/// Manifest of a verified backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Id of the backup, which is also its folder in the bucket.
    pub id: Uuid,
    /// Version of the program that made it.
    pub program: String,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Its components.
    pub components: Vec<ComponentEntry>,
    /// SHA-256 over everything before it.
    digest: String,
}

/// Component in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentEntry {
    /// The component.
    pub component: BackupComponent,
    /// Bytes as they are stored: compressed.
    pub stored_bytes: u64,
    /// SHA-256 of these.
    pub stored_sha256: String,
    /// Bytes of the component itself.
    pub bytes: u64,
    /// SHA-256 of these.
    pub sha256: String,
    /// Rows of each table, or keys of Redis; empty for files.
    pub counts: BTreeMap<String, u64>,
}

/// Reason for which a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no manifest.
    #[error("this is no manifest of a backup")]
    Foreign,
    /// It is a newer program's.
    #[error("the manifest has version {0}; this program reads {VERSION}: use a newer one")]
    Newer(u32),
    /// It belongs to another folder.
    #[error("the manifest is that of backup {0}, which belongs in another folder")]
    OtherFolder(Uuid),
    /// It was changed.
    #[error("the manifest is damaged: its digest is another one")]
    Damaged,
    /// It has a component twice, or none.
    #[error("the manifest has no components, or one of them twice")]
    Components,
}

/// Beginning of any version.
#[derive(Deserialize)]
struct ManifestHead {
    format: String,
    version: u32,
}

impl Manifest {
    /// Creates the manifest of these components.
    pub fn new(id: Uuid, created_at: i64, components: Vec<ComponentEntry>) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let format = FORMAT.to_owned();
        let mut this = Self { format, version: VERSION, id, program, created_at, components, digest: String::new() };
        this.digest = this.own_digest();
        this
    }

    /// Parses the manifest in the folder of the backup `id`.
    pub fn parse(bytes: &[u8], id: Uuid) -> Result<Self, ManifestError> {
        let head: ManifestHead = serde_json::from_slice(bytes).map_err(|_| ManifestError::Foreign)?;
        if head.format != FORMAT {
            return Err(ManifestError::Foreign);
        }
        if head.version > VERSION {
            return Err(ManifestError::Newer(head.version));
        }
        let this: Self = serde_json::from_slice(bytes).map_err(|_| ManifestError::Foreign)?;
        if this.digest != this.own_digest() {
            return Err(ManifestError::Damaged);
        }
        if this.id != id {
            return Err(ManifestError::OtherFolder(this.id));
        }
        let is_twice = |(number, entry): (usize, &ComponentEntry)| {
            this.components[..number].iter().any(|other| other.component == entry.component)
        };
        if this.components.is_empty() || this.components.iter().enumerate().any(is_twice) {
            return Err(ManifestError::Components);
        }
        Ok(this)
    }

    /// Returns it as JSON.
    pub fn to_json(&self) -> String {
        // Texts and numbers alone: that cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Returns the entry of a component.
    pub fn entry(&self, component: BackupComponent) -> Option<&ComponentEntry> {
        self.components.iter().find(|entry| entry.component == component)
    }

    /// Returns the bytes of all components as they are stored.
    pub fn stored_bytes(&self) -> u64 {
        self.components.iter().fold(0, |sum, entry| sum.saturating_add(entry.stored_bytes))
    }

    fn own_digest(&self) -> String {
        let without = Self { digest: String::new(), ..self.clone() };
        hexadecimal(&Sha256::digest(serde_json::to_vec(&without).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = ComponentEntry {
            component: BackupComponent::Sqlite,
            stored_bytes: 5,
            stored_sha256: "aa".to_owned(),
            bytes: 10,
            sha256: "bb".to_owned(),
            counts: BTreeMap::from([("positions".to_owned(), 3)]),
        };
        Manifest::new(Uuid::from_u128(7), 1, vec![entry])
    }

    #[test]
    fn a_manifest_comes_back_and_every_change_of_it_is_seen() {
        let (manifest, id) = (manifest(), Uuid::from_u128(7));
        let json = manifest.to_json();
        assert_eq!(Manifest::parse(json.as_bytes(), id), Ok(manifest.clone()));
        for (from, to, expected) in [
            ("\"positions\": 3", "\"positions\": 4", ManifestError::Damaged),
            ("\"stored_bytes\": 5", "\"stored_bytes\": 6", ManifestError::Damaged),
            ("\"sqlite\"", "\"redis\"", ManifestError::Damaged),
            ("\"sqlite\"", "\"../x\"", ManifestError::Foreign),
            (FORMAT, "other-backup", ManifestError::Foreign),
            ("\"version\": 1", "\"version\": 2", ManifestError::Newer(2)),
            ("{", "", ManifestError::Foreign),
        ] {
            let changed = json.replacen(from, to, 1);
            assert_ne!(changed, json, "{from}");
            assert_eq!(Manifest::parse(changed.as_bytes(), id), Err(expected), "{from}");
        }
        let other = Uuid::from_u128(8);
        assert_eq!(Manifest::parse(json.as_bytes(), other), Err(ManifestError::OtherFolder(id)));
        let twice = Manifest::new(id, 1, [manifest.components.clone(), manifest.components].concat());
        assert_eq!(Manifest::parse(twice.to_json().as_bytes(), id), Err(ManifestError::Components));
        let none = Manifest::new(id, 1, Vec::new());
        assert_eq!(Manifest::parse(none.to_json().as_bytes(), id), Err(ManifestError::Components));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            assert!(Manifest::parse(&bytes, Uuid::nil()).is_err());
        }
    }
}
