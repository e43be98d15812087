//! The outbox of older versions, a folder of segments of lines with a cursor: what waits there is taken over, in its
//! order, when the outbox is opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{OutboxError, OutboxState};
use crate::Event;
use crate::metrics::DropReason;

const EXTENSION: &str = "jsonl";

/// Takes the events of the segments in its folder into the table of `state`. A segment is removed once its events are
/// there. Fails where the files or the table cannot be used.
pub async fn take_over(state: &mut OutboxState) -> Result<(), OutboxError> {
    let folder = state.folder.clone();
    let segments = segments(&folder)?;
    let Some((first, _)) = segments.first() else { return Ok(()) };
    let (segment, offset) = cursor(&folder, &segments).unwrap_or((*first, 0));
    let mut taken = 0;
    for (number, path) in segments {
        // The cursor is behind it: all of it was delivered.
        if number < segment {
            fs::remove_file(path)?;
            continue;
        }
        let bytes = fs::read(&path)?;
        let start = if number == segment { offset } else { 0 };
        // What stands behind the last line break was acknowledged to nobody.
        let end = memchr::memrchr(b'\n', &bytes).map_or(0, |last| last + 1);
        let (mut events, mut broken) = (Vec::new(), 0);
        for line in bytes.get(start..end).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Event>(line) {
                Ok(event) => events.push(event.to_json_line()),
                Err(_) => broken += 1,
            }
        }
        state.append(&events).await?;
        taken += events.len();
        if broken > 0 {
            state.metrics.record_dropped(DropReason::Damaged, broken);
            tracing::error!(file = %path.display(), lines = broken, "lines of the old outbox cannot be read: kept aside");
            fs::rename(&path, path.with_extension("jsonl.damaged"))?;
        } else {
            fs::remove_file(path)?;
        }
    }
    // After the segments: without the cursor one that is left would be delivered again from its start.
    for name in ["cursor", "cursor.new"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    tracing::info!(events = taken, "the outbox was in an older form: its events are taken over");
    Ok(())
}

/// Returns the segments in `folder` with their numbers, in order.
fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            segments.extend(number.map(|number| (number, path)));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Returns the segment and offset that delivery had reached; `None` where the cursor names no place that exists: events
/// are delivered twice rather than never.
fn cursor(folder: &Path, segments: &[(u64, PathBuf)]) -> Option<(u64, usize)> {
    let text = fs::read_to_string(folder.join("cursor")).ok()?;
    let (segment, offset) = text.trim_end().split_once(' ')?;
    let (segment, offset) = (segment.parse().ok()?, offset.parse::<u64>().ok()?);
    let (_, path) = segments.iter().find(|(number, _)| *number == segment)?;
    let length = fs::metadata(path).ok()?.len();
    (offset <= length).then_some((segment, usize::try_from(offset).ok()?))
}
