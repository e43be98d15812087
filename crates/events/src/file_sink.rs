//! Events in a file of JSON Lines, which is rotated by size.
//!
//! The file may be moved away, as log rotation does: a new one is begun at its place with the next event, or at once
//! when [`FileSink`] is asked to reopen it. Its own rotation begins with the file itself, so that a file that is not
//! there moves no other.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use super::settings;
use super::{DeliveryError, Event, EventSink};

/// The sink. `None` while a blocking thread has the file, and after that panicked.
pub struct FileSink(Option<RotatingFile>);

/// The file and the older ones.
struct RotatingFile {
    settings: settings::FileSinkSettings,
    /// `None` after it failed: it is opened anew.
    file: Option<fs::File>,
    /// Set where the last rotation failed.
    stuck: bool,
}

impl FileSink {
    /// Opens the file, to be written on after its last whole line; makes it and its folder where they are missing.
    /// Fails where the system does.
    pub fn open(settings: &settings::FileSinkSettings) -> io::Result<Self> {
        let mut rotated = RotatingFile { settings: settings.clone(), file: None, stuck: false };
        rotated.ensure_open()?;
        Ok(Self(Some(rotated)))
    }

    /// Runs `work` on the file in a thread that may block.
    async fn with_file<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut RotatingFile) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut rotated = self.0.take().ok_or_else(|| io::Error::other("it is lost"))?;
        let (rotated, outcome) = spawn_blocking(move || {
            let outcome = work(&mut rotated);
            (rotated, outcome)
        })
        .await?;
        self.0 = Some(rotated);
        outcome
    }
}

impl RotatingFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        // Asked for each batch: log rotation may have moved or emptied the file.
        let length = self.ensure_open()?.metadata()?.len();
        if length > 0 && length + lines.len() as u64 > self.settings.size {
            self.rotate_or_log();
        }
        let file = self.ensure_open()?;
        if let Err(error) = file.write_all(lines) {
            // Opening it anew cuts off a line that was written in part.
            self.file = None;
            return Err(error);
        }
        Ok(())
    }

    /// Returns the file at the path; opens or makes it where none is open, or where another one is at the path by now.
    fn ensure_open(&mut self) -> io::Result<&mut fs::File> {
        let path = &self.settings.path;
        let is_ours = self.file.as_ref().is_some_and(|file| {
            let (ours, there) = (file.metadata(), fs::metadata(path));
            ours.is_ok_and(|ours| there.is_ok_and(|there| (ours.dev(), ours.ino()) == (there.dev(), there.ino())))
        });
        if !is_ours {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
            // A line without its end was acknowledged to nobody: its event is delivered again.
            let length = whole_lines(&mut file)?;
            file.set_len(length)?;
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("it is not open"))
    }

    /// Rotates the file; where that fails it grows on, which is logged once.
    fn rotate_or_log(&mut self) {
        let rotated = self.rotate();
        if let Err(error) = &rotated
            && !self.stuck
        {
            tracing::error!(%error, "the file of events (Events.File) cannot be rotated and grows on");
        }
        self.stuck = rotated.is_err();
    }

    /// Rotates: first the file, to a name of its own (`PATH.0`). Then the older ones make room, each only where its new
    /// name is free or the oldest's, so that a rotation that was broken off goes on where it stopped and moves nothing
    /// twice.
    fn rotate(&mut self) -> io::Result<()> {
        let turning = self.rotated_path(0);
        // Left by a rotation that was broken off.
        if turning.exists() {
            self.make_room()?;
            fs::rename(&turning, self.rotated_path(1))?;
        }
        match fs::rename(&self.settings.path, &turning) {
            // Somebody else has moved it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        self.file = None;
        self.make_room()?;
        fs::rename(turning, self.rotated_path(1))
    }

    /// Frees the name of the first older file; the oldest is overwritten where all names are taken.
    fn make_room(&self) -> io::Result<()> {
        let keep = self.settings.keep;
        let free = (1..=keep).find(|number| !self.rotated_path(*number).exists()).unwrap_or(keep);
        for number in (1..free).rev() {
            fs::rename(self.rotated_path(number), self.rotated_path(number + 1))?;
        }
        Ok(())
    }

    /// Returns the path of the older file of this number; 0 is the file that is about to become the first.
    fn rotated_path(&self, number: u32) -> PathBuf {
        let mut path = self.settings.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

/// Returns the length of `file` up to its last line end.
fn whole_lines(file: &mut fs::File) -> io::Result<u64> {
    // Backwards, because the file may be large and its last line is near the end.
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut buffer = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(end - start).expect("at most the buffer")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(last) = memchr::memrchr(b'\n', part) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[async_trait]
impl EventSink for FileSink {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), DeliveryError> {
        let lines: Vec<u8> = events.iter().flat_map(|event| (event.to_json_line() + "\n").into_bytes()).collect();
        self.with_file(move |file| file.write(&lines)).await.map_err(|error| {
            let cause = format!("the file of events (Events.File) cannot be written: {error}");
            DeliveryError { delivered: 0, is_permanent: false, cause }
        })
    }

    async fn reopen(&mut self) {
        let opened = self.with_file(|rotated| {
            rotated.file = None;
            rotated.ensure_open().map(|_| ())
        });
        match opened.await {
            Ok(()) => tracing::info!("the file of events (Events.File) is open anew"),
            Err(error) => tracing::error!(%error, "the file of events (Events.File) cannot be opened"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sink(folder: &Path, keep: u32) -> RotatingFile {
        let settings = settings::FileSinkSettings { path: folder.join("e"), size: 10, keep };
        RotatingFile { settings, file: None, stuck: false }
    }

    /// The text of `e` and of the older ones in `folder`.
    fn texts(folder: &Path, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default()).collect()
    }

    #[test]
    fn the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sink = sink(folder.path(), 2);
        for line in ["one one\n", "two two\n", "three three\n", "four\n"] {
            sink.write(line.as_bytes()).expect("it is writable");
        }
        assert_eq!(
            texts(folder.path(), &["e", "e.1", "e.2", "e.3", "e.0"]),
            ["four\n", "three three\n", "two two\n", "", ""]
        );
    }

    #[test]
    fn a_rotation_that_was_broken_off_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().expect("a folder");
        // Killed after `.2` became `.3`.
        for (name, text) in [("e.0", "c\n"), ("e.1", "b\n"), ("e.3", "a\n"), ("e", "0123456789\n")] {
            fs::write(folder.path().join(name), text).expect("it is writable");
        }
        let mut sink = sink(folder.path(), 5);
        sink.write(b"new\n").expect("it is writable");
        assert_eq!(
            texts(folder.path(), &["e", "e.1", "e.2", "e.3", "e.4", "e.0"]),
            ["new\n", "0123456789\n", "c\n", "b\n", "a\n", ""]
        );
    }
}
