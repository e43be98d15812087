//! List of an index's segments, which replaces the one before as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the list.
const FILE: &str = "index.json";
/// Version of its form.
const FORMAT: u32 = 1;

/// Segments of an index, and tracks that have no landmarks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Extractor of the landmarks.
    pub extractor: String,
    /// Number of the next file.
    pub next_file: u64,
    /// Segments in the order in which they were made.
    pub segments: Vec<ManifestSegment>,
    /// Tracks of which no landmarks could be made, by id.
    pub failed: BTreeMap<String, FailedTrack>,
}

/// Segment of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSegment {
    /// Name of its file.
    pub file: String,
    /// Tracks that are gone since, by their index, ascending.
    pub removed: Vec<usize>,
}

/// Track of which no landmarks could be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTrack {
    /// Version of its object.
    pub version: String,
    /// The reason.
    pub reason: String,
}

impl Manifest {
    /// Creates the list of an empty index.
    pub fn new(extractor: &str) -> Self {
        let (segments, failed) = (Vec::new(), BTreeMap::new());
        Self { format: FORMAT, extractor: extractor.to_owned(), next_file: 1, segments, failed }
    }

    /// Returns the path of the list in a folder.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Reads the list; `None` where there is none of this form.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(Self::path(folder)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(io::Error::from)?;
        Ok((manifest.format == FORMAT).then_some(manifest))
    }

    /// Puts the list in force.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let (path, new) = (Self::path(folder), folder.join("index.json.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    }
}
