//! Making an index: tracks come in any order, and are in force with each commit. What is broken off between two commits is as if
//! it had not been begun.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{FailedTrack, Manifest, ManifestSegment};
use super::merge::{MAX_FRAMES, MergedSegment, merge};
use super::segment::{CodeGroup, Segment, SegmentTrack, SegmentWriter};
use crate::landmarks::Landmark;

/// Landmarks that wait in memory at most: 16 MiB, about two hundred songs.
const MAX_WAITING: usize = 2 << 20;
/// Share of a segment's tracks that may be gone before it is written anew.
const MAX_REMOVED: f64 = 0.25;

/// Failure to make an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexWriterError {
    /// Another process makes it.
    #[error("another process is at work on this index")]
    Locked,
    /// The disk.
    #[error("the index cannot be written or read: {0}")]
    Disk(#[from] io::Error),
}

/// Track to be kept.
#[derive(Clone, Debug)]
pub struct IndexedTrack {
    /// Its id.
    pub id: String,
    /// Version of its object.
    pub version: String,
    /// Its landmarks, ordered by time.
    pub landmarks: Vec<Landmark>,
    /// Its length in frames.
    pub frames: u32,
}

/// Numbers of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexSummary {
    /// Tracks.
    pub tracks: usize,
    /// Tracks of which no landmarks could be made.
    pub failed: usize,
    /// Seconds of sound.
    pub seconds: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its segments.
    pub segments: usize,
}

/// Writer of an index, of which there is one at a time.
pub struct IndexWriter {
    folder: PathBuf,
    manifest: Manifest,
    segments: Vec<Segment>,
    /// Places of tracks: the segment and the index in it.
    places: HashMap<String, (usize, usize)>,
    waiting: Vec<IndexedTrack>,
    waiting_landmarks: usize,
    waiting_frames: u64,
    is_changed: bool,
    /// Held while this is there.
    _lock: File,
}

