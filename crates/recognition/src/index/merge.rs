//! Several segments made one, without the tracks that are gone, in the memory of a code's places.

use std::io;
use std::path::Path;

use super::segment::{CodeGroup, GroupReader, Segment, SegmentTrack, SegmentWriter};

/// Most frames of a segment's line; a question counts from some frames before it.
pub const MAX_FRAMES: u64 = u32::MAX as u64 - (1 << 16);

/// Segment that is merged, and which of its tracks stay.
pub struct MergedSegment<'a> {
    /// The segment.
    pub segment: &'a Segment,
    /// Returns true for a track that is gone, by its index.
    pub is_removed: &'a dyn Fn(usize) -> bool,
}

/// Segment with the new places of its tracks; `None` for one that is gone.
struct MergeInput<'a> {
    segment: &'a Segment,
    reader: GroupReader<'a>,
    next: Option<CodeGroup>,
    bases: Vec<Option<u32>>,
}

/// Writes one segment of several.
pub fn merge(inputs: &[MergedSegment<'_>], path: &Path) -> io::Result<()> {
    let landmarks = inputs.iter().map(|input| input.segment.landmarks()).sum();
    let mut writer = SegmentWriter::create(path, landmarks)?;
    let (mut tracks, mut end, mut merged) = (Vec::new(), 0_u32, Vec::new());
    for MergedSegment { segment, is_removed } in inputs {
        let mut bases = Vec::new();
        for (index, track) in segment.tracks().iter().enumerate() {
            let base = (!is_removed(index)).then_some(end);
            if let Some(base) = base {
                tracks.push(SegmentTrack { base, ..track.clone() });
                end = end.saturating_add(track.frames);
            }
            bases.push(base);
        }
        let mut reader = segment.groups()?;
        let next = reader.next()?;
        merged.push(MergeInput { segment, reader, next, bases });
    }
    while let Some(code) = merged.iter().filter_map(|input| Some(input.next.as_ref()?.code)).min() {
        let mut group = CodeGroup { code, places: Vec::new() };
        for input in &mut merged {
            if input.next.as_ref().is_some_and(|next| next.code == code) {
                let found = input.next.take().map(|next| next.places).unwrap_or_default();
                group.places.extend(found.into_iter().filter_map(|place| input.moved(place)));
                input.next = input.reader.next()?;
            }
        }
        writer.push(&group)?;
    }
    writer.finish(&tracks)
}

impl MergeInput<'_> {
    fn moved(&self, place: u32) -> Option<u32> {
        let index = self.segment.track_at(place)?;
        let base = (*self.bases.get(index)?)?;
        Some(base.saturating_add(place - self.segment.tracks().get(index)?.base))
    }
}
