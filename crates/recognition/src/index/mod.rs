//! Index of the catalogue's sound: a folder of segments on this node's disk. `writer` makes it, this answers questions.

mod manifest;
mod merge;
mod search;
mod segment;
#[cfg(test)]
mod tests;
mod varint;
mod writer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use search::Candidate;
pub use writer::{IndexSummary, IndexWriter, IndexWriterError, IndexedTrack};

use crate::landmarks::Landmark;
use manifest::Manifest;
use segment::Segment;

/// Index as it is at one time.
#[derive(Debug, Default)]
pub struct LandmarkIndex {
    segments: Vec<SearchedSegment>,
}

/// Segment of an index.
#[derive(Debug)]
struct SearchedSegment {
    segment: Segment,
    /// Tracks that are gone, by their index, ascending.
    removed: Vec<usize>,
}

impl LandmarkIndex {
    /// Opens the index in a folder; `None` where there is none of this extractor.
    pub fn open(folder: &Path, extractor: &str) -> io::Result<Option<Self>> {
        let manifest = Manifest::read(folder)?;
        let Some(manifest) = manifest.filter(|manifest| manifest.extractor == extractor) else { return Ok(None) };
        let open = |listed: manifest::ManifestSegment| {
            let segment = Segment::open(&folder.join(listed.file))?;
            Ok(SearchedSegment { segment, removed: listed.removed })
        };
        let segments = manifest.segments.into_iter().map(open).collect::<io::Result<_>>()?;
        Ok(Some(Self { segments }))
    }

    /// Returns the number of tracks.
    pub fn tracks(&self) -> usize {
        self.segments.iter().map(|part| part.segment.tracks().len() - part.removed.len()).sum()
    }

    /// Returns the number of landmarks.
    pub fn landmarks(&self) -> u64 {
        self.segments.iter().map(|part| part.segment.landmarks()).sum()
    }

    /// Returns the tracks that may have the sound of these landmarks, the likeliest first.
    pub fn find(&self, landmarks: &[Landmark]) -> io::Result<Vec<Candidate>> {
        search::find(&self.segments, landmarks)
    }
}

/// Index that follows what `tidegate index` makes of it.
#[derive(Debug)]
pub struct IndexFolder {
    folder: PathBuf,
    extractor: &'static str,
    open: Mutex<Option<(ManifestStamp, Arc<LandmarkIndex>)>>,
}

/// What tells one list of segments from the next.
type ManifestStamp = (u64, u64, Option<std::time::SystemTime>);

impl IndexFolder {
    /// Creates it over a folder, which may not be there yet.
    pub fn new(folder: PathBuf, extractor: &'static str) -> Self {
        Self { folder, extractor, open: Mutex::new(None) }
    }

    /// Returns the index as it is now; `None` where there is none. It blocks.
    pub fn current(&self) -> io::Result<Option<Arc<LandmarkIndex>>> {
        let Some(stamp) = self.stamp()? else { return Ok(None) };
        // One reads it, and the others wait for that.
        let mut open = self.open.lock();
        if let Some((known, index)) = &*open
            && *known == stamp
        {
            return Ok(Some(Arc::clone(index)));
        }
        let mut tries = 0;
        let found = loop {
            match LandmarkIndex::open(&self.folder, self.extractor) {
                // The list was replaced, and a file of the old one deleted, in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 3 => tries += 1,
                found => break found?,
            }
        };
        let found = found.map(Arc::new);
        *open = found.clone().map(|index| (stamp, index));
        Ok(found)
    }

    fn stamp(&self) -> io::Result<Option<ManifestStamp>> {
        use std::os::unix::fs::MetadataExt;
        match fs::metadata(Manifest::path(&self.folder)) {
            Ok(known) => Ok(Some((known.ino(), known.len(), known.modified().ok()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