impl IndexWriter {
    /// Opens the index in a folder, or begins one: also where it is of another extractor, or `is_new`.
    pub fn open(folder: &Path, extractor: &str, is_new: bool) -> Result<Self, IndexWriterError> {
        fs::create_dir_all(folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => IndexWriterError::Locked,
            TryLockError::Error(error) => IndexWriterError::Disk(error),
        })?;
        let known = if is_new { None } else { Manifest::read(folder)? };
        let known = known.filter(|manifest| manifest.extractor == extractor);
        let is_changed = known.is_none();
        let manifest = known.unwrap_or_else(|| Manifest::new(extractor));
        let open = |listed: &ManifestSegment| Segment::open(&folder.join(&listed.file));
        let segments = manifest.segments.iter().map(open).collect::<io::Result<Vec<_>>>()?;
        let mut writer = Self {
            folder: folder.to_owned(),
            manifest,
            segments,
            places: HashMap::new(),
            waiting: Vec::new(),
            waiting_landmarks: 0,
            waiting_frames: 0,
            is_changed,
            _lock: lock,
        };
        if is_changed {
            // Numbers that an index that is served may still use are not given again.
            writer.manifest.next_file = writer.largest_number()? + 1;
        }
        writer.note_places();
        writer.delete_unused()?;
        Ok(writer)
    }

    /// Returns the version of a track that is kept, or of which no landmarks could be made.
    pub fn version(&self, id: &str) -> Option<&str> {
        if let Some((segment, track)) = self.places.get(id) {
            return self.segments.get(*segment)?.tracks().get(*track).map(|track| track.version.as_str());
        }
        self.manifest.failed.get(id).map(|failed| failed.version.as_str())
    }

    /// Returns the ids of all tracks that are kept or have failed.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.places.keys().chain(self.manifest.failed.keys()).map(String::as_str)
    }

    /// Returns the tracks of which no landmarks could be made, with the reasons.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.manifest.failed.iter().map(|(id, failed)| (id.as_str(), failed.reason.as_str()))
    }

    /// Keeps a track in place of what is kept of it.
    pub fn add(&mut self, track: IndexedTrack) -> Result<(), IndexWriterError> {
        self.remove(&track.id);
        self.waiting_landmarks += track.landmarks.len();
        self.waiting_frames += u64::from(track.frames);
        self.waiting.push(track);
        // Silence has no landmarks, and takes room on the line.
        let is_full = self.waiting_landmarks >= MAX_WAITING || self.waiting_frames >= MAX_FRAMES / 4;
        if is_full { self.commit() } else { Ok(()) }
    }

    /// Keeps that no landmarks of a track can be made.
    pub fn fail(&mut self, id: &str, version: String, reason: String) {
        self.remove(id);
        self.manifest.failed.insert(id.to_owned(), FailedTrack { version, reason });
        self.is_changed = true;
    }

    /// Drops a track.
    pub fn remove(&mut self, id: &str) {
        let (failed, place) = (self.manifest.failed.remove(id), self.places.remove(id));
        self.is_changed |= failed.is_some() || place.is_some();
        self.waiting.retain(|waiting| waiting.id != id);
        let Some((segment, track)) = place else { return };
        if let Some(listed) = self.manifest.segments.get_mut(segment) {
            let at = listed.removed.partition_point(|known| *known < track);
            listed.removed.insert(at, track);
        }
    }

    /// Puts everything in force that was added and removed.
    pub fn commit(&mut self) -> Result<(), IndexWriterError> {
        if self.waiting.is_empty() && !self.is_changed {
            return Ok(());
        }
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            (self.waiting_landmarks, self.waiting_frames) = (0, 0);
            let file = self.new_file();
            write_segment(&self.folder.join(&file), waiting)?;
            self.segments.push(Segment::open(&self.folder.join(&file))?);
            self.manifest.segments.push(ManifestSegment { file, removed: Vec::new() });
        }
        self.tidy()?;
        self.manifest.write(&self.folder)?;
        self.is_changed = false;
        self.note_places();
        self.delete_unused()?;
        Ok(())
    }

    /// Commits; returns the numbers of the index.
    pub fn finish(mut self) -> Result<IndexSummary, IndexWriterError> {
        self.commit()?;
        let mut bytes = 0;
        for listed in &self.manifest.segments {
            bytes += fs::metadata(self.folder.join(&listed.file))?.len();
        }
        let kept = self.places.values();
        let tracks = kept.filter_map(|(segment, track)| self.segments.get(*segment)?.tracks().get(*track));
        let frames: u64 = tracks.map(|track| u64::from(track.frames)).sum();
        Ok(IndexSummary {
            tracks: self.places.len(),
            failed: self.manifest.failed.len(),
            seconds: frames * 2 / 125,
            bytes,
            segments: self.segments.len(),
        })
    }

    /// Merges the last segments while they are of like size, so that their number is the logarithm of that of the tracks; and
    /// writes those anew of which much is gone.
    fn tidy(&mut self) -> Result<(), IndexWriterError> {
        while let [.., first, second] = self.segments.as_slice() {
            let is_alike = first.landmarks() < 2 * second.landmarks().max(1);
            if !is_alike || first.frames() + second.frames() > MAX_FRAMES {
                break;
            }
            self.replace(self.segments.len() - 2, 2)?;
        }
        for at in (0..self.segments.len()).rev() {
            let (all, removed) = (self.segments[at].tracks().len(), self.manifest.segments[at].removed.len());
            if removed > 0 && removed == all {
                self.segments.remove(at);
                self.manifest.segments.remove(at);
            } else if removed as f64 > all as f64 * MAX_REMOVED {
                self.replace(at, 1)?;
            }
        }
        Ok(())
    }

    /// Replaces `count` segments from `at` on by one.
    fn replace(&mut self, at: usize, count: usize) -> Result<(), IndexWriterError> {
        let file = self.new_file();
        let path = self.folder.join(&file);
        let listed = &self.manifest.segments[at..at + count];
        let removed: Vec<_> =
            listed.iter().map(|listed| |index: usize| listed.removed.binary_search(&index).is_ok()).collect();
        let inputs = self.segments[at..at + count].iter().zip(&removed);
        let inputs: Vec<_> = inputs.map(|(segment, is_removed)| MergedSegment { segment, is_removed }).collect();
        merge(&inputs, &path)?;
        let segment = Segment::open(&path)?;
        self.segments.splice(at..at + count, [segment]);
        self.manifest.segments.splice(at..at + count, [ManifestSegment { file, removed: Vec::new() }]);
        Ok(())
    }

    fn new_file(&mut self) -> String {
        let file = format!("{:08}.landmarks", self.manifest.next_file);
        self.manifest.next_file += 1;
        file
    }

    fn note_places(&mut self) {
        self.places.clear();
        for (number, (segment, listed)) in self.segments.iter().zip(&self.manifest.segments).enumerate() {
            for (index, track) in segment.tracks().iter().enumerate() {
                if listed.removed.binary_search(&index).is_err() {
                    self.places.insert(track.id.clone(), (number, index));
                }
            }
        }
    }

    /// Returns the names of the folder's segments.
    fn files(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder)?;
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        let names: io::Result<Vec<String>> = names.collect();
        Ok(names?.into_iter().filter(|name| name.ends_with(".landmarks")).collect())
    }

    fn largest_number(&self) -> io::Result<u64> {
        let files = self.files()?;
        Ok(files.iter().filter_map(|name| name.split('.').next()?.parse().ok()).max().unwrap_or_default())
    }

    /// Deletes the segments of which the list on the disk says nothing: what was merged, and what was broken off.
    fn delete_unused(&self) -> io::Result<()> {
        let Some(in_force) = Manifest::read(&self.folder)? else { return Ok(()) };
        for name in self.files()? {
            if !in_force.segments.iter().any(|listed| listed.file == name) {
                fs::remove_file(self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

fn write_segment(path: &Path, tracks: Vec<IndexedTrack>) -> io::Result<()> {
    let mut marks: Vec<(u32, u32)> = Vec::with_capacity(tracks.iter().map(|track| track.landmarks.len()).sum());
    let (mut listed, mut base) = (Vec::new(), 0_u32);
    for IndexedTrack { id, version, landmarks, frames } in tracks {
        marks.extend(landmarks.iter().map(|mark| (mark.code, base.saturating_add(mark.frame))));
        listed.push(SegmentTrack { id, version, base, frames });
        base = base.saturating_add(frames);
    }
    marks.sort_unstable();
    let mut writer = SegmentWriter::create(path, marks.len() as u64)?;
    for group in marks.chunk_by(|one, other| one.0 == other.0) {
        let code = group[0].0;
        writer.push(&CodeGroup { code, places: group.iter().map(|(_, place)| *place).collect() })?;
    }
    writer.finish(&listed)
}
